/* Which blobs the configuration's patterns pin, on arrival and by the renewal. */
#include <stdatomic.h>
#include "base/log.h"
#include "oci/manifest.h"
#include "retention/pins.h"
#include "store_root.h"

#define HOST "h.io:5000"

static bool is_pinned(struct fixture *fixture, const struct digest *digest) {
    struct store_blob blob;
    assert_true(store_blob_find(fixture->store, digest, &blob));
    return blob.pinned;
}

static struct pins *pins_of(struct fixture *fixture, const char *const *patterns) {
    struct pins *pins = pins_new(fixture->store, patterns);
    assert_non_null(pins);
    return pins;
}

/* Puts a manifest with one layer, linked and tagged; the layer's digest goes to `layer`. */
static struct digest put_image(struct fixture *fixture, const char *repository, const char *tag,
                               const char *layer_text, struct digest *layer) {
    char digest[DIGEST_STRING_SIZE], text[512];
    *layer = put_text(fixture, layer_text);
    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",\"config\":{"
             "\"mediaType\":\"a/b\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[]}",
             digest_format(layer, digest), strlen(layer_text));
    struct digest manifest = put_text(fixture, text);
    struct tag_record record = {
        .digest = manifest, .media_type = MEDIA_OCI_MANIFEST, .checked_s = 1};
    const struct repository_name *name = repository_named(HOST, repository);
    assert_true(store_link_blob(fixture->store, name, layer, NULL));
    assert_true(store_link_manifest(fixture->store, name, &manifest, MEDIA_OCI_MANIFEST, NULL));
    assert_true(store_tag_put(fixture->store, name, tag, &record, NULL));
    return manifest;
}

static void test_without_patterns_there_are_no_pins(void **state) {
    struct fixture *fixture = *state;
    static const char *const none[] = {NULL};
    struct digest digest = put_text(fixture, "a");
    for (int i = 0; i < 2; i++) {
        struct pins *pins = pins_of(fixture, i ? none : NULL);
        pins_add(pins, repository_named(HOST, "a"), &digest);
        assert_false(is_pinned(fixture, &digest));
        assert_false(pins_want_renewal(pins));
        assert_true(pins_renew(pins, NULL));
        pins_free(pins);
    }
    pins_free(NULL);
}

static void test_other_patterns_take_the_place_of_those_before(void **state) {
    struct fixture *fixture = *state;
    static const char *const patterns[][2] = {{HOST "/one", NULL}, {HOST "/two:v?", NULL}, {NULL}};
    struct digest one, two, three;
    put_image(fixture, "one", "v1", "1", &one);
    put_image(fixture, "two", "v1", "2", &two);
    three = put_text(fixture, "3");
    struct pins *pins = pins_of(fixture, patterns[0]);
    assert_true(pins_renew(pins, NULL));
    assert_true(is_pinned(fixture, &one));
    assert_false(is_pinned(fixture, &two));
    pins_take(pins, pins_prepare(patterns[0]));
    assert_false(pins_want_renewal(pins)); /* they are the same */
    pins_take(pins, pins_prepare(patterns[1]));
    pins_add(pins, repository_named(HOST, "two"), &three);
    assert_true(is_pinned(fixture, &three)); /* at once, also before a renewal */
    assert_true(pins_want_renewal(pins));
    assert_true(pins_renew(pins, NULL));
    assert_false(is_pinned(fixture, &one));
    assert_true(is_pinned(fixture, &two));
    pins_take(pins, pins_prepare(patterns[2]));
    assert_true(pins_want_renewal(pins));
    assert_true(pins_renew(pins, NULL));
    assert_false(is_pinned(fixture, &two));
    assert_false(is_pinned(fixture, &three));
    pins_give_up(pins_prepare(patterns[1]));
    pins_free(pins);
}

static void test_a_pattern_without_a_tag_pins_all_that_the_repository_holds(void **state) {
    struct fixture *fixture = *state;
    static const char *const patterns[] = {HOST "/team/*", NULL};
    struct pins *pins = pins_of(fixture, patterns);
    struct digest layer, other_layer;
    struct digest manifest = put_image(fixture, "team/app", "1", "layer", &layer);
    struct digest other = put_image(fixture, "else/app", "1", "other layer", &other_layer);
    assert_true(pins_renew(pins, NULL));
    assert_true(is_pinned(fixture, &layer) && is_pinned(fixture, &manifest));
    assert_false(is_pinned(fixture, &other_layer) || is_pinned(fixture, &other));
    pins_free(pins);
}

static void test_a_pattern_with_a_tag_pins_what_matching_tags_name(void **state) {
    struct fixture *fixture = *state;
    static const char *const patterns[] = {HOST "/app:v1.*", NULL};
    struct pins *pins = pins_of(fixture, patterns);
    struct digest layer, old_layer;
    struct digest manifest = put_image(fixture, "app", "v1.2", "layer", &layer);
    struct digest old = put_image(fixture, "app", "v0.9", "old layer", &old_layer);
    assert_true(pins_renew(pins, NULL));
    assert_true(is_pinned(fixture, &layer) && is_pinned(fixture, &manifest));
    assert_false(is_pinned(fixture, &old_layer) || is_pinned(fixture, &old));
    pins_free(pins);
}

static void test_what_arrives_is_pinned_until_a_renewal_knows_better(void **state) {
    struct fixture *fixture = *state;
    static const char *const patterns[] = {HOST "/all", HOST "/app:v1", NULL};
    struct pins *pins = pins_of(fixture, patterns);
    struct digest all = put_text(fixture, "all"), app = put_text(fixture, "app"),
                  other = put_text(fixture, "other");
    assert_true(store_link_blob(fixture->store, repository_named(HOST, "all"), &all, NULL));
    assert_true(store_link_blob(fixture->store, repository_named(HOST, "app"), &app, NULL));
    pins_add(pins, repository_named(HOST, "other"), &other);
    pins_add(pins, repository_named(HOST, "all"), &all);
    assert_true(is_pinned(fixture, &all));
    assert_false(is_pinned(fixture, &other));
    assert_false(pins_want_renewal(pins));
    pins_add(pins, repository_named(HOST, "app"), &app);
    assert_true(is_pinned(fixture, &app));
    assert_true(pins_want_renewal(pins));
    assert_true(pins_renew(pins, NULL));
    assert_false(pins_want_renewal(pins));
    assert_true(is_pinned(fixture, &all));
    assert_false(is_pinned(fixture, &app));
    pins_free(pins);
}

static void test_a_renewal_that_is_cancelled_drops_no_pin(void **state) {
    struct fixture *fixture = *state;
    static const char *const patterns[] = {HOST "/app:v1", NULL};
    const atomic_bool stopping = true;
    const struct cancel cancel = {.stop = &stopping};
    struct pins *pins = pins_of(fixture, patterns);
    struct digest layer;
    put_image(fixture, "app", "v2", "layer", &layer);
    pins_add(pins, repository_named(HOST, "app"), &layer);
    assert_false(pins_renew(pins, &cancel));
    assert_true(is_pinned(fixture, &layer));
    assert_true(pins_renew(pins, NULL));
    assert_false(is_pinned(fixture, &layer));
    pins_free(pins);
}

static void test_a_stopped_cache_is_pinned_as_a_running_one(void **state) {
    struct fixture *fixture = *state;
    static const char *const patterns[] = {HOST "/app", NULL};
    struct digest layer;
    put_image(fixture, "app", "v1", "layer", &layer);
    reopen(fixture);
    scan(fixture);
    assert_false(is_pinned(fixture, &layer));
    assert_true(pins_apply(fixture->store, patterns, NULL));
    assert_true(is_pinned(fixture, &layer));
    assert_true(pins_apply(fixture->store, NULL, NULL));
}

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_without_patterns_there_are_no_pins),
        STORE_TEST(test_other_patterns_take_the_place_of_those_before),
        STORE_TEST(test_a_pattern_without_a_tag_pins_all_that_the_repository_holds),
        STORE_TEST(test_a_pattern_with_a_tag_pins_what_matching_tags_name),
        STORE_TEST(test_what_arrives_is_pinned_until_a_renewal_knows_better),
        STORE_TEST(test_a_renewal_that_is_cancelled_drops_no_pin),
        STORE_TEST(test_a_stopped_cache_is_pinned_as_a_running_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
