/* The registry as clients see it: registry_handle() in a real HTTP server, over a cache on a root
 * of its own and an upstream that the test controls. Eight clients ask at once, so that a build
 * with ThreadSanitizer sees all handlers on several threads. */
#include "cache_world.h"

#include <crypt.h>
#include <fcntl.h>
#include <strings.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "base/metric.h"
#include "http/serving.h"
#include "registry/registry.h"

enum {
    BLOB_SIZE = 2 << 20,
    CLIENTS = 8,
    ROUNDS = 3, /* how often each client sends every request */
    WANTED_MOST = 32,
    RANGE_FIRST = 70000, /* the range begins in the middle of a page */
    RANGE_LAST = 270000,
};

#define MEDIA_TYPE "application/vnd.oci.image.manifest.v1+json"

/* ---- the registry under test ---- */

static struct world *world;
static struct current_upstreams upstreams;
static struct clients *passwords; /* NULL: everyone may read */
static char password_file[] = "/tmp/tarn-htpasswd-XXXXXX";
static struct registry *registry;
static char digest[DIGEST_STRING_SIZE];          /* the blob's */
static char manifest_digest[DIGEST_STRING_SIZE]; /* the manifest's */

static void open_registry(void) {
    static const char *const names[] = {"a", NULL};
    const struct registry_settings registry_settings = {
        .cache = world->cache,
        .store = world->store,
        .upstreams = &upstreams,
        .view = {.clients = passwords, .server_names = names, .log_requests = true}};
    registry = registry_new(&registry_settings);
    assert_non_null(registry);
    settings.handle = registry_handle;
    settings.handle_now = registry_handle_now;
    settings.context = registry;
    make_server();
    registry_set_server(registry, server);
    start();
}

static int set_up(void **state) {
    serving_reset(state);
    log_configure(LOG_ERROR, LOG_TEXT);
    world = world_new("/tmp", BLOB_SIZE);
    world->upstream.pause_ms = 1; /* so that clients meet at a flight */
    world_open(world);
    upstreams.set.only = &world->upstream;
    digest_format(&world->digest, digest);
    digest_format(&world->upstream.manifest_digest, manifest_digest);
    return 0;
}

static int tear_down(void **state) {
    serving_end(state);
    registry_free(registry);
    if (passwords)
        unlink(password_file);
    clients_release(passwords);
    passwords = NULL;
    world_close(world);
    world_free(world);
    return 0;
}

/* ---- what is asked, and what must come ---- */

enum { ANY_LENGTH = -1, NO_LENGTH = -2 };

struct wanted {
    const char *method;
    char path[400];
    const char *fields; /* of the request, each with its CRLF; may be NULL */
    int status;
    int64_t length;    /* of Content-Length, or ANY_LENGTH; NO_LENGTH: no such field */
    const void *bytes; /* the whole body, of `length` bytes; NULL: not compared */
    const char *part;  /* a text in the body; may be NULL */
    char field[200];   /* a field of the response; "": not compared */
};

static struct wanted wanted[WANTED_MOST];
static size_t wanted_count;

static struct wanted *want(const char *method, int status, int64_t length, const char *path_format,
                           ...) __attribute__((format(printf, 4, 5)));

static struct wanted *want(const char *method, int status, int64_t length, const char *path_format,
                           ...) {
    assert_true(wanted_count < WANTED_MOST);
    struct wanted *added = &wanted[wanted_count++];
    *added = (struct wanted){.method = method, .status = status, .length = length};
    va_list arguments;
    va_start(arguments, path_format);
    vsnprintf(added->path, sizeof added->path, path_format, arguments);
    va_end(arguments);
    return added;
}

/* ---- the clients ---- */

struct visitor {
    pthread_t thread;
    size_t begins_at; /* the first of `wanted` that it asks for, so that clients ask differently */
    char wrong[9000]; /* what it got that it should not have got; "": all was right */
};

static pthread_barrier_t all_there;

static bool length_is_right(const struct wanted *one, const char *head, size_t received) {
    const char *field = strstr(head, "Content-Length: ");
    if (one->length == NO_LENGTH)
        return !field && received == 0;
    if (!field)
        return false;
    int64_t length = strtoll(field + strlen("Content-Length: "), NULL, 10);
    bool has_body = strcmp(one->method, "HEAD") != 0;
    return (one->length == ANY_LENGTH || one->length == length) &&
           received == (has_body ? (size_t)length : 0);
}

static const char *what_is_wrong(const struct wanted *one, const char *head, const char *body,
                                 size_t received) {
    int status = 0;
    if (sscanf(head, "HTTP/1.1 %d ", &status) != 1 || status != one->status)
        return "the status";
    if (!length_is_right(one, head, received))
        return "the length";
    if (one->bytes && received > 0 && memcmp(body, one->bytes, received) != 0)
        return "the bytes";
    if (one->part && !strstr(body, one->part))
        return "the text";
    if (one->field[0] && !strcasestr(head, one->field))
        return "a field";
    return NULL;
}

static void ask(struct visitor *visitor, int fd, const struct wanted *one, char *body) {
    char request[800], head[8192];
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: a\r\n%s\r\n", one->method, one->path,
             one->fields ? one->fields : "");
    send_text(fd, request);
    size_t received = receive_response(fd, head, sizeof head, body, BLOB_SIZE + 1,
                                       strcmp(one->method, "HEAD") == 0);
    const char *wrong = what_is_wrong(one, head, body, received);
    if (wrong && !visitor->wrong[0])
        snprintf(visitor->wrong, sizeof visitor->wrong, "%s of %s %s is wrong:\n%s", wrong,
                 one->method, one->path, head);
}

/* Sends every request ROUNDS times, each round on a new connection. */
static void *visit(void *argument) {
    struct visitor *visitor = argument;
    cleanup_free char *body = malloc(BLOB_SIZE + 1);
    pthread_barrier_wait(&all_there);
    for (int round = 0; body && round < ROUNDS; round++) {
        int fd = dial();
        for (size_t i = 0; i < wanted_count; i++)
            ask(visitor, fd, &wanted[(visitor->begins_at + i) % wanted_count], body);
        close(fd);
    }
    return NULL;
}

/* Eight clients send all that is wanted, at once; each response must be the wanted one. */
static void visit_all(void) {
    static struct visitor visitors[CLIENTS];
    memset(visitors, 0, sizeof visitors);
    assert_int_equal(pthread_barrier_init(&all_there, NULL, CLIENTS), 0);
    for (size_t i = 0; i < CLIENTS; i++) {
        visitors[i].begins_at = i;
        assert_int_equal(pthread_create(&visitors[i].thread, NULL, visit, &visitors[i]), 0);
    }
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_join(visitors[i].thread, NULL);
    pthread_barrier_destroy(&all_there);
    for (size_t i = 0; i < CLIENTS; i++) {
        if (visitors[i].wrong[0])
            fail_msg("client %zu: %s", i, visitors[i].wrong);
    }
}

static int64_t requests_counted(const char *labels) {
    return metric_value(
        metric_get(METRIC_COUNTER, "registry_http_requests_total", "Requests answered.", labels));
}

static int64_t counted(const char *name, const char *labels) {
    return metric_value(metric_get(METRIC_COUNTER, name, "", labels));
}

/* The requests that were answered from the cache or from upstream, as counted by upstream. */
static int64_t outcomes_counted(void) {
    static const char *const types[] = {"manifest", "blob"};
    static const char *const outcomes[] = {"hit", "miss", "joined", "revalidated", "stale"};
    int64_t sum = 0;
    for (size_t i = 0; i < 10; i++) {
        char labels[100];
        snprintf(labels, sizeof labels, "upstream=\"fake.test\",type=\"%s\",outcome=\"%s\"",
                 types[i % 2], outcomes[i / 2]);
        sum += counted("tarn_requests_total", labels);
    }
    return sum;
}

/* The same, as the CNCF registry's metrics count them. */
static int64_t proxied_counted(void) {
    return counted("registry_proxy_hits_total", "type=\"manifest\"") +
           counted("registry_proxy_misses_total", "type=\"manifest\"") +
           counted("registry_proxy_hits_total", "type=\"blob\"") +
           counted("registry_proxy_misses_total", "type=\"blob\"");
}

/* ---- the tests ---- */

static void want_blob(void) {
    static char if_none_match[200];
    snprintf(if_none_match, sizeof if_none_match, "If-None-Match: \"%s\"\r\n", digest);
    struct wanted *one = want("GET", 200, BLOB_SIZE, "/v2/app/blobs/%s", digest);
    one->bytes = world->blob;
    snprintf(one->field, sizeof one->field, "Docker-Content-Digest: %s\r\n", digest);
    one = want("HEAD", 200, BLOB_SIZE, "/v2/app/blobs/%s", digest);
    snprintf(one->field, sizeof one->field, "ETag: \"%s\"\r\n", digest);
    one = want("GET", 206, RANGE_LAST - RANGE_FIRST + 1, "/v2/app/blobs/%s", digest);
    one->fields = "Range: bytes=70000-270000\r\n";
    one->bytes = world->blob + RANGE_FIRST;
    snprintf(one->field, sizeof one->field, "Content-Range: bytes %d-%d/%d\r\n", RANGE_FIRST,
             RANGE_LAST, BLOB_SIZE);
    one = want("GET", 416, ANY_LENGTH, "/v2/app/blobs/%s", digest);
    one->fields = "Range: bytes=2097152-\r\n";
    one->part = "RANGE_INVALID";
    one = want("GET", 304, NO_LENGTH, "/v2/app/blobs/%s", digest);
    one->fields = if_none_match;
    one = want("GET", 200, BLOB_SIZE, "/v2/fake.test/app/blobs/%s", digest);
    one->bytes = world->blob;
}

static void want_manifest(void) {
    static char if_none_match[200];
    const int64_t length = (int64_t)strlen(world->upstream.manifest);
    snprintf(if_none_match, sizeof if_none_match, "If-None-Match: \"%s\"\r\n", manifest_digest);
    struct wanted *one = want("GET", 200, length, "/v2/app/manifests/latest");
    one->bytes = world->upstream.manifest;
    snprintf(one->field, sizeof one->field, "Content-Type: " MEDIA_TYPE "\r\n");
    one = want("GET", 200, length, "/fake.test/v2/app/manifests/latest");
    one->bytes = world->upstream.manifest;
    one = want("GET", 200, length, "/v2/fake.test/app/manifests/latest?ns=fake.test");
    one->bytes = world->upstream.manifest;
    one = want("HEAD", 200, length, "/v2/app/manifests/latest");
    snprintf(one->field, sizeof one->field, "Docker-Content-Digest: %s\r\n", manifest_digest);
    one = want("GET", 200, length, "/v2/app/manifests/%s", manifest_digest);
    one->bytes = world->upstream.manifest;
    one = want("GET", 304, NO_LENGTH, "/v2/app/manifests/latest");
    one->fields = if_none_match;
}

static void want_failures(void) {
    want("GET", 404, ANY_LENGTH, "/v2/nosuch/manifests/latest")->part = "MANIFEST_UNKNOWN";
    want("GET", 404, ANY_LENGTH, "/v2/nosuch/blobs/%s", digest)->part = "BLOB_UNKNOWN";
    want("GET", 404, ANY_LENGTH, "/v2/other.test:5000/app/manifests/latest")->part = "NAME_UNKNOWN";
    want("GET", 404, ANY_LENGTH, "/v2/app/manifests/.bad")->part = "MANIFEST_UNKNOWN";
    want("GET", 400, ANY_LENGTH, "/v2/app/manifests/sha256:x")->part = "DIGEST_INVALID";
    want("GET", 404, ANY_LENGTH, "/v2/app/tags/list")->part = "NAME_UNKNOWN";
    want("GET", 400, ANY_LENGTH, "/v2/_catalog?n=x")->part = "PAGINATION_NUMBER_INVALID";
    want("PUT", 405, ANY_LENGTH, "/v2/app/manifests/latest")->part = "UNSUPPORTED";
}

static void want_pages(void) {
    want("GET", 200, 2, "/v2/")->bytes = "{}";
    want("GET", 200, ANY_LENGTH, "/v2/_catalog")->part = "{\"repositories\":[";
    want("GET", 200, ANY_LENGTH, "/metrics")->part = "tarn_workers_busy ";
    want("GET", 200, ANY_LENGTH, "/tarn/v1/flights")->part = "\"flights\":[";
    want("GET", 200, ANY_LENGTH, "/")->part = "docker pull a/fake.test/NAME:TAG";
}

static void many_clients_get_right_responses_at_once(void **state) {
    (void)state;
    wanted_count = 0;
    want_blob();
    want_manifest();
    want_failures();
    want_pages();
    open_registry();
    visit_all();
    assert_true(world_has_blob_soon(world));
    stop(); /* the last requests are counted now */
    const int64_t each = CLIENTS * ROUNDS;
    assert_int_equal(requests_counted("handler=\"blob\",method=\"get\",code=\"206\""), each);
    assert_int_equal(requests_counted("handler=\"blob\",method=\"get\",code=\"200\""), 2 * each);
    assert_int_equal(requests_counted("handler=\"blob\",method=\"head\",code=\"200\""), each);
    assert_int_equal(requests_counted("handler=\"manifest\",method=\"get\",code=\"304\""), each);
    assert_int_equal(requests_counted("handler=\"manifest\",method=\"other\",code=\"405\""), each);
    assert_true(outcomes_counted() > each);
    assert_int_equal(outcomes_counted(), proxied_counted());
}

/* An htpasswd file with the user `ann`, whose password is `secret`. */
static struct clients *make_passwords(void) {
    char salt[CRYPT_GENSALT_OUTPUT_SIZE];
    struct error error = {0};
    cleanup_free struct crypt_data *data = calloc(1, sizeof *data);
    assert_non_null(data);
    assert_non_null(crypt_gensalt_rn("$2b$", 4, NULL, 0, salt, sizeof salt));
    const char *hash = crypt_rn("secret", salt, data, sizeof *data);
    assert_non_null(hash);
    int fd = mkostemp(password_file, O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(dprintf(fd, "ann:%s\n", hash) > 0);
    close(fd);
    struct clients_settings login = {.htpasswd = password_file, .limits = clients_limits_default()};
    login.limits.failures = 1000000; /* all visitors have one address */
    struct clients *clients = clients_new(&login, NULL, &error);
    if (!clients)
        fail_msg("refused: %s", error.text);
    return clients;
}

static void only_clients_with_a_password_get_responses(void **state) {
    static const char right[] = "Authorization: Basic YW5uOnNlY3JldA==\r\n"; /* ann:secret */
    static const char bad[] = "Authorization: Basic YW5uOndyb25n\r\n";       /* ann:wrong */
    (void)state;
    wanted_count = 0;
    passwords = make_passwords();
    for (int with = 0; with < 3; with++) {
        bool allowed = with == 2;
        const char *fields = with == 2 ? right : with == 1 ? bad : NULL;
        struct wanted *one = want("GET", allowed ? 200 : 401, allowed ? BLOB_SIZE : ANY_LENGTH,
                                  "/v2/app/blobs/%s", digest);
        one->fields = fields;
        one->bytes = allowed ? world->blob : NULL;
        one->part = allowed ? NULL : "UNAUTHORIZED";
        one = want("GET", allowed ? 200 : 401, ANY_LENGTH, "/v2/");
        one->fields = fields;
        snprintf(one->field, sizeof one->field, "%s",
                 allowed ? "Docker-Distribution-Api-Version: registry/2.0\r\n"
                         : "WWW-Authenticate: Basic realm=\"tarn\"\r\n");
        one = want("HEAD", allowed ? 200 : 401, ANY_LENGTH, "/v2/app/manifests/latest");
        one->fields = fields;
    }
    want("GET", 200, ANY_LENGTH, "/metrics")->part = "tarn_workers_busy ";
    log_configure(LOG_INFO, LOG_TEXT); /* so that many threads write the access log */
    open_registry();
    visit_all();
    stop();
}

/* The texts of such errors name files of this machine, so they are for the log. The upstream of the
 * test says "upstream fake: io", and so on. */
static void faults_of_our_own_are_told_by_their_kind(void **state) {
    static const struct {
        enum error_kind kind;
        const char *said;
        int status; /* 0: 500 */
    } faults[] = {
        {ERROR_IO, "upstream fake.test: tarn's disk or system failed; its log says why (request "},
        {ERROR_NO_SPACE, "upstream fake.test: tarn's disk is full; its log says why (request "},
        {ERROR_MEMORY, "upstream fake.test: tarn is out of memory; its log says why (request "},
        {ERROR_FILES,
         "upstream fake.test: tarn has too many open files; its log says why (request ", 503},
        {ERROR_CLOSED, "upstream fake.test: tarn ended the request; its log says why (request "},
    };
    (void)state;
    open_registry();
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        wanted_count = 0;
        world->upstream.fail = faults[i].kind;
        int status = faults[i].status ? faults[i].status : 500;
        want("GET", status, ANY_LENGTH, "/v2/app/manifests/latest")->part = faults[i].said;
        want("GET", status, ANY_LENGTH, "/v2/app/blobs/%s", digest)->part = faults[i].said;
        want("GET", status, ANY_LENGTH, "/v2/app/tags/list")->part = faults[i].said;
        visit_all();
    }
    stop();
}

/* ---- lists while memory runs out ---- */

static atomic_int until_failure; /* allocations of JSON that succeed; negative: all */

static void *failing_malloc(size_t size) {
    int left = atomic_load(&until_failure);
    while (left >= 0 && !atomic_compare_exchange_weak(&until_failure, &left, left - 1))
        ;
    return left == 0 ? NULL : malloc(size);
}

/* The body of the response, on the heap. */
static char *get(const char *path, int *status) {
    char request[500];
    bool reset;
    size_t length;
    int fd = dial();
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
             path);
    send_text(fd, request);
    char *response = receive_all(fd, &length, &reset);
    close(fd);
    assert_false(reset);
    assert_int_equal(sscanf(response, "HTTP/1.1 %d", status), 1);
    const char *body = strstr(response, "\r\n\r\n");
    assert_non_null(body);
    char *copy = strdup(body + 4);
    free(response);
    return copy;
}

/* Lets the first allocation of JSON fail, then the second, and so on, until all succeed. */
static void ask_with_failures(const char *path) {
    int status, failures = 0;
    atomic_store(&until_failure, -1);
    char *whole = get(path, &status);
    assert_int_equal(status, 200);
    for (int n = 0, left = -1; left < 0; n++) {
        atomic_store(&until_failure, n);
        char *body = get(path, &status);
        left = atomic_exchange(&until_failure, -1);
        if (status == 200)
            assert_string_equal(body, whole);
        else
            assert_true(status >= 400 && status != 404);
        failures += status != 200;
        free(body);
    }
    assert_true(failures > 0);
    free(whole);
}

static void lists_are_whole_or_an_error_when_memory_runs_out(void **state) {
    char path[300];
    (void)state;
    world->upstream.settings.tag_ttl_ms = 0; /* each time the list is gathered anew */
    world->upstream.tags = "{\"name\":\"app\",\"tags\":[\"a\",\"b\",\"c\",\"latest\"],"
                           "\"child\":[\"x\"],\"manifest\":{\"sha256:0\":{\"tag\":[\"a\"]}}}";
    world->upstream.referrers =
        "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\","
        "\"manifests\":[{\"artifactType\":\"t\",\"size\":1},{\"artifactType\":\"u\",\"size\":2},"
        "{\"artifactType\":\"t\",\"size\":3}]}";
    open_registry();
    int status;
    free(get("/v2/app/manifests/latest", &status)); /* for the catalog */
    cache_settle(world->cache);
    bounded_json_watch(failing_malloc);
    ask_with_failures("/v2/app/tags/list");
    ask_with_failures("/v2/app/tags/list?n=2");
    ask_with_failures("/v2/app/tags/list?n=2&last=b");
    snprintf(path, sizeof path, "/v2/app/referrers/%s", digest);
    ask_with_failures(path);
    snprintf(path, sizeof path, "/v2/app/referrers/%s?artifactType=t", digest);
    ask_with_failures(path);
    ask_with_failures("/v2/_catalog");
    stop();
    bounded_json_watch(malloc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(faults_of_our_own_are_told_by_their_kind, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(many_clients_get_right_responses_at_once, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(only_clients_with_a_password_get_responses, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(lists_are_whole_or_an_error_when_memory_runs_out, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
