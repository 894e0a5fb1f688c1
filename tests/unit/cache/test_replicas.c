/*
 * Documents that come from the replica that owns them, while tarn's memory runs out. The nth
 * allocation fails alone, n is counted up until the question ends before it. Whichever fails: no
 * crash, no leak, no wrong document, no 404, and no member is taken for down. Afterwards the same
 * cache serves the same thing.
 */
#include "cache_faults.h"
#include "client/client.h"
#include "replica/asker.h"
#include "server_process.h"

enum { STEPS_MOST = 3000 };

#define MANIFEST "{\"schemaVersion\":2,\"manifests\":[]}"
#define TAGS     "{\"name\":\"app\",\"tags\":[\"v1\",\"v2\"]}"
#define REFERRERS                                                                                  \
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\","              \
    "\"manifests\":[]}"
#define LIFE "Tarn-Answer: held\r\nAge: 0\r\nCache-Control: max-age=60\r\n"

static struct server_process owner;
static char manifest_fields[400];
static struct client *client; /* of HTTP */
static struct members *members;
static struct replica_asker *asker;

static bool answer(struct server *server, int fd, const char *head) {
    (void)server;
    if (server_asks(head, "GET /livez"))
        return server_reply(fd, 200, "", "ok\n");
    if (strstr(head, "/tags/list"))
        return server_reply(fd, 200, LIFE "Content-Type: application/json\r\n", TAGS);
    if (strstr(head, "/referrers/"))
        return server_reply(
            fd, 200, LIFE "Content-Type: application/vnd.oci.image.index.v1+json\r\n", REFERRERS);
    if (strncmp(head, "HEAD ", 5) == 0)
        return server_printf(fd, "HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\n\r\n",
                             manifest_fields, strlen(MANIFEST));
    return server_reply(fd, 200, manifest_fields, MANIFEST);
}

static void write_manifest_fields(void) {
    struct digest digest;
    char text[DIGEST_STRING_SIZE];
    assert_true(digest_of(DIGEST_SHA256, MANIFEST, strlen(MANIFEST), &digest));
    snprintf(manifest_fields, sizeof manifest_fields,
             LIFE "Content-Type: application/vnd.oci.image.index.v1+json\r\n"
                  "Docker-Content-Digest: %s\r\n",
             digest_format(&digest, text));
}

static bool sign(void *context, const struct signed_request *request,
                 char input[static SIGNATURE_INPUT_SIZE], char signature[static SIGNATURE_SIZE]) {
    (void)context, (void)request;
    snprintf(input, SIGNATURE_INPUT_SIZE, "tarn=()");
    snprintf(signature, SIGNATURE_SIZE, "tarn=::");
    return true;
}

static int set_up(void **state) {
    struct member member;
    struct member_list list = {0};
    struct members_change change;
    log_configure(LOG_ERROR, LOG_TEXT);
    write_manifest_fields();
    server_process_start(&owner, answer);
    client = client_new();
    members = members_new(clock_ms() - FORMER_MS - 1);
    assert_true(client && members);
    snprintf(member.text, sizeof member.text, "127.0.0.1:%u", owner.port);
    member_list_add(&list, &member);
    members_set(members, &list, NULL, clock_ms() - FORMER_MS - 1, &change);
    const struct replica_asker_settings settings = {
        .client = client, .members = members, .sign = sign};
    asker = replica_asker_new(&settings, NULL);
    assert_non_null(asker);
    struct world *world = world_new(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 1000);
    world->settings.replicas = asker;
    world->settings.stale_after_ms = 60000;
    world->upstream.fail = ERROR_UNAVAILABLE; /* it is asked for what was lost here at most */
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    world_free(*state);
    replica_asker_free(asker);
    members_free(members);
    client_free(client);
    server_process_stop(&owner);
    return 0;
}

/* ---- questions ---- */

struct scenario {
    const char *name, *expected;
    bool (*ask)(struct world *world, struct cache_result *result, struct error *error);
};

static bool ask_for(struct world *world, bool head_only, struct cache_result *result,
                    struct error *error) {
    struct reference reference;
    assert_true(reference_parse(text_of("v1"), &reference));
    return cache_manifest(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                          &reference, head_only, result, error);
}

static bool ask_manifest(struct world *world, struct cache_result *result, struct error *error) {
    return ask_for(world, false, result, error);
}

static bool ask_manifest_head(struct world *world, struct cache_result *result,
                              struct error *error) {
    return ask_for(world, true, result, error);
}

static bool ask_tags(struct world *world, struct cache_result *result, struct error *error) {
    return cache_tags(world->cache, CALLER(fake_repository(&world->upstream, "app")), result,
                      error);
}

static bool ask_referrers(struct world *world, struct cache_result *result, struct error *error) {
    return cache_referrers(world->cache, CALLER(fake_repository(&world->upstream, "app")),
                           &world->digest, result, error);
}

static const struct scenario scenarios[] = {
    {"a manifest", MANIFEST, ask_manifest},
    {"the head of a manifest", NULL, ask_manifest_head},
    {"tags", TAGS, ask_tags},
    {"referrers", REFERRERS, ask_referrers},
};

static bool is_down(void) {
    struct members_owner found;
    members_owner(members, "key", 0, clock_ms(), &found);
    return found.is_nobody;
}

/* What was asked for is right, or (unless it `must` be there) the error is that of this tarn. */
static void ask(struct world *world, const struct scenario *scenario, bool must) {
    struct cache_result result = {0};
    struct error error = {0};
    const bool ok = scenario->ask(world, &result, &error);
    if (must && !ok)
        fail_msg("%s, fault %d: %s", scenario->name, fault.nth, error.text);
    if (ok && scenario->expected && result.document->has_bytes) {
        assert_int_equal(result.document->length, strlen(scenario->expected));
        assert_memory_equal(result.document->bytes, scenario->expected, result.document->length);
    }
    if (!ok && (error.kind == ERROR_NOT_FOUND || error.kind == ERROR_NONE))
        fail_msg("%s, fault %d: %s", scenario->name, fault.nth, error.text);
    if (ok)
        document_release(result.document);
}

/* True: there was an nth allocation, which failed. */
static bool round_of(struct world *world, const struct scenario *scenario, int nth) {
    world_open(world);
    fault.what = FAULT_MEMORY;
    fault.lasting = false;
    fault.scenario = scenario->name;
    fault.nth = nth;
    atomic_store(&fault.calls, 0);
    atomic_store(&fault.armed, true);
    ask(world, scenario, false);
    cache_settle(world->cache);
    atomic_store(&fault.armed, false);
    const bool failed = atomic_load(&fault.calls) >= nth;
    assert_false(is_down());
    ask(world, scenario, true);
    world_close(world);
    world_empty(world);
    return failed;
}

static void test_documents_of_an_owner_survive(void **state) {
    struct world *world = *state;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        int nth = 1;
        while (round_of(world, &scenarios[i], nth))
            assert_true(++nth < STEPS_MOST);
        assert_true(nth > 5); /* there were allocations */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_documents_of_an_owner_survive, set_up, tear_down),
    };
    fault_prepare();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
