/* The HTTP server under test, whose handler uses all functions for handlers, and a plain client. */
#include "serving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"

/* ---- the server under test ---- */

int file; /* byte i is pattern(i) */

unsigned char pattern(uint64_t offset) {
    return (unsigned char)(offset * 31 + (offset >> 12));
}

struct http_server *server;
static pthread_t runner;
const char *const listen_on_any_port[] = {"127.0.0.1:0"};
atomic_int handled;
atomic_bool held; /* /hold waits until it is false */
atomic_int holding;
atomic_int gone_seen, sending_failed_as, parked, large_kept, now_threads, copied_done;

static char large[CONTENT_SIZE];
static struct http_composed *composed;

static void keep(void *owner) {
    atomic_fetch_add((atomic_int *)owner, 1);
}

static void release(void *owner) {
    atomic_fetch_sub((atomic_int *)owner, 1);
}

static void hold(void) {
    atomic_fetch_add(&holding, 1);
    while (atomic_load(&held))
        clock_sleep_ms(2);
    atomic_fetch_sub(&holding, 1);
}

/* /file, which is parked whenever its client takes no more. */
struct download {
    uint64_t at;
};

static void send_on(void *state, struct http_exchange *exchange) {
    struct download *download = state;
    struct error error = {0};
    struct http_file rest = {
        .fd = file, .offset = download->at, .length = FILE_SIZE - 1 - download->at};
    uint64_t sent = 0;
    bool went_on = http_send_file(exchange, &rest, &sent, &error);
    download->at += sent;
    if (went_on && sent < rest.length) {
        atomic_fetch_add(&parked, 1);
        http_park(exchange, send_on, download);
        return;
    }
    unsigned char last = pattern(FILE_SIZE - 1);
    if (went_on)
        http_send(exchange, &last, 1, &error);
    atomic_store(&sending_failed_as, error.kind);
    free(download);
}

static _Thread_local bool is_known_thread;

/* The requests that need no waiting. */
static bool handle_now(void *context, struct http_exchange *exchange) {
    (void)context;
    struct text path = http_exchange_request(exchange)->path;
    if (text_is(path, "/now")) {
        if (!is_known_thread) {
            is_known_thread = true;
            atomic_fetch_add(&now_threads, 1);
        }
        http_respond(exchange, 200, "text/plain", "well", 4);
    } else if (text_is(path, "/now/hold")) {
        hold();
        http_respond(exchange, 200, "text/plain", "held", 4);
    } else if (text_is(path, "/now/count")) {
        char count[16];
        int length = snprintf(count, sizeof count, "%d", atomic_load(&handled));
        http_respond(exchange, 200, "text/plain", count, (size_t)length);
    } else if (text_is(path, "/now/large")) {
        const struct http_content content = {large, sizeof large, &large_kept, keep, release};
        http_add_field(exchange, "X-Own", "%s", "of this request");
        http_respond_composed(exchange, composed, &content);
    } else {
        return false;
    }
    atomic_fetch_add(&handled, 1);
    return true;
}

static void handle(void *context, struct http_exchange *exchange) {
    (void)context;
    const struct http_request *request = http_exchange_request(exchange);
    struct text path = request->path;
    struct error error = {0};
    uint64_t sent;
    atomic_fetch_add(&handled, 1);
    if (text_is(path, "/hello")) {
        http_add_field(exchange, "X-One", "%d", 1);
        http_add_field(exchange, "X-Bad", "%s", "a\r\nX-Injected: b");
        http_respond(exchange, 200, "text/plain", "hello", 5);
    } else if (text_starts(path, "/echo/")) {
        http_respond(exchange, 200, "text/plain", path.at + 6, path.length - 6);
    } else if (text_is(path, "/client")) {
        http_respond(exchange, 200, NULL, http_exchange_client(exchange),
                     strlen(http_exchange_client(exchange)));
    } else if (text_is(path, "/large")) {
        const struct http_content content = {large, sizeof large, &large_kept, keep, release};
        http_respond_shared(exchange, 200, "text/plain", &content);
    } else if (text_is(path, "/copied")) {
        http_respond(exchange, 200, "text/plain", large, sizeof large);
        atomic_fetch_add(&copied_done, 1);
    } else if (text_is(path, "/file")) {
        if (http_begin(exchange, 200, "application/octet-stream", FILE_SIZE, &error))
            send_on(calloc(1, sizeof(struct download)), exchange);
        else
            atomic_store(&sending_failed_as, error.kind);
    } else if (text_is(path, "/file/short")) {
        struct http_file end = {.fd = file, .offset = FILE_SIZE - 5, .length = 10};
        if (http_begin(exchange, 200, NULL, FILE_SIZE + 5, &error)) {
            http_send_file(exchange, &end, &sent, &error);
        }
        atomic_store(&sending_failed_as, error.kind);
    } else if (text_is(path, "/chunked")) {
        if (!http_begin(exchange, 200, NULL, HTTP_UNKNOWN_LENGTH, &error)) {
            http_respond(exchange, error.kind == ERROR_UNSUPPORTED ? 505 : 500, NULL, "", 0);
            return;
        }
        http_send(exchange, "0123456789abcdefXYZ", 19, &error);
        http_send(exchange, "", 0, &error);
        http_send_file(exchange, &(struct http_file){.fd = file, .length = 3}, &sent, &error);
    } else if (text_is(path, "/nothing")) {
        http_respond(exchange, 304, NULL, NULL, 0);
    } else if (text_is(path, "/abort")) {
        if (http_begin(exchange, 200, NULL, 100, &error))
            http_send(exchange, "half", 4, &error);
        http_abort(exchange);
    } else if (text_is(path, "/incomplete")) {
        if (http_begin(exchange, 200, NULL, 100, &error))
            http_send(exchange, "half", 4, &error);
    } else if (text_is(path, "/toolong")) {
        if (http_begin(exchange, 200, NULL, 4, &error))
            http_send(exchange, "12345", 5, &error);
    } else if (text_is(path, "/hold")) {
        hold();
        http_respond(exchange, 200, NULL, "held", 4);
    } else if (text_is(path, "/body")) {
        cleanup_buffer struct buffer body = {0};
        if (http_read_body(exchange, 100, &body, &error))
            http_respond(exchange, 200, NULL, body.length ? body.bytes : "", body.length);
        else
            http_respond(exchange, error.kind == ERROR_TIMEOUT ? 408 : 413, NULL, "", 0);
    } else if (text_is(path, "/watch")) {
        for (int i = 0; i < 1000 && http_client_is_there(exchange); i++)
            clock_sleep_ms(2);
        atomic_store(&gone_seen, !http_client_is_there(exchange));
        http_respond(exchange, 200, NULL, "", 0);
    }
    /* other paths get no response */
}

static void error_body(int status, const char *why, const char *id, char *out, size_t size) {
    (void)id;
    snprintf(out, size, "{\"status\":%d,\"why\":\"%s\"}", status, why);
}

static void *run(void *argument) {
    struct error error = {0};
    http_server_run(argument, &error);
    return NULL;
}

/* What the next start() starts; every test finds the defaults. */
struct http_server_settings settings;

int serving_reset(void **state) {
    (void)state;
    settings = http_server_settings_default();
    settings.listen = listen_on_any_port;
    settings.listen_count = 1;
    settings.loops = 2;
    /* All clients of a test have one address, so that only a test of the shares sets one. */
    settings.per_client = (struct http_client_limits){.connections = 100, .requests = 100};
    settings.handle = handle;
    settings.handle_now = handle_now;
    settings.error_body = error_body;
    atomic_store(&held, false);
    atomic_store(&handled, 0);
    atomic_store(&gone_seen, 0);
    atomic_store(&parked, 0);
    atomic_store(&large_kept, 0);
    atomic_store(&copied_done, 0);
    atomic_store(&now_threads, 0);
    atomic_store(&sending_failed_as, -1);
    return 0;
}

void make_server(void) {
    struct error error = {0};
    server = http_server_new(&settings, &error);
    if (!server)
        fail_msg("%s", error.text);
}

void start(void) {
    if (!server)
        make_server();
    assert_int_equal(pthread_create(&runner, NULL, run, server), 0);
}

void stop(void) {
    atomic_store(&held, false);
    http_server_stop(server);
    pthread_join(runner, NULL);
    http_server_free(server);
    server = NULL;
}

/* Ends the server of a test that failed before its stop(). */
int serving_end(void **state) {
    (void)state;
    if (server)
        stop();
    return 0;
}

bool becomes(atomic_int *value, int wanted) {
    for (int i = 0; i < 15000 && atomic_load(value) != wanted; i++)
        clock_sleep_ms(2);
    return atomic_load(value) == wanted;
}

/* ---- a client ---- */

static int dial_as(const char *from, int receive_buffer) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)http_server_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (from) {
        struct sockaddr_in own = {.sin_family = AF_INET};
        assert_int_equal(inet_pton(AF_INET, from, &own.sin_addr), 1);
        assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof own), 0);
    }
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

int dial_with(int receive_buffer) {
    return dial_as(NULL, receive_buffer);
}

int dial_from(const char *address) {
    return dial_as(address, 0);
}

int dial(void) {
    return dial_with(0);
}

void send_text(int fd, const char *string) {
    send(fd, string, strlen(string), MSG_NOSIGNAL);
}

/* Reads until the server closes; *reset: it closed by an RST. The caller frees the result. */
char *receive_all(int fd, size_t *length, bool *reset) {
    size_t capacity = 4096, have = 0;
    char *bytes = malloc(capacity + 1);
    ssize_t n;
    while ((n = recv(fd, bytes + have, capacity - have, 0)) > 0) {
        have += (size_t)n;
        if (have == capacity)
            bytes = realloc(bytes, (capacity *= 2) + 1);
    }
    int failure = n < 0 ? errno : 0;
    if (failure == EAGAIN)
        fail_msg("the server neither went on nor closed");
    bytes[have] = '\0';
    if (length)
        *length = have;
    if (reset)
        *reset = failure == ECONNRESET;
    return bytes;
}

/* Sends a request and expects a response that begins so, then a close. */
void expect_response(const char *request, const char *begin) {
    int fd = dial();
    send_text(fd, request);
    char *response = receive_all(fd, NULL, NULL);
    if (strncmp(response, begin, strlen(begin)) != 0)
        fail_msg("not \"%s\" but: %s", begin, response);
    free(response);
    close(fd);
}

/* Reads exactly one response with a Content-Length (its head into `head`). Returns its body's
 * length. */
size_t receive_response(int fd, char *head, size_t size, char *body, size_t body_size,
                        bool is_head) {
    size_t length = 0;
    char *end = NULL;
    while (!end) {
        assert_true(length + 1 < size);
        if (recv(fd, head + length, 1, 0) != 1)
            fail_msg("closed in a head: %.*s", (int)length, head);
        head[++length] = '\0';
        end = length >= 4 ? strstr(head + length - 4, "\r\n\r\n") : NULL;
    }
    char *field = strstr(head, "Content-Length: ");
    size_t wanted = field && !is_head ? strtoul(field + 16, NULL, 10) : 0;
    assert_true(wanted < body_size);
    for (size_t have = 0; have < wanted;) {
        ssize_t n = recv(fd, body + have, wanted - have, 0);
        assert_true(n > 0);
        have += (size_t)n;
    }
    body[wanted] = '\0';
    return wanted;
}

bool is_closed_within(int fd, int ms) {
    struct pollfd waited = {.fd = fd, .events = POLLIN};
    char byte;
    return poll(&waited, 1, ms) == 1 && recv(fd, &byte, 1, 0) <= 0;
}

void connections_become(unsigned wanted) {
    for (int i = 0; i < 2500 && http_server_figures(server).connections != wanted; i++)
        clock_sleep_ms(2);
    assert_int_equal(http_server_figures(server).connections, wanted);
}

void workers_become_idle(void) {
    for (int i = 0; i < 5000 && http_server_figures(server).workers_busy > 0; i++)
        clock_sleep_ms(2);
    assert_int_equal(http_server_figures(server).workers_busy, 0);
}

void check_file(const char *bytes, size_t length) {
    assert_int_equal(length, FILE_SIZE);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)bytes[i] != pattern(i))
            fail_msg("byte %zu is wrong", i);
}

int serving_begin(void **state) {
    (void)state;
    char path[] = "/tmp/test-http-XXXXXX";
    file = mkostemp(path, O_CLOEXEC);
    unlink(path);
    unsigned char *bytes = malloc(FILE_SIZE);
    for (size_t i = 0; i < FILE_SIZE; i++)
        bytes[i] = pattern(i);
    bool written = write(file, bytes, FILE_SIZE) == FILE_SIZE;
    free(bytes);
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (char)pattern(i);
    const struct http_field field = {text_of("X-Composed"), text_of("yes")};
    composed = http_compose(200, "text/plain", sizeof large, &field, 1);
    log_configure(LOG_ERROR, LOG_TEXT);
    return written && composed ? 0 : -1;
}
