/*
 * The store while system calls fail: the nth one alone (a passing fault), or it and all after it (a
 * full or dying disk), n counted up until nothing fails any more. Whatever call was hit, nothing
 * wrong becomes visible, what was said to be kept is kept, and no descriptor is left open.
 *
 * The calls are replaced by the definitions below, which the linker prefers to libc's.
 */
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include "store_root.h"

static struct {
    bool armed, lasting;
    int countdown; /* calls until the first that fails */
    int reason;
    bool fired;
} fault;

static bool fails(void) {
    if (!fault.armed || (fault.countdown > 0 && fault.countdown-- > 1))
        return false;
    if (fault.fired && !fault.lasting)
        return false;
    fault.fired = true;
    errno = fault.reason;
    return true;
}

int openat(int directory, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & O_CREAT ? va_arg(arguments, int) : 0;
    va_end(arguments);
    return fails() ? -1 : (int)syscall(SYS_openat, directory, path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (fails()) {
        /* A disk that is full in mid-write keeps the first half. */
        syscall(SYS_write, fd, bytes, length / 2);
        errno = fault.reason;
        return -1;
    }
    return syscall(SYS_write, fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    if (fails())
        return syscall(SYS_pwrite64, fd, bytes, length / 2, at); /* short, and no errno */
    return syscall(SYS_pwrite64, fd, bytes, length, at);
}

ssize_t pread(int fd, void *bytes, size_t length, off_t at) {
    return fails() ? -1 : syscall(SYS_pread64, fd, bytes, length, at);
}

int fsync(int fd) {
    return fails() ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return fails() ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t length) {
    return fails() ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    return fails() ? -1 : (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, 0);
}

int mkdirat(int directory, const char *path, mode_t mode) {
    return fails() ? -1 : (int)syscall(SYS_mkdirat, directory, path, mode);
}

int unlinkat(int directory, const char *path, int flags) {
    return fails() ? -1 : (int)syscall(SYS_unlinkat, directory, path, flags);
}

#define HOST "ghcr.io"
#define NAME "org/app"
#define TYPE "application/vnd.oci.image.manifest.v1+json"

static const char layer[] = "the bytes of a layer";
static const char manifest[] = "the bytes of a manifest";

/* What the store said it had kept. */
struct promises {
    bool layer, manifest, link, manifest_link, tag;
};

static bool fetch_layer(struct store *store, const struct digest *digest) {
    struct error error = {0};
    struct partial *partial = store_partial_open(store, digest, &error);
    if (!partial) {
        assert_int_not_equal(error.kind, ERROR_NONE);
        return false;
    }
    /* By system call: the flight's own writes are not what fails here. */
    size_t half = sizeof layer / 2;
    syscall(SYS_pwrite64, partial_fd(partial), layer, half, 0L);
    bool ok =
        partial_set_size(partial, sizeof layer, &error) && partial_record(partial, 0, half, &error);
    partial_free(partial);

    partial = ok ? store_partial_open(store, digest, &error) : NULL;
    if (!partial)
        return false;
    const struct extent *extents;
    size_t count = partial_extents(partial, &extents);
    if (count) { /* less than all may be believed, but nothing that is not there */
        assert_int_equal(count, 1);
        assert_int_equal(extents[0].start, 0);
        assert_true(extents[0].end <= half);
    }
    syscall(SYS_pwrite64, partial_fd(partial), layer, sizeof layer, 0L);
    ok = partial_set_size(partial, sizeof layer, &error) && partial_commit(partial, &error);
    if (!ok) {
        assert_int_not_equal(error.kind, ERROR_NONE);
        partial_drop(partial);
    }
    partial_free(partial);
    return ok;
}

static void use(struct store *store, const struct digest *layer_digest,
                const struct digest *manifest_digest, struct promises *kept) {
    struct tag_record record = {.digest = *manifest_digest, .media_type = TYPE, .checked_s = 7};
    kept->layer = fetch_layer(store, layer_digest);
    kept->manifest = store_blob_put(store, manifest_digest, manifest, sizeof manifest, NULL);
    kept->link = store_link_blob(store, HOST, NAME, layer_digest, NULL);
    kept->manifest_link = store_link_manifest(store, HOST, NAME, manifest_digest, TYPE, NULL);
    kept->tag = store_tag_put(store, HOST, NAME, "v1", &record, NULL);
    cleanup_buffer struct buffer out = {0};
    struct error error = {0};
    if (!store_blob_read(store, manifest_digest, 100, &out, &error))
        assert_int_not_equal(error.kind, ERROR_CORRUPT);
    store_partials_clean(store, 0);
}

static bool always(void *context, const char *host, const char *repository) {
    ++*(int *)context;
    assert_string_equal(host, HOST);
    assert_string_equal(repository, NAME);
    return true;
}

static void check_blob(struct store *store, const struct digest *digest, const char *expected,
                       size_t size, bool promised) {
    cleanup_buffer struct buffer out = {0};
    struct error error = {0};
    bool found = store_blob_read(store, digest, 1000, &out, &error);
    if (!found)
        assert_int_equal(error.kind, ERROR_NOT_FOUND);
    assert_true(found || !promised);
    if (found) {
        assert_int_equal(out.length, size);
        assert_memory_equal(out.bytes, expected, size);
    }
}

static void check(struct fixture *fixture, const struct digest *layer_digest,
                  const struct digest *manifest_digest, const struct promises *kept) {
    reopen(fixture);
    struct store *store = fixture->store;
    check_blob(store, layer_digest, layer, sizeof layer, kept->layer);
    check_blob(store, manifest_digest, manifest, sizeof manifest, kept->manifest);
    assert_true(!kept->link || store_has_link_blob(store, HOST, NAME, layer_digest));
    char type[128] = TYPE;
    bool linked = store_has_link_manifest(store, HOST, NAME, manifest_digest, type, sizeof type);
    assert_true(linked || !kept->manifest_link);
    assert_string_equal(type, TYPE);
    struct tag_record record;
    bool tagged = store_tag_get(store, HOST, NAME, "v1", &record);
    assert_true(tagged || !kept->tag);
    if (tagged)
        assert_true(digest_equal(&record.digest, manifest_digest));
    int repositories = 0;
    assert_true(store_repositories(store, NULL, always, &repositories, NULL));
    assert_int_equal(repositories, linked ? 1 : 0);
}

static int open_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static void clear_root(struct fixture *fixture) {
    store_close(fixture->store);
    nftw(fixture->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    fixture->store = store_open(fixture->root, NULL);
    assert_non_null(fixture->store);
}

static void run(struct fixture *fixture, int reason, bool lasting) {
    struct digest layer_digest, manifest_digest;
    assert_true(digest_of(DIGEST_SHA256, layer, sizeof layer, &layer_digest));
    assert_true(digest_of(DIGEST_SHA256, manifest, sizeof manifest, &manifest_digest));
    int descriptors = open_descriptors();
    int n = 1;
    for (bool fired = true; fired; n++) {
        clear_root(fixture);
        struct promises kept = {0};
        fault.countdown = n;
        fault.lasting = lasting;
        fault.reason = reason;
        fault.fired = false;
        fault.armed = true;
        use(fixture->store, &layer_digest, &manifest_digest, &kept);
        fault.armed = false;
        fired = fault.fired;
        check(fixture, &layer_digest, &manifest_digest, &kept);
        assert_int_equal(open_descriptors(), descriptors);
        if (!fired)
            assert_true(kept.layer && kept.manifest && kept.link && kept.manifest_link && kept.tag);
        /* And it recovers by itself. */
        use(fixture->store, &layer_digest, &manifest_digest, &kept);
        assert_true(kept.layer && kept.manifest && kept.link && kept.manifest_link && kept.tag);
        check(fixture, &layer_digest, &manifest_digest, &kept);
    }
    assert_true(n > 40); /* the faults did reach the calls */
}

static void test_one_failing_call_breaks_no_promise(void **state) {
    run(*state, EIO, false);
}

static void test_a_full_disk_breaks_no_promise_and_is_recovered_from(void **state) {
    run(*state, ENOSPC, true);
}

static void test_a_full_disk_is_told_apart(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("a");
    struct error error = {0};
    fault.countdown = 1;
    fault.lasting = true;
    fault.reason = ENOSPC;
    fault.fired = false;
    fault.armed = true;
    bool kept = store_blob_put(fixture->store, &digest, "a", 1, &error);
    fault.armed = false;
    assert_false(kept);
    assert_int_equal(error.kind, ERROR_NO_SPACE);
}

#define STORE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_one_failing_call_breaks_no_promise),
        STORE_TEST(test_a_full_disk_breaks_no_promise_and_is_recovered_from),
        STORE_TEST(test_a_full_disk_is_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
