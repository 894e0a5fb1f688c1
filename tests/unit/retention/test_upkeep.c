/* The background threads: what they do first, that they stop at once, and their names. */
#include <dirent.h>
#include "base/clock.h"
#include "base/log.h"
#include "retention/upkeep.h"
#include "store_root.h"

enum { PATIENCE_MS = 30000, POLL_MS = 5 };

/* Asserts that `condition` becomes true. */
#define wait_until(condition)                                                                      \
    do {                                                                                           \
        int64_t until_ms_ = clock_ms() + PATIENCE_MS;                                              \
        while (!(condition) && clock_ms() < until_ms_)                                             \
            clock_sleep_ms(POLL_MS);                                                               \
        assert_true(condition);                                                                    \
    } while (0)

static struct digest put(struct fixture *fixture, const char *bytes, size_t length) {
    struct digest digest;
    assert_true(digest_of(DIGEST_SHA256, bytes, length, &digest));
    assert_true(store_blob_put(fixture->store, &digest, bytes, length, NULL));
    return digest;
}

static bool has_thread(const char *name) {
    DIR *tasks = opendir("/proc/self/task");
    bool found = false;
    assert_non_null(tasks);
    for (struct dirent *entry; !found && (entry = readdir(tasks));) {
        char path[64], comm[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%.20s/comm", entry->d_name);
        cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, comm, sizeof comm - 1);
        found = length > 0 && strncmp(comm, name, strlen(name)) == 0;
    }
    closedir(tasks);
    return found;
}

static void test_a_cache_over_its_limit_is_brought_under_it_after_a_restart(void **state) {
    struct fixture *fixture = *state;
    static const char *const pin[] = {"h.io/app", NULL};
    /* Space for one large blob, the small ones and the directories. */
    const struct upkeep_settings settings = {.max_size = 300 << 10, .pin = pin};
    static char large[200 << 10] = "old", newer[200 << 10] = "new";
    struct digest pinned = put_text(fixture, "pinned"), old = put(fixture, large, sizeof large),
                  new = put(fixture, newer, sizeof newer);
    assert_true(store_link_blob(fixture->store, repository_named("h.io", "app"), &pinned, NULL));
    set_age(fixture, blob_name(&pinned), 9000);
    set_age(fixture, blob_name(&old), 8000);
    reopen(fixture);
    struct upkeep *upkeep = upkeep_new(&settings, fixture->store);
    assert_non_null(upkeep);
    assert_true(upkeep_start(upkeep, NULL));
    wait_until(!store_blob_has(fixture->store, &old, NULL));
    assert_true(store_blob_has(fixture->store, &pinned, NULL));
    assert_true(store_blob_has(fixture->store, &new, NULL));
    upkeep_stop(upkeep);
    upkeep_free(upkeep);
}

static void test_the_threads_are_named_and_stop_without_a_wait(void **state) {
    struct fixture *fixture = *state;
    const struct upkeep_settings settings = {.scrub_s = 3600};
    struct upkeep *upkeep = upkeep_new(&settings, fixture->store);
    assert_non_null(upkeep);
    upkeep_stop(upkeep); /* never started */
    upkeep_free(upkeep);
    upkeep = upkeep_new(&settings, fixture->store);
    assert_true(upkeep_start(upkeep, NULL));
    wait_until(has_thread("keeper") && has_thread("scrubber"));
    int64_t began_ms = clock_ms();
    upkeep_free(upkeep);
    /* The scrubber's first pause is a minute. */
    assert_in_range(clock_ms() - began_ms, 0, PATIENCE_MS);
    assert_false(has_thread("keeper") || has_thread("scrubber"));
    upkeep_free(NULL);
}

int main(void) {
    log_configure(LOG_ERROR + 1, LOG_TEXT);
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_a_cache_over_its_limit_is_brought_under_it_after_a_restart),
        STORE_TEST(test_the_threads_are_named_and_stop_without_a_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
