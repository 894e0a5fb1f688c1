/* The schedule of images to warm, and orders over the socket file. Also run under ThreadSanitizer.
 */
#include "admin/image_world.h"
#include "admin/service.h"

#include <sys/socket.h>
#include <sys/un.h>
#include "store/usage.h"

static const char *const images[] = {IMAGE, NULL};
static const struct warm_entry schedule[] = {{.images = images}};

static struct service_settings settings_of(struct image_world *image, size_t warm_count) {
    return (struct service_settings){
        .root = image->world->root,
        .store = image->world->store,
        .cache = image->world->cache,
        .upstreams = &image->upstreams,
        .warm = schedule,
        .warm_count = warm_count,
    };
}

static struct service *start(const struct service_settings *settings) {
    struct error error = {0};
    struct service *service = service_new(settings, &error);
    assert_string_equal(error.text, "");
    assert_non_null(service);
    assert_true(service_start(service, &error));
    return service;
}

static void end(struct service *service) {
    service_stop(service);
    assert_true(service_free(service));
}

/* ---- a client of the socket ---- */

/* Sends the request; gives the connection. */
static int send_order(const struct image_world *image, const char *request) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/tarn.sock", image->world->root);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    return fd;
}

/* Reads to the end of the connection, which it closes. */
static void read_response(int fd, char *out, size_t size) {
    size_t length = 0;
    ssize_t got;
    while ((got = read(fd, out + length, size - 1 - length)) > 0)
        length += (size_t)got;
    out[length] = '\0';
    close(fd);
}

#define DU        "GET /tarn/v1/du HTTP/1.1\r\nHost: tarn\r\nConnection: close\r\n\r\n"
#define WARM_BODY "{\"images\":[\"" IMAGE "\"]}"

static const char *warm_order(char out[static 256]) {
    snprintf(out, 256,
             "POST /tarn/v1/warm HTTP/1.1\r\nHost: tarn\r\nConnection: close\r\n"
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n" WARM_BODY,
             strlen(WARM_BODY));
    return out;
}

/* ---- tests ---- */

static void test_the_schedule_warms_and_the_socket_takes_orders(void **state) {
    struct image_world *image = *state;
    const struct service_settings settings = settings_of(image, 1);
    struct error error = {0};
    char response[4096];
    assert_true(store_scan(image->world->store, NULL, &error));
    struct service *service = start(&settings);
    wait_until(world_has_blob(image->world));
    read_response(send_order(image, DU), response, sizeof response);
    assert_non_null(strstr(response, "HTTP/1.1 200 "));
    assert_non_null(strstr(response, "\"done\":true"));
    assert_non_null(strstr(response, "\"fake.test\":{"));
    end(service);
    assert_int_equal(image->world->upstream.blob_bytes, WORLD_BLOB_SIZE);
}

static void test_orders_and_the_schedule_share_one_transfer(void **state) {
    struct image_world *image = *state;
    const struct service_settings settings = settings_of(image, 1);
    char order[256], response[16 << 10];
    int fds[3];
    image->world->upstream.hold = true;
    struct service *service = start(&settings);
    for (int i = 0; i < 3; i++)
        fds[i] = send_order(image, warm_order(order));
    wait_until(world_readers(image->world) == 4);
    image->world->upstream.hold = false;
    for (int i = 0; i < 3; i++) {
        read_response(fds[i], response, sizeof response);
        assert_non_null(strstr(response, "\"role\":\"layer\""));
        assert_non_null(strstr(response, "\"state\":\"done\""));
    }
    end(service);
    assert_int_equal(image->world->upstream.blob_bytes, WORLD_BLOB_SIZE);
}

static void test_stopping_ends_what_is_under_way(void **state) {
    struct image_world *image = *state;
    const struct service_settings settings = settings_of(image, 1);
    char order[256], response[4096];
    image->world->upstream.pause_ms = 20; /* the transfer takes 2 s */
    struct service *service = start(&settings);
    int fd = send_order(image, warm_order(order));
    wait_until(world_readers(image->world) == 2);
    wait_until(image->world->upstream.blob_bytes > 0);
    end(service);
    read_response(fd, response, sizeof response);
    assert_null(strstr(response, "\"state\":\"done\""));
}

static void test_a_service_without_a_schedule_ends(void **state) {
    struct image_world *image = *state;
    const struct service_settings settings = settings_of(image, 0);
    end(start(&settings));
    assert_int_equal(image->world->upstream.gets, 0);
    assert_true(service_free(NULL));
}

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        image_test(test_the_schedule_warms_and_the_socket_takes_orders),
        image_test(test_orders_and_the_schedule_share_one_transfer),
        image_test(test_stopping_ends_what_is_under_way),
        image_test(test_a_service_without_a_schedule_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
