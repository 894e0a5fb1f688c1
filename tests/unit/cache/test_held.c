/*
 * Answers from memory alone: they are the waiting calls' answers, and they wait for nothing. The
 * linker hands the store's functions, the allocator and the clock to the __wrap_ functions here.
 * Also run under ThreadSanitizer.
 */
#include "cache_world.h"

#if !defined __has_feature /* clang has it */
#define __has_feature(feature) 0
#endif
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "cache/refresh.h"
#include "store/blobs.h"
#include "store/records.h"
#include "store/usage.h"

enum { BLOB_SIZE = 64 << 10, BELIEVED_MS = 60 * 1000, NOTED_MOST = 256 };

/* ---- what tarn's own calls do ---- */

static _Thread_local bool forbidden; /* this thread may neither allocate nor call the store */
static atomic_uint touches;
static _Atomic int64_t later_ms;        /* the clock is ahead by so much */
static int64_t stopped_ms;              /* the clock stands still there; 0: it runs */
static struct cache *forget_after_look; /* is forgotten while the store is asked; NULL: none */

static void check_allowed(void) {
    if (forbidden)
        abort(); /* cmocka's own failure would allocate */
}

static void store_was_asked(void) {
    check_allowed();
    if (forget_after_look)
        cache_forget(forget_after_look);
}

int64_t __real_clock_ms(void);
int64_t __wrap_clock_ms(void);
int64_t __wrap_clock_ms(void) {
    return stopped_ms ? stopped_ms : __real_clock_ms() + later_ms;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    check_allowed();
    return __real_malloc(size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    check_allowed();
    return __real_calloc(count, size);
}

void __real_store_blob_touch(struct store *store, const struct digest *digest);
void __wrap_store_blob_touch(struct store *store, const struct digest *digest);
void __wrap_store_blob_touch(struct store *store, const struct digest *digest) {
    check_allowed();
    touches++;
    __real_store_blob_touch(store, digest);
}

bool __real_store_blob_has(struct store *store, const struct digest *digest, uint64_t *size);
bool __wrap_store_blob_has(struct store *store, const struct digest *digest, uint64_t *size);
bool __wrap_store_blob_has(struct store *store, const struct digest *digest, uint64_t *size) {
    check_allowed();
    return __real_store_blob_has(store, digest, size);
}

bool __real_store_blob_has_linked(struct store *store, const struct repository_name *repository,
                                  const struct digest *digest, uint64_t *size);
bool __wrap_store_blob_has_linked(struct store *store, const struct repository_name *repository,
                                  const struct digest *digest, uint64_t *size);
bool __wrap_store_blob_has_linked(struct store *store, const struct repository_name *repository,
                                  const struct digest *digest, uint64_t *size) {
    bool has = __real_store_blob_has_linked(store, repository, digest, size);
    store_was_asked();
    return has;
}

bool __real_store_blob_read(struct store *store, const struct digest *digest, size_t limit,
                            struct buffer *out, struct error *error);
bool __wrap_store_blob_read(struct store *store, const struct digest *digest, size_t limit,
                            struct buffer *out, struct error *error);
bool __wrap_store_blob_read(struct store *store, const struct digest *digest, size_t limit,
                            struct buffer *out, struct error *error) {
    bool read = __real_store_blob_read(store, digest, limit, out, error);
    store_was_asked();
    return read;
}

bool __real_store_tag_get(struct store *store, const struct repository_name *repository,
                          const char *tag, struct tag_record *out);
bool __wrap_store_tag_get(struct store *store, const struct repository_name *repository,
                          const char *tag, struct tag_record *out);
bool __wrap_store_tag_get(struct store *store, const struct repository_name *repository,
                          const char *tag, struct tag_record *out) {
    check_allowed();
    return __real_store_tag_get(store, repository, tag, out);
}

static atomic_bool disk_stands_still; /* nothing is stored */

bool __real_store_blob_put(struct store *store, const struct digest *digest, const void *bytes,
                           size_t length, struct error *error);
bool __wrap_store_blob_put(struct store *store, const struct digest *digest, const void *bytes,
                           size_t length, struct error *error);
bool __wrap_store_blob_put(struct store *store, const struct digest *digest, const void *bytes,
                           size_t length, struct error *error) {
    while (atomic_load(&disk_stands_still))
        clock_sleep_ms(1);
    return __real_store_blob_put(store, digest, bytes, length, error);
}

/* ---- the fixture ---- */

static int set_up(void **state) {
    struct world *world = world_new("/tmp", BLOB_SIZE);
    world->upstream.settings.tag_ttl_ms = BELIEVED_MS;
    world->settings.negative_ttl_ms = BELIEVED_MS;
    world_open(world);
    touches = 0;
    *state = world;
    return 0;
}

static int tear_down(void **state) {
    later_ms = 0;
    forget_after_look = NULL;
    disk_stands_still = false;
    return world_tear_down(state);
}

static const struct repository *app(struct world *world) {
    return fake_repository(&world->upstream, "app");
}

static struct reference named(const char *name) {
    struct reference reference;
    assert_true(reference_parse(text_of(name), &reference));
    return reference;
}

static struct reference by_digest(const struct digest *digest) {
    return (struct reference){.is_digest = true, .digest = *digest};
}

/* The waiting call; the result is the outcome, or -1. */
static int pull(struct world *world, const struct reference *reference, bool head_only) {
    struct cache_result result;
    struct error error;
    if (!cache_manifest(world->cache, CALLER(app(world)), reference, head_only, &result, &error))
        return -1;
    document_release(result.document);
    if (!disk_stands_still)
        cache_settle(world->cache);
    return (int)result.outcome;
}

/* The call that does not wait, by a thread that may not. */
static enum cache_held look(struct world *world, const struct reference *reference,
                            bool head_only) {
    struct cache_result result;
    struct error error = {0};
    const struct repository *repository = app(world);
    forbidden = true;
    enum cache_held held =
        cache_manifest_held(world->cache, repository, reference, head_only, &result, &error);
    forbidden = false;
    assert_int_equal(result.document != NULL, held == CACHE_HELD);
    assert_int_equal(error.kind, held == CACHE_HELD_ABSENT ? ERROR_NOT_FOUND : ERROR_NONE);
    if (held == CACHE_HELD) {
        assert_int_equal(result.outcome, CACHE_HIT);
        assert_true(head_only || result.document->has_bytes);
    }
    document_release(result.document);
    return held;
}

static bool knows(struct world *world, const char *repository, uint64_t *size) {
    const struct repository *through = fake_repository(&world->upstream, repository);
    forbidden = true;
    bool known = cache_blob_known(world->cache, through, &world->digest, size);
    forbidden = false;
    return known;
}

/* The blob is in the store and linked to `app`, and nothing is known of it in memory. */
static void store_blob(struct world *world) {
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(world_has_blob_soon(world));
    world_reopen(world, 0); /* it waits for the end of the flight, which has the blob open */
    uint64_t size;
    int fd = store_blob_open(world->store, &world->digest, &size, NULL);
    assert_true(fd >= 0); /* and now the store's index has it */
    store_blob_close(world->store, &world->digest, fd);
}

static bool head_blob(struct world *world) {
    uint64_t size = 0;
    enum cache_outcome outcome;
    struct error error;
    return cache_blob_stat(world->cache, CALLER(app(world)), &world->digest, &size, &outcome,
                           &error) &&
           size == BLOB_SIZE && outcome == CACHE_HIT;
}

/* ---- documents ---- */

static void test_a_manifest_is_held_by_tag_and_by_digest_while_it_is_fresh(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1"), digest = by_digest(&world->upstream.manifest_digest);
    assert_int_equal(look(world, &tag, false), CACHE_NOT_HELD);
    assert_int_equal(pull(world, &tag, false), CACHE_MISS);
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    assert_int_equal(look(world, &tag, true), CACHE_HELD);
    assert_int_equal(look(world, &digest, false), CACHE_HELD);
    later_ms = BELIEVED_MS + 1;
    assert_int_equal(look(world, &tag, false), CACHE_NOT_HELD);
    assert_int_equal(look(world, &digest, false), CACHE_HELD);
}

static void test_a_head_without_bytes_is_held_only_for_head(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    assert_int_equal(pull(world, &tag, true), CACHE_MISS);
    assert_int_equal(look(world, &tag, true), CACHE_HELD);
    assert_int_equal(look(world, &tag, false), CACHE_NOT_HELD);
}

static void test_a_404_is_held_while_it_is_believed(void **state) {
    struct world *world = *state;
    const struct reference tag = named("none");
    world->upstream.manifest = NULL;
    assert_int_equal(look(world, &tag, false), CACHE_NOT_HELD);
    assert_int_equal(pull(world, &tag, false), -1);
    assert_int_equal(look(world, &tag, false), CACHE_HELD_ABSENT);
    later_ms = BELIEVED_MS + 1;
    assert_int_equal(look(world, &tag, false), CACHE_NOT_HELD);
}

static void test_lists_are_held_as_the_waiting_calls_left_them(void **state) {
    struct world *world = *state;
    struct cache_result result;
    struct error error = {0};
    const struct repository *repository = app(world);
    const struct digest *subject = &world->digest;
    world->upstream.manifest = NULL; /* so that there is no fallback tag of referrers */
    assert_int_equal(cache_tags_held(world->cache, repository, &result, &error), CACHE_NOT_HELD);
    assert_int_equal(cache_referrers_held(world->cache, repository, subject, &result, &error),
                     CACHE_NOT_HELD);
    assert_false(cache_tags(world->cache, CALLER(repository), &result, &error));
    assert_true(cache_referrers(world->cache, CALLER(repository), subject, &result, &error));
    document_release(result.document);
    forbidden = true;
    enum cache_held tags = cache_tags_held(world->cache, repository, &result, &error);
    enum cache_held referrers =
        cache_referrers_held(world->cache, repository, subject, &result, &error);
    forbidden = false;
    assert_int_equal(tags, CACHE_HELD_ABSENT);
    assert_int_equal(referrers, CACHE_HELD);
    assert_true(result.document->has_bytes);
    document_release(result.document);
}

static void test_another_repository_holds_nothing(void **state) {
    struct world *world = *state;
    struct cache_result result;
    struct error error = {0};
    const struct reference digest = by_digest(&world->upstream.manifest_digest);
    assert_int_equal(pull(world, &digest, false), CACHE_MISS);
    assert_int_equal(cache_manifest_held(world->cache, fake_repository(&world->upstream, "other"),
                                         &digest, false, &result, &error),
                     CACHE_NOT_HELD);
    assert_null(result.document);
}

static void test_an_answer_does_not_wait_for_the_disk(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    const struct digest first = world->upstream.manifest_digest;
    const struct reference digest = by_digest(&first);
    uint64_t size;
    disk_stands_still = true;
    assert_int_equal(pull(world, &tag, false), CACHE_MISS);
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    assert_int_equal(look(world, &digest, false), CACHE_HELD);
    assert_false(store_blob_has(world->store, &first, &size));
    disk_stands_still = false;
    cache_settle(world->cache);
    assert_true(store_blob_has(world->store, &first, &size));
}

/* A pull of a tag of one upstream on a thread of its own. */
struct tag_pull {
    struct world *world;
    struct upstream *upstream;
    char tag[16];
    bool answered;
    atomic_bool done;
};

static void *pull_a_tag(void *argument) {
    struct tag_pull *one = argument;
    struct cache_result result = {0};
    struct error error = {0};
    const struct reference tag = named(one->tag);
    one->answered = cache_manifest(one->world->cache, CALLER(fake_repository(one->upstream, "app")),
                                   &tag, false, &result, &error);
    document_release(result.document);
    atomic_store(&one->done, true);
    return NULL;
}

static void test_a_crowd_at_one_upstream_holds_up_no_answer_of_another(void **state) {
    struct world *world = *state;
    enum { CROWD = 160 };
    struct tag_pull pulls[CROWD + 1];
    pthread_t threads[CROWD + 1];
    struct upstream other = world->upstream;
    other.host = "other.test";
    other.held = (struct upstream_held){0};
    unsigned done = 0;
    disk_stands_still = true;
    for (int i = 0; i <= CROWD; i++) {
        pulls[i] = (struct tag_pull){.world = world, .upstream = &world->upstream};
        snprintf(pulls[i].tag, sizeof pulls[i].tag, "v%d", i);
    }
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pull_a_tag, &pulls[i]), 0);
    /* Some of the crowd have an answer, and the others wait for the disk. */
    wait_until(world->upstream.gets == CROWD);
    pulls[CROWD].upstream = &other;
    assert_int_equal(pthread_create(&threads[CROWD], NULL, pull_a_tag, &pulls[CROWD]), 0);
    wait_until(atomic_load(&pulls[CROWD].done));
    for (int i = 0; i < CROWD; i++)
        done += atomic_load(&pulls[i].done);
    assert_true(done < CROWD);
    disk_stands_still = false;
    for (int i = 0; i <= CROWD; i++) {
        pthread_join(threads[i], NULL);
        assert_true(pulls[i].answered);
    }
    cache_settle(world->cache);
}

static void test_answers_about_a_tag_are_stored_in_their_order(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    struct tag_record record;
    uint64_t size;
    disk_stands_still = true;
    assert_int_equal(pull(world, &tag, false), CACHE_MISS);
    const struct digest first = world->upstream.manifest_digest;
    world->upstream.manifest = NULL;
    later_ms = BELIEVED_MS + 1;
    disk_stands_still = false; /* a 404 is stored behind the manifest, before it is answered */
    assert_int_equal(pull(world, &tag, false), -1);
    assert_int_equal(look(world, &tag, false), CACHE_HELD_ABSENT);
    assert_true(store_blob_has(world->store, &first, &size));
    assert_false(store_tag_get(world->store, &app(world)->name, "v1", &record));
}

/* ---- tags in use, shortly before their time is over ---- */

enum { AGING_MS = BELIEVED_MS - 5000 };

static void test_the_last_tenth_of_a_tags_time_is_its_lead(void **state) {
    (void)state;
    assert_int_equal(refresh_lead_ms(0), 0);
    assert_int_equal(refresh_lead_ms(29999), 0);
    assert_int_equal(refresh_lead_ms(30000), 5000);
    assert_int_equal(refresh_lead_ms(BELIEVED_MS), 6000);
    assert_int_equal(refresh_lead_ms(100 * 3600 * 1000), 30000);
}

static void test_a_tag_in_use_is_asked_for_before_its_time_is_over(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    cache_start(world->cache);
    assert_int_equal(pull(world, &tag, false), CACHE_MISS);
    later_ms = AGING_MS - 2000;
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    later_ms = AGING_MS;
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    wait_until(world->upstream.heads == 1);
    later_ms = BELIEVED_MS + 1;
    wait_until(look(world, &tag, false) == CACHE_HELD);
    later_ms = AGING_MS + BELIEVED_MS - 9000; /* its new time is not over either */
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    assert_int_equal(world->upstream.heads, 1);
    assert_int_equal(world->upstream.gets, 1);
}

static void test_a_client_that_may_wait_lets_an_aging_tag_be_asked_for_too(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    cache_start(world->cache);
    assert_int_equal(pull(world, &tag, true), CACHE_MISS); /* only its head is known */
    later_ms = AGING_MS;
    assert_int_equal(pull(world, &tag, true), CACHE_HIT);
    wait_until(world->upstream.heads == 2);
    later_ms = BELIEVED_MS + 1;
    wait_until(look(world, &tag, true) == CACHE_HELD);
    assert_int_equal(world->upstream.gets, 0);
}

static void
test_an_aging_tag_that_has_moved_names_the_new_manifest_and_fetches_no_blob(void **state) {
    struct world *world = *state;
    static const char moved[] = "{\"schemaVersion\":2,\"config\":{},\"layers\":[]}";
    const struct reference tag = named("v1");
    world->upstream.settings.prefetch = true;
    cache_start(world->cache);
    assert_int_equal(pull(world, &tag, true), CACHE_MISS);
    assert_int_equal(pull(world, &tag, false), CACHE_MISS);
    wait_until(!world_has_flight(world));
    const unsigned blobs = world->upstream.blob_gets;
    world->upstream.manifest = moved;
    assert_true(digest_of(DIGEST_SHA256, moved, strlen(moved), &world->upstream.manifest_digest));
    const struct reference digest = by_digest(&world->upstream.manifest_digest);
    later_ms = AGING_MS;
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    wait_until(look(world, &digest, false) == CACHE_HELD);
    later_ms = BELIEVED_MS + 1;
    wait_until(look(world, &tag, false) == CACHE_HELD);
    assert_int_equal(world->upstream.blob_gets, blobs);
}

static void test_a_silent_upstream_delays_no_use_of_an_aging_tag(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    cache_start(world->cache);
    assert_int_equal(pull(world, &tag, false), CACHE_MISS);
    world->upstream.in_queue = true;
    later_ms = AGING_MS;
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    wait_until(world->upstream.queued == 1);
    later_ms = BELIEVED_MS + 1; /* its time ends as usual, and nobody waits for the answer again */
    assert_int_equal(look(world, &tag, false), CACHE_NOT_HELD);
    assert_int_equal(pull(world, &tag, false), CACHE_STALE);
    world->upstream.in_queue = false;
}

static void test_a_failing_upstream_ends_no_time_of_an_aging_tag(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    cache_start(world->cache);
    assert_int_equal(pull(world, &tag, false), CACHE_MISS);
    world->upstream.fail = ERROR_UNAVAILABLE;
    later_ms = AGING_MS;
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    assert_int_equal(pull(world, &tag, false), CACHE_HIT);
    later_ms = BELIEVED_MS + 1;
    assert_int_equal(pull(world, &tag, false), CACHE_STALE);
}

static void test_many_aging_tags_of_a_silent_upstream_keep_nobody_from_asking(void **state) {
    struct world *world = *state;
    enum { TAGS = 3 * (REFRESH_DUE + REFRESH_AT_ONCE) };
    cache_start(world->cache);
    for (unsigned i = 0; i < TAGS; i++) {
        char name[16];
        snprintf(name, sizeof name, "v%u", i);
        const struct reference tag = named(name);
        assert_int_equal(pull(world, &tag, false), CACHE_MISS);
    }
    later_ms = AGING_MS;
    world->upstream.in_queue = true;
    for (unsigned i = 0; i < TAGS; i++) {
        char name[16];
        snprintf(name, sizeof name, "v%u", i);
        const struct reference tag = named(name);
        assert_int_equal(look(world, &tag, false), CACHE_HELD);
    }
    wait_until(world->upstream.queued >= REFRESH_AT_ONCE);
    const struct reference other = named("other");
    struct tag_pull client = {.world = world, .upstream = &world->upstream, .tag = "other"};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, pull_a_tag, &client), 0);
    wait_until(world->upstream.queued > REFRESH_AT_ONCE); /* the client's own question */
    world->upstream.in_queue = false;
    pthread_join(thread, NULL);
    assert_true(client.answered);
    assert_int_equal(look(world, &other, false), CACHE_HELD);
    assert_int_equal(world->upstream.queued, REFRESH_AT_ONCE + 1);
}

static void test_a_manifest_read_before_a_forget_is_not_kept_after_it(void **state) {
    struct world *world = *state;
    const struct reference digest = by_digest(&world->upstream.manifest_digest);
    assert_int_equal(pull(world, &digest, false), CACHE_MISS);
    cache_forget(world->cache);
    assert_int_equal(look(world, &digest, false), CACHE_NOT_HELD);
    forget_after_look = world->cache; /* as `tarn rm` does, while this thread reads */
    assert_int_equal(pull(world, &digest, false), CACHE_HIT);
    assert_int_equal(look(world, &digest, false), CACHE_NOT_HELD);
    forget_after_look = NULL;
    assert_int_equal(pull(world, &digest, false), CACHE_HIT);
    assert_int_equal(look(world, &digest, false), CACHE_HELD);
}

/* ---- uses ---- */

static void test_uses_are_told_to_the_store_by_the_next_call_that_may_wait(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    assert_int_equal(pull(world, &tag, false), CACHE_MISS);
    touches = 0;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(look(world, &tag, false), CACHE_HELD);
    assert_int_equal(touches, 0);
    cache_record_uses(world->cache);
    assert_int_equal(touches, 1);
    cache_record_uses(world->cache);
    assert_int_equal(touches, 1);
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    struct client client = world_read_whole(world); /* a transfer begins with it */
    assert_whole(&client);
    assert_int_equal(touches, 2);
    assert_int_equal(look(world, &tag, false), CACHE_HELD);
    world_close(world); /* and so does the end */
    world_open(world);
    assert_int_equal(touches, 3);
}

static void test_more_uses_than_can_be_noted_are_left_to_a_call_that_may_wait(void **state) {
    struct world *world = *state;
    struct reference references[NOTED_MOST + 1];
    char manifest[64];
    world->upstream.manifest = manifest;
    for (int i = 0; i <= NOTED_MOST; i++) {
        int length = snprintf(manifest, sizeof manifest, "{\"schemaVersion\":2,\"n\":%d}", i);
        assert_true(
            digest_of(DIGEST_SHA256, manifest, (size_t)length, &world->upstream.manifest_digest));
        references[i] = by_digest(&world->upstream.manifest_digest);
        assert_int_equal(pull(world, &references[i], false), CACHE_MISS);
    }
    for (int i = 0; i < NOTED_MOST; i++)
        assert_int_equal(look(world, &references[i], false), CACHE_HELD);
    assert_int_equal(look(world, &references[NOTED_MOST], false), CACHE_NOT_HELD);
    assert_int_equal(look(world, &references[0], false), CACHE_HELD); /* it is noted already */
    touches = 0;
    assert_int_equal(pull(world, &references[NOTED_MOST], false), CACHE_HIT);
    assert_int_equal(touches, NOTED_MOST + 1);
    assert_int_equal(look(world, &references[NOTED_MOST], false), CACHE_HELD);
}

/* ---- blobs ---- */

static void test_a_blob_is_known_once_a_waiting_call_has_found_it(void **state) {
    struct world *world = *state;
    uint64_t size = 0;
    store_blob(world);
    assert_false(knows(world, "app", &size));
    assert_true(head_blob(world));
    assert_true(knows(world, "app", &size));
    assert_int_equal(size, BLOB_SIZE);
    assert_false(knows(world, "other", &size)); /* promise 8 */
    cache_forget(world->cache);
    assert_false(knows(world, "app", &size));
    struct client client = world_read_whole(world);
    assert_whole(&client);
    assert_true(knows(world, "app", &size));
    later_ms = BELIEVED_MS + 1;
    assert_false(knows(world, "app", &size));
}

static void test_a_blob_is_not_known_after_the_store_removed_one(void **state) {
    struct world *world = *state;
    uint64_t size, freed;
    struct error error = {0};
    struct store_blob evicted;
    store_blob(world);
    assert_true(head_blob(world));
    assert_true(store_blob_remove(world->store, &world->digest, &freed, &error));
    assert_false(knows(world, "app", &size));
    store_blob(world);
    assert_true(head_blob(world));
    assert_true(knows(world, "app", &size));
    assert_true(store_evict(world->store, INT64_MAX, &evicted, &error));
    assert_false(knows(world, "app", &size));
    store_blob(world);
    assert_true(head_blob(world));
    int fd = store_blob_open(world->store, &world->digest, &size, &error);
    assert_true(store_blob_quarantine(world->store, &world->digest, fd, &error));
    store_blob_close(world->store, &world->digest, fd);
    assert_false(knows(world, "app", &size));
}

static void test_a_blob_found_before_a_forget_is_not_known_after_it(void **state) {
    struct world *world = *state;
    uint64_t size;
    store_blob(world);
    forget_after_look = world->cache;
    assert_true(head_blob(world));
    assert_false(knows(world, "app", &size));
}

/* Whether the blob's bytes are in memory, for a thread that may not wait. */
static bool has_bytes(struct world *world, const char *repository) {
    struct cache_result result;
    const struct repository *through = fake_repository(&world->upstream, repository);
    forbidden = true;
    enum cache_held held = cache_blob_held(world->cache, through, &world->digest, &result);
    forbidden = false;
    assert_int_equal(result.document != NULL, held == CACHE_HELD);
    if (held == CACHE_HELD) {
        assert_int_equal(result.outcome, CACHE_HIT);
        assert_int_equal(result.document->length, BLOB_SIZE);
        assert_memory_equal(result.document->bytes, world->blob, BLOB_SIZE);
    }
    document_release(result.document);
    return held == CACHE_HELD;
}

static void read_whole(struct world *world) {
    struct client client = world_read_whole(world);
    assert_whole(&client);
}

static void test_a_small_blob_is_held_once_it_was_read_twice_and_while_it_is_known(void **state) {
    struct world *world = *state;
    store_blob(world);
    read_whole(world);
    assert_false(has_bytes(world, "app"));
    read_whole(world);
    assert_true(has_bytes(world, "app"));
    assert_false(has_bytes(world, "other")); /* promise 8 */
    later_ms = BELIEVED_MS + 1;
    assert_false(has_bytes(world, "app"));
    read_whole(world); /* and it is known again */
    assert_true(has_bytes(world, "app"));
    cache_forget(world->cache);
    assert_false(has_bytes(world, "app"));
}

static void test_a_small_blob_that_the_store_removed_is_not_held(void **state) {
    struct world *world = *state;
    struct error error = {0};
    struct store_blob evicted;
    store_blob(world);
    read_whole(world);
    read_whole(world);
    assert_true(has_bytes(world, "app"));
    assert_true(store_evict(world->store, INT64_MAX, &evicted, &error));
    assert_false(has_bytes(world, "app"));
}

static void test_the_use_of_a_small_blob_is_told_to_the_store(void **state) {
    struct world *world = *state;
    store_blob(world);
    read_whole(world);
    read_whole(world);
    cache_record_uses(world->cache);
    touches = 0;
    for (int i = 0; i < 1000; i++)
        assert_true(has_bytes(world, "app"));
    assert_int_equal(touches, 0);
    cache_record_uses(world->cache);
    assert_int_equal(touches, 1);
}

/* ---- derived ---- */

struct head {
    struct document_derived derived; /* first */
    atomic_uint *freed;
};

static void free_head(struct document_derived *derived) {
    struct head *head = (struct head *)derived;
    (*head->freed)++;
    free(head);
}

static struct document_derived *head_new(atomic_uint *freed) {
    struct head *head = malloc(sizeof *head);
    assert_non_null(head);
    *head = (struct head){{free_head}, freed};
    return &head->derived;
}

static struct document *held_document(struct world *world) {
    const struct reference tag = named("v1");
    struct cache_result result;
    struct error error;
    assert_int_equal(cache_manifest_held(world->cache, app(world), &tag, false, &result, &error),
                     CACHE_HELD);
    return result.document;
}

static void test_what_is_derived_lives_as_long_as_the_document(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    atomic_uint freed = 0;
    pull(world, &tag, false);
    struct document *document = held_document(world);
    assert_null(document_derived(document));
    struct document_derived *derived = document_set_derived(document, head_new(&freed));
    assert_ptr_equal(document_set_derived(document, head_new(&freed)), derived);
    assert_int_equal(freed, 1); /* the second one */
    document_release(document);
    document = held_document(world);
    assert_ptr_equal(document_derived(document), derived);
    cache_forget(world->cache);
    assert_ptr_equal(document_derived(document), derived);
    assert_int_equal(freed, 1);
    document_release(document);
    assert_int_equal(freed, 2);
}

/* ---- many threads ---- */

struct looking {
    struct world *world;
    atomic_uint made, freed, held;
    atomic_bool end;
};

static void *look_and_derive(void *argument) {
    struct looking *looking = argument;
    struct world *world = looking->world;
    const struct reference tag = named("v1");
    struct cache_result result;
    struct error error;
    uint64_t size;
    while (!looking->end) {
        cache_blob_known(world->cache, app(world), &world->digest, &size);
        if (cache_manifest_held(world->cache, app(world), &tag, false, &result, &error) !=
            CACHE_HELD)
            continue;
        looking->held++;
        if (!document_derived(result.document)) {
            looking->made++;
            document_set_derived(result.document, head_new(&looking->freed));
        }
        document_release(result.document);
    }
    return NULL;
}

static void test_threads_look_while_documents_come_and_go(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    struct looking looking = {.world = world};
    pthread_t threads[2];
    store_blob(world);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, look_and_derive, &looking);
    for (int i = 0; i < 50; i++) {
        unsigned before = looking.held;
        assert_int_not_equal(pull(world, &tag, false), -1);
        assert_true(head_blob(world));
        wait_until(looking.held > before);
        cache_forget(world->cache);
    }
    looking.end = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    cache_forget(world->cache);
    assert_true(looking.made > 0);
    assert_int_equal(looking.freed, looking.made);
}

/* ---- no system call ---- */

/* Not under ThreadSanitizer: its own thread outlives the child's, so the child would never end. */
#if !(defined __SANITIZE_THREAD__ || __has_feature(thread_sanitizer))
#define HAS_STRICT_CHILD 1
/* In a process that the kernel kills when it makes any system call but read, write and exit. */
static void answer_in_strict_mode(struct world *world, const struct reference *tag,
                                  const struct repository *repository) {
    struct cache_result result;
    struct error error;
    uint64_t size;
    stopped_ms = clock_ms(); /* not on every machine is the clock read without a system call */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
        syscall(SYS_exit, 77);
    bool ok = true;
    for (int i = 0; i < 100; i++) {
        ok &= cache_manifest_held(world->cache, repository, tag, false, &result, &error) ==
              CACHE_HELD;
        document_release(result.document);
        ok &= cache_blob_known(world->cache, repository, &world->digest, &size);
        ok &= cache_blob_held(world->cache, repository, &world->digest, &result) == CACHE_HELD;
        document_release(result.document);
        ok &= cache_tags_held(world->cache, repository, &result, &error) == CACHE_HELD_ABSENT;
    }
    syscall(SYS_exit, ok ? 0 : 1);
}

static void test_an_answer_from_memory_makes_no_system_call(void **state) {
    struct world *world = *state;
    const struct reference tag = named("v1");
    const struct repository *repository = app(world);
    struct cache_result result;
    struct error error;
    store_blob(world);
    assert_int_equal(pull(world, &tag, false), CACHE_MISS);
    assert_true(head_blob(world));
    struct client client = world_read_whole(world); /* the blob is small, and comes into memory */
    assert_whole(&client);
    assert_false(cache_tags(world->cache, CALLER(repository), &result, &error));
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        answer_in_strict_mode(world, &tag, repository);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("skipped: this kernel has no strict mode\n");
        return;
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
#endif

#define held_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        held_test(test_a_manifest_is_held_by_tag_and_by_digest_while_it_is_fresh),
        held_test(test_a_head_without_bytes_is_held_only_for_head),
        held_test(test_a_404_is_held_while_it_is_believed),
        held_test(test_lists_are_held_as_the_waiting_calls_left_them),
        held_test(test_another_repository_holds_nothing),
        held_test(test_an_answer_does_not_wait_for_the_disk),
        held_test(test_a_crowd_at_one_upstream_holds_up_no_answer_of_another),
        held_test(test_answers_about_a_tag_are_stored_in_their_order),
        cmocka_unit_test(test_the_last_tenth_of_a_tags_time_is_its_lead),
        held_test(test_a_tag_in_use_is_asked_for_before_its_time_is_over),
        held_test(test_a_client_that_may_wait_lets_an_aging_tag_be_asked_for_too),
        held_test(test_an_aging_tag_that_has_moved_names_the_new_manifest_and_fetches_no_blob),
        held_test(test_a_silent_upstream_delays_no_use_of_an_aging_tag),
        held_test(test_a_failing_upstream_ends_no_time_of_an_aging_tag),
        held_test(test_many_aging_tags_of_a_silent_upstream_keep_nobody_from_asking),
        held_test(test_a_manifest_read_before_a_forget_is_not_kept_after_it),
        held_test(test_uses_are_told_to_the_store_by_the_next_call_that_may_wait),
        held_test(test_more_uses_than_can_be_noted_are_left_to_a_call_that_may_wait),
        held_test(test_a_blob_is_known_once_a_waiting_call_has_found_it),
        held_test(test_a_blob_is_not_known_after_the_store_removed_one),
        held_test(test_a_blob_found_before_a_forget_is_not_known_after_it),
        held_test(test_a_small_blob_is_held_once_it_was_read_twice_and_while_it_is_known),
        held_test(test_a_small_blob_that_the_store_removed_is_not_held),
        held_test(test_the_use_of_a_small_blob_is_told_to_the_store),
        held_test(test_what_is_derived_lives_as_long_as_the_document),
        held_test(test_threads_look_while_documents_come_and_go),
#ifdef HAS_STRICT_CHILD
        held_test(test_an_answer_from_memory_makes_no_system_call),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
