/* The service's methods, as messages: what containerd sends, and what it must not be able to. */
#include "snapshot.pb-c.h"
#include "snapshot/bench.h"

#include "node/snapshot/calls.h"

#define SERVICE "/containerd.services.snapshots.v1.Snapshots/"

/* A call and its answer. */
struct exchange {
    struct buffer reply;
    struct error error;
    enum grpc_status status;
};

static void finish(struct exchange *exchange) {
    buffer_finish(&exchange->reply);
}
#define cleanup_exchange __attribute__((cleanup(finish)))

static struct exchange call_bytes(struct bench *bench, const char *method, const void *bytes,
                                  size_t length) {
    struct exchange exchange = {0};
    char path[GRPC_PATH_LIMIT];
    snprintf(path, sizeof path, SERVICE "%s", method);
    const struct grpc_request request = {.path = path,
                                         .message = bytes,
                                         .length = length,
                                         .reply = &exchange.reply,
                                         .error = &exchange.error};
    exchange.status = calls_answer(bench->snapshots, &request);
    return exchange;
}

static struct exchange call(struct bench *bench, const char *method,
                            const ProtobufCMessage *message) {
    size_t length = protobuf_c_message_get_packed_size(message);
    cleanup_free uint8_t *bytes = malloc(length + 1);
    assert_non_null(bytes);
    protobuf_c_message_pack(message, bytes);
    return call_bytes(bench, method, bytes, length);
}

/* The first message of an answer. */
static const uint8_t *message_of(const struct exchange *exchange, size_t *length) {
    const uint8_t *bytes = (const uint8_t *)exchange->reply.bytes;
    assert_true(exchange->reply.length >= GRPC_PREFIX);
    *length = (size_t)bytes[3] << 8 | bytes[4];
    return bytes + GRPC_PREFIX;
}

static struct exchange call_key(struct bench *bench, const char *method, const char *key) {
    Snapshot__KeyRequest request = SNAPSHOT__KEY_REQUEST__INIT;
    request.snapshotter = (char *)"tarn";
    request.key = (char *)key;
    return call(bench, method, &request.base);
}

static struct exchange create(struct bench *bench, const char *method, const char *key,
                              const char *parent, const char *label, const char *value) {
    Snapshot__CreateRequest request = SNAPSHOT__CREATE_REQUEST__INIT;
    Snapshot__Label one = SNAPSHOT__LABEL__INIT, *labels[] = {&one};
    one.key = (char *)label;
    one.value = (char *)value;
    request.key = (char *)key;
    request.parent = (char *)parent;
    request.labels = labels;
    request.n_labels = label ? 1 : 0;
    return call(bench, method, &request.base);
}

static enum grpc_status status_of(struct exchange exchange) {
    buffer_finish(&exchange.reply);
    return exchange.status;
}

static enum grpc_status commit(struct bench *bench, const char *name, const char *key) {
    Snapshot__CommitRequest request = SNAPSHOT__COMMIT_REQUEST__INIT;
    request.name = (char *)name;
    request.key = (char *)key;
    return status_of(call(bench, "Commit", &request.base));
}

static void test_a_layer_and_a_container_from_beginning_to_end(void **state) {
    struct bench *bench = *state;
    size_t length;
    cleanup_exchange struct exchange prepared = create(bench, "Prepare", "a", "", "l", "v");
    assert_int_equal(prepared.status, GRPC_OK);
    const uint8_t *bytes = message_of(&prepared, &length);
    Snapshot__MountsResponse *mounts = snapshot__mounts_response__unpack(NULL, length, bytes);
    assert_int_equal(mounts->n_mounts, 1);
    assert_string_equal(mounts->mounts[0]->type, "bind");
    assert_string_equal(mounts->mounts[0]->target, "");
    assert_int_equal(mounts->mounts[0]->n_options, 2);
    snapshot__mounts_response__free_unpacked(mounts, NULL);
    assert_int_equal(commit(bench, "layer", "a"), GRPC_OK);
    assert_int_equal(status_of(create(bench, "View", "v", "layer", NULL, NULL)), GRPC_OK);
    assert_int_equal(status_of(call_key(bench, "Mounts", "v")), GRPC_OK);
    assert_int_equal(status_of(call_key(bench, "Usage", "v")), GRPC_OK);
    assert_int_equal(status_of(call_key(bench, "Remove", "layer")), GRPC_FAILED_PRECONDITION);
    assert_int_equal(status_of(call_key(bench, "Remove", "v")), GRPC_OK);
    assert_int_equal(status_of(call_key(bench, "Remove", "layer")), GRPC_OK);
    assert_int_equal(status_of(call_key(bench, "Stat", "layer")), GRPC_NOT_FOUND);
    assert_int_equal(status_of(call_bytes(bench, "Cleanup", "", 0)), GRPC_OK);
}

static void test_info_has_all_that_is_known(void **state) {
    struct bench *bench = *state;
    size_t length;
    bench_layer(bench, "low", "");
    assert_int_equal(status_of(create(bench, "Prepare", "a", "low", "key", "value")), GRPC_OK);
    cleanup_exchange struct exchange stat = call_key(bench, "Stat", "a");
    assert_int_equal(stat.status, GRPC_OK);
    const uint8_t *bytes = message_of(&stat, &length);
    Snapshot__InfoResponse *response = snapshot__info_response__unpack(NULL, length, bytes);
    const Snapshot__Info *info = response->info;
    assert_string_equal(info->name, "a");
    assert_string_equal(info->parent, "low");
    assert_int_equal(info->kind, SNAPSHOT__KIND__ACTIVE);
    assert_true(info->created_at->seconds > 1700000000);
    assert_int_equal(info->created_at->seconds, info->updated_at->seconds);
    assert_int_equal(info->n_labels, 1);
    assert_string_equal(info->labels[0]->key, "key");
    assert_string_equal(info->labels[0]->value, "value");
    snapshot__info_response__free_unpacked(response, NULL);
}

/* The names of a list's answer, each behind a space. */
static void list(struct bench *bench, const char *filter, char *names, size_t size) {
    Snapshot__ListRequest request = SNAPSHOT__LIST_REQUEST__INIT;
    char *filters[] = {(char *)filter};
    request.filters = filters;
    request.n_filters = filter ? 1 : 0;
    cleanup_exchange struct exchange listed = call(bench, "List", &request.base);
    assert_int_equal(listed.status, GRPC_OK);
    names[0] = '\0';
    for (size_t at = 0; at < listed.reply.length;) {
        const uint8_t *bytes = (const uint8_t *)listed.reply.bytes + at;
        size_t length = (size_t)bytes[3] << 8 | bytes[4];
        Snapshot__ListResponse *one =
            snapshot__list_response__unpack(NULL, length, bytes + GRPC_PREFIX);
        assert_int_equal(one->n_info, 1);
        snprintf(names + strlen(names), size - strlen(names), " %s", one->info[0]->name);
        snapshot__list_response__free_unpacked(one, NULL);
        at += GRPC_PREFIX + length;
    }
}

static void test_a_list_has_what_its_filter_wants(void **state) {
    struct bench *bench = *state;
    char names[256];
    list(bench, NULL, names, sizeof names);
    assert_string_equal(names, "");
    bench_layer(bench, "low", "");
    bench_layer(bench, "high", "low");
    list(bench, NULL, names, sizeof names);
    assert_string_equal(names, " low high");
    list(bench, "parent==\"\"", names, sizeof names);
    assert_string_equal(names, " low");
    Snapshot__ListRequest request = SNAPSHOT__LIST_REQUEST__INIT;
    char *filters[] = {(char *)"name=="};
    request.filters = filters;
    request.n_filters = 1;
    assert_int_equal(status_of(call(bench, "List", &request.base)), GRPC_INVALID_ARGUMENT);
}

static void test_layers_that_stream_already_exist(void **state) {
    struct bench *bench = *state;
    static const char ref[] = "containerd.io/snapshot.ref";
    char names[256];
    bench->streaming = 1;
    assert_int_equal(status_of(create(bench, "Prepare", "a", "", ref, "sha256:1")),
                     GRPC_ALREADY_EXISTS);
    assert_int_equal(status_of(call_key(bench, "Stat", "sha256:1")), GRPC_OK);
    /* This is how containerd finds it. */
    list(bench, "labels.\"containerd.io/snapshot.ref\"==sha256:1,parent==\"\"", names,
         sizeof names);
    assert_string_equal(names, " sha256:1");
    /* A view is never remote, and neither is what has no label. */
    assert_int_equal(status_of(create(bench, "View", "b", "", ref, "sha256:1")), GRPC_OK);
    assert_int_equal(status_of(create(bench, "Prepare", "c", "", NULL, NULL)), GRPC_OK);
}

static void test_an_update_without_a_mask_replaces_all_labels(void **state) {
    struct bench *bench = *state;
    Snapshot__UpdateRequest request = SNAPSHOT__UPDATE_REQUEST__INIT;
    Snapshot__Info info = SNAPSHOT__INFO__INIT;
    size_t length;
    assert_int_equal(status_of(create(bench, "Prepare", "a", "", "key", "value")), GRPC_OK);
    assert_int_equal(status_of(call(bench, "Update", &request.base)), GRPC_INVALID_ARGUMENT);
    info.name = (char *)"a";
    request.info = &info;
    cleanup_exchange struct exchange updated = call(bench, "Update", &request.base);
    const uint8_t *bytes = message_of(&updated, &length);
    Snapshot__InfoResponse *response = snapshot__info_response__unpack(NULL, length, bytes);
    assert_int_equal(response->info->n_labels, 0);
    snapshot__info_response__free_unpacked(response, NULL);
}

static void test_what_no_client_may_send_is_refused(void **state) {
    struct bench *bench = *state;
    static char long_name[5000];
    memset(long_name, 'n', sizeof long_name - 1);
    assert_int_equal(status_of(call_key(bench, "Nothing", "a")), GRPC_UNIMPLEMENTED);
    assert_int_equal(status_of(call_key(bench, "Stat", "")), GRPC_INVALID_ARGUMENT);
    assert_int_equal(status_of(call_key(bench, "Stat", long_name)), GRPC_INVALID_ARGUMENT);
    assert_int_equal(status_of(call_key(bench, "Stat", "\xff")), GRPC_INVALID_ARGUMENT);
    assert_int_equal(status_of(create(bench, "Prepare", "a", "\xff", NULL, NULL)),
                     GRPC_INVALID_ARGUMENT);
    assert_int_equal(status_of(create(bench, "Prepare", "a", "", "key", long_name)),
                     GRPC_INVALID_ARGUMENT);
    assert_int_equal(status_of(create(bench, "Prepare", "a", "", "", "v")), GRPC_INVALID_ARGUMENT);
    assert_int_equal(status_of(create(bench, "Prepare", "a", "", "k", "\xff")),
                     GRPC_INVALID_ARGUMENT);
    assert_int_equal(status_of(call_bytes(bench, "Prepare", "\xff\xff\xff", 3)),
                     GRPC_INVALID_ARGUMENT);
    assert_int_equal(commit(bench, "", "a"), GRPC_INVALID_ARGUMENT);
    assert_int_equal(bench_kind(bench, "a"), 0);
}

static void test_a_request_cannot_take_much_more_memory_than_it_has_bytes(void **state) {
    struct bench *bench = *state;
    /* Each two bytes are an empty label (field 4 of a prepare). */
    const size_t length = 1 << 20;
    cleanup_free char *bytes = malloc(length);
    assert_non_null(bytes);
    for (size_t i = 0; i < length; i += 2)
        memcpy(bytes + i, "\x22\x00", 2);
    struct exchange refused = call_bytes(bench, "Prepare", bytes, length);
    assert_int_equal(refused.status, GRPC_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(refused.error.text, "memory"));
    finish(&refused);
}

#define BENCH(test) cmocka_unit_test_setup_teardown(test, bench_setup, bench_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        BENCH(test_a_layer_and_a_container_from_beginning_to_end),
        BENCH(test_info_has_all_that_is_known),
        BENCH(test_a_list_has_what_its_filter_wants),
        BENCH(test_layers_that_stream_already_exist),
        BENCH(test_an_update_without_a_mask_replaces_all_labels),
        BENCH(test_what_no_client_may_send_is_refused),
        BENCH(test_a_request_cannot_take_much_more_memory_than_it_has_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
