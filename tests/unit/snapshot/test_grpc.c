/* The gRPC server on a real socket, with libcurl as its client. */
#include "snapshot/bench.h"

#include <curl/curl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "node/snapshot/grpc.h"

struct world {
    char folder[64], path[80];
    int fd;
    struct grpc_server *server;
    struct lock calls_lock; /* guards what follows */
    struct condition changed;
    unsigned waiting; /* calls of "/wait" under way */
    bool release;     /* they may end */
};

static enum grpc_status answer(void *context, const struct grpc_request *request) {
    struct world *world = context;
    if (strcmp(request->path, "/echo") == 0 || strcmp(request->path, "/twice") == 0) {
        for (int i = 0; i < (request->path[1] == 't' ? 2 : 1); i++) {
            void *message = grpc_add_message(request->reply, request->length);
            if (request->length > 0)
                memcpy(message, request->message, request->length);
        }
        return GRPC_OK;
    }
    if (strcmp(request->path, "/wait") == 0) {
        lock_acquire(&world->calls_lock);
        world->waiting++;
        condition_broadcast(&world->changed);
        while (!world->release && !atomic_load(request->stop))
            condition_wait_until(&world->changed, &world->calls_lock, clock_ms() + 10);
        world->waiting--;
        condition_broadcast(&world->changed);
        lock_release(&world->calls_lock);
        grpc_add_message(request->reply, 0);
        return GRPC_OK;
    }
    error_set(request->error, ERROR_INVALID, "no %% method \xc3\xa9");
    return GRPC_UNIMPLEMENTED;
}

static int set_up(void **state) {
    struct world *world = calloc(1, sizeof *world);
    struct error error = {0};
    strcpy(world->folder, "/tmp/tarn-grpc-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    snprintf(world->path, sizeof world->path, "%s/s.sock", world->folder);
    lock_init(&world->calls_lock);
    condition_init(&world->changed);
    world->fd = grpc_listen(world->path, &error);
    assert_string_equal(error.text, "");
    world->server = grpc_server_start(world->fd, answer, world, &error);
    assert_non_null(world->server);
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    struct world *world = *state;
    assert_true(grpc_server_stop(world->server, 30000));
    close(world->fd);
    unlink(world->path);
    rmdir(world->folder);
    condition_finish(&world->changed);
    lock_finish(&world->calls_lock);
    free(world);
    return 0;
}

/* ---- the client ---- */

struct answer {
    struct buffer body;
    char status[16], message[256];
    long http;
    CURLcode code;
};

static size_t take_body(char *bytes, size_t size, size_t count, void *context) {
    struct answer *answer = context;
    return buffer_append(&answer->body, bytes, size * count) ? size * count : 0;
}

/* Headers and trailers. */
static size_t take_header(char *bytes, size_t size, size_t count, void *context) {
    struct answer *answer = context;
    struct text line = text_trim((struct text){bytes, size * count - 2}), value;
    struct text name = text_cut(line, ':', &value);
    if (text_is(name, "grpc-status"))
        text_copy(text_trim(value), answer->status, sizeof answer->status);
    if (text_is(name, "grpc-message"))
        text_copy(text_trim(value), answer->message, sizeof answer->message);
    return size * count;
}

/* The caller cleans up. */
static CURL *begin(const struct world *world, const char *path, const void *body, size_t length,
                   struct answer *answer, struct curl_slist *headers) {
    char url[128];
    CURL *curl = curl_easy_init();
    assert_non_null(curl);
    snprintf(url, sizeof url, "http://localhost%s", path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, world->path);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)length);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, answer);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    return curl;
}

static struct answer post(const struct world *world, const char *path, const char *type,
                          const void *body, size_t length) {
    struct answer answer = {0};
    char header[64];
    snprintf(header, sizeof header, "Content-Type: %s", type);
    struct curl_slist *headers = curl_slist_append(NULL, header);
    CURL *curl = begin(world, path, body, length, &answer, headers);
    answer.code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer.http);
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    return answer;
}

/* A message of `length` bytes, framed. */
static struct answer post_message(const struct world *world, const char *path, size_t length) {
    struct buffer body = {0};
    void *message = grpc_add_message(&body, length);
    memset(message, 'm', length);
    struct answer answer = post(world, path, "application/grpc", body.bytes, body.length);
    buffer_finish(&body);
    return answer;
}

static void finish(struct answer *answer) {
    buffer_finish(&answer->body);
}
#define cleanup_answer __attribute__((cleanup(finish)))

/* ---- tests ---- */

static void test_answers_have_messages_and_a_status(void **state) {
    const struct world *world = *state;
    static const size_t lengths[] = {0, 1, 70000, GRPC_MESSAGE_LIMIT};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        cleanup_answer struct answer one = post_message(world, "/echo", lengths[i]);
        assert_int_equal(one.http, 200);
        assert_string_equal(one.status, "0");
        assert_int_equal(one.body.length, GRPC_PREFIX + lengths[i]);
        cleanup_answer struct answer two = post_message(world, "/twice", lengths[i]);
        assert_int_equal(two.body.length, 2 * (GRPC_PREFIX + lengths[i]));
    }
}

static void test_an_error_has_its_text_percent_encoded(void **state) {
    cleanup_answer struct answer answer = post_message(*state, "/none", 3);
    assert_int_equal(answer.http, 200);
    assert_string_equal(answer.status, "12");
    assert_string_equal(answer.message, "no %25 method %C3%A9");
    assert_int_equal(answer.body.length, 0);
}

static void test_what_is_no_request_of_grpc_is_refused(void **state) {
    const struct world *world = *state;
    cleanup_answer struct answer type = post(world, "/echo", "text/plain", "\0\0\0\0\0", 5);
    assert_int_equal(type.http, 415);
    cleanup_answer struct answer cut = post(world, "/echo", "application/grpc", "\0\0\0\0\3ab", 7);
    assert_string_equal(cut.status, "13");
    cleanup_answer struct answer none = post(world, "/echo", "application/grpc+proto", "", 0);
    assert_string_equal(none.status, "13");
    cleanup_answer struct answer packed = post(world, "/echo", "application/grpc", "\1\0\0\0\0", 5);
    assert_string_equal(packed.status, "12");
    cleanup_answer struct answer large = post_message(world, "/echo", GRPC_MESSAGE_LIMIT + 1);
    assert_string_equal(large.status, "8");
    cleanup_answer struct answer after = post_message(world, "/echo", 1);
    assert_string_equal(after.status, "0");
}

static void await_waiting(struct world *world, unsigned waiting) {
    lock_acquire(&world->calls_lock);
    while (world->waiting != waiting)
        condition_wait(&world->changed, &world->calls_lock);
    lock_release(&world->calls_lock);
}

static void *post_wait(void *context) {
    struct answer answer = post_message(context, "/wait", 0);
    cleanup_free char *status = strdup(answer.status);
    finish(&answer);
    return strcmp(status, "0") == 0 ? context : NULL;
}

static void test_a_call_that_waits_holds_up_no_other(void **state) {
    struct world *world = *state;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_wait, world), 0);
    await_waiting(world, 3);
    cleanup_answer struct answer answer = post_message(world, "/echo", 10);
    assert_string_equal(answer.status, "0");
    lock_acquire(&world->calls_lock);
    world->release = true;
    condition_broadcast(&world->changed);
    lock_release(&world->calls_lock);
    for (int i = 0; i < 3; i++) {
        void *is_right;
        pthread_join(threads[i], &is_right);
        assert_non_null(is_right);
    }
}

static void test_a_call_ends_when_its_client_leaves(void **state) {
    struct world *world = *state;
    struct answer answer = {0};
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/grpc");
    CURL *curl = begin(world, "/wait", "\0\0\0\0\0", 5, &answer, headers);
    CURLM *multi = curl_multi_init();
    int running = 1;
    curl_multi_add_handle(multi, curl);
    for (bool is_there = false; !is_there;) {
        curl_multi_perform(multi, &running);
        assert_int_equal(running, 1);
        curl_multi_poll(multi, NULL, 0, 10, NULL);
        lock_acquire(&world->calls_lock);
        is_there = world->waiting == 1;
        lock_release(&world->calls_lock);
    }
    curl_multi_remove_handle(multi, curl);
    curl_easy_cleanup(curl);
    curl_multi_cleanup(multi);
    curl_slist_free_all(headers);
    finish(&answer);
    await_waiting(world, 0);
}

static void test_the_server_stops_while_calls_wait(void **state) {
    struct world *world = *state;
    struct error error = {0};
    pthread_t thread;
    void *is_right;
    assert_int_equal(pthread_create(&thread, NULL, post_wait, world), 0);
    await_waiting(world, 1);
    assert_true(grpc_server_stop(world->server, 30000));
    pthread_join(thread, &is_right);
    assert_null(is_right);
    world->server = grpc_server_start(world->fd, answer, world, &error);
    assert_non_null(world->server);
}

static int connect_to(const struct world *world) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, world->path);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void test_nonsense_closes_a_connection_and_no_other(void **state) {
    const struct world *world = *state;
    int fd = connect_to(world);
    char byte;
    static const char nonsense[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_int_equal(send(fd, nonsense, sizeof nonsense - 1, MSG_NOSIGNAL), sizeof nonsense - 1);
    while (recv(fd, &byte, 1, 0) > 0)
        ;
    close(fd);
    cleanup_answer struct answer after = post_message(world, "/echo", 1);
    assert_string_equal(after.status, "0");
}

static void test_connections_are_bounded(void **state) {
    const struct world *world = *state;
    int fds[GRPC_CONNECTION_LIMIT + 1];
    char byte;
    for (int i = 0; i <= GRPC_CONNECTION_LIMIT; i++)
        fds[i] = connect_to(world);
    /* The last one is closed. The others get the server's settings. */
    ssize_t received = recv(fds[GRPC_CONNECTION_LIMIT], &byte, 1, 0);
    assert_true(received <= 0);
    for (int i = 0; i < GRPC_CONNECTION_LIMIT; i++) {
        assert_int_equal(recv(fds[i], &byte, 1, 0), 1);
        close(fds[i]);
    }
    close(fds[GRPC_CONNECTION_LIMIT]);
}

static void test_a_socket_of_another_process_is_not_taken(void **state) {
    struct world *world = *state;
    struct error error = {0};
    struct stat status;
    char path[200];
    assert_int_equal(grpc_listen(world->path, &error), -1);
    assert_int_equal(error.kind, ERROR_BUSY);
    assert_int_equal(stat(world->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    memset(path, '/', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(grpc_listen(path, &error), -1);
    assert_int_equal(error.kind, ERROR_INVALID);
    snprintf(path, sizeof path, "%s/file", world->folder);
    FILE *file = fopen(path, "w");
    fclose(file);
    assert_int_equal(grpc_listen(path, &error), -1);
    assert_int_equal(error.kind, ERROR_INVALID);
    unlink(path);
    /* What a process has left that was killed is replaced. */
    assert_true(grpc_server_stop(world->server, 30000));
    close(world->fd);
    world->fd = grpc_listen(world->path, &error);
    assert_true(world->fd >= 0);
    world->server = grpc_server_start(world->fd, answer, world, &error);
    assert_non_null(world->server);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        WORLD(test_answers_have_messages_and_a_status),
        WORLD(test_an_error_has_its_text_percent_encoded),
        WORLD(test_what_is_no_request_of_grpc_is_refused),
        WORLD(test_a_call_that_waits_holds_up_no_other),
        WORLD(test_a_call_ends_when_its_client_leaves),
        WORLD(test_the_server_stops_while_calls_wait),
        WORLD(test_nonsense_closes_a_connection_and_no_other),
        WORLD(test_connections_are_bounded),
        WORLD(test_a_socket_of_another_process_is_not_taken),
    };
    curl_global_init(CURL_GLOBAL_ALL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
