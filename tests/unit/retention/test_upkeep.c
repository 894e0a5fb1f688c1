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

static bool has(struct fixture *fixture, const char *text) {
    struct digest digest = digest_of_text(text);
    return store_blob_has(fixture->store, &digest, NULL);
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
    const struct upkeep_settings settings = {.max_size = 12, .pin = pin};
    struct digest pinned = put_text(fixture, "pinned"), old = put_text(fixture, "old blob");
    put_text(fixture, "new");
    assert_true(store_link_blob(fixture->store, repository_named("h.io", "app"), &pinned, NULL));
    set_age(fixture, blob_name(&pinned), 9000);
    set_age(fixture, blob_name(&old), 8000);
    reopen(fixture);
    struct upkeep *upkeep = upkeep_new(&settings, fixture->store);
    assert_non_null(upkeep);
    assert_true(upkeep_start(upkeep, NULL));
    wait_until(!has(fixture, "old blob"));
    assert_true(has(fixture, "pinned") && has(fixture, "new"));
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
