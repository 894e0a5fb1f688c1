/*
 * The store while the calls that it makes fail: the nth system call or allocation alone (a passing
 * fault), or the nth and all after it (a full or dying disk, no memory), for n = 1, 2, ... until
 * nothing fails any more. Whichever call failed, no wrong bytes become visible, a blob or record
 * that the store said to have kept is kept, the index knows no blob that is not there, and no
 * descriptor, hold or memory is left behind.
 *
 * System calls are replaced by the definitions below, which the linker prefers to libc's, and what
 * libc and the sanitizers call themselves by the linker's --wrap (see meson.build).
 */
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include "store_root.h"

enum what {
    READING = 1,    /* system calls that change nothing */
    WRITING = 2,    /* system calls that change something */
    ALLOCATING = 4, /* memory */
};

static struct {
    bool armed, lasting;
    unsigned what; /* that can fail */
    int countdown; /* calls until the first that fails */
    int reason;
    bool fired;
} fault;

static void arm(unsigned what, int reason, bool lasting, int n) {
    fault.what = what;
    fault.reason = reason;
    fault.lasting = lasting;
    fault.countdown = n;
    fault.fired = false;
    fault.armed = true;
}

static bool fails(enum what what) {
    if (!fault.armed || !(fault.what & what) || (fault.countdown > 0 && fault.countdown-- > 1))
        return false;
    if (fault.fired && !fault.lasting)
        return false;
    fault.fired = true;
    errno = what == ALLOCATING ? ENOMEM : fault.reason;
    return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
struct evp_md_ctx_st *__real_EVP_MD_CTX_new(void);
struct dirent *__real_readdir64(DIR *directory);
void *__real_mmap64(void *start, size_t length, int protection, int flags, int fd, off_t at);
void *__wrap_mmap64(void *start, size_t length, int protection, int flags, int fd, off_t at);
DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
int __real_fstatvfs64(int fd, struct statvfs *out);
int __wrap_fstatvfs64(int fd, struct statvfs *out);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);
struct evp_md_ctx_st *__wrap_EVP_MD_CTX_new(void);
struct dirent *__wrap_readdir64(DIR *directory);

void *__wrap_malloc(size_t size) {
    return fails(ALLOCATING) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails(ALLOCATING) ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size) {
    return fails(ALLOCATING) ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text) {
    return fails(ALLOCATING) ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t size) {
    return fails(ALLOCATING) ? NULL : __real_strndup(text, size);
}

struct evp_md_ctx_st *__wrap_EVP_MD_CTX_new(void) {
    return fails(ALLOCATING) ? NULL : __real_EVP_MD_CTX_new();
}

struct dirent *__wrap_readdir64(DIR *directory) {
    return fails(READING) ? NULL : __real_readdir64(directory);
}

DIR *__wrap_fdopendir(int fd) {
    return fails(READING) ? NULL : __real_fdopendir(fd);
}

int __wrap_fstatvfs64(int fd, struct statvfs *out) {
    return fails(READING) ? -1 : __real_fstatvfs64(fd, out);
}

void *__wrap_mmap64(void *start, size_t length, int protection, int flags, int fd, off_t at) {
    return fails(READING) ? MAP_FAILED : __real_mmap64(start, length, protection, flags, fd, at);
}

int fstat(int fd, struct stat *out) {
    return fails(READING) ? -1 : (int)syscall(SYS_fstat, fd, out);
}

int flock(int fd, int operation) {
    return fails(READING) ? -1 : (int)syscall(SYS_flock, fd, operation);
}

int mincore(void *start, size_t length, unsigned char *pages) {
    return fails(READING) ? -1 : (int)syscall(SYS_mincore, start, length, pages);
}

int fstatat(int directory, const char *restrict path, struct stat *restrict out, int flags) {
    return fails(READING) ? -1 : (int)syscall(SYS_newfstatat, directory, path, out, flags);
}

int faccessat(int directory, const char *path, int mode, int flags) {
    return fails(READING) ? -1 : (int)syscall(SYS_faccessat2, directory, path, mode, flags);
}

int utimensat(int directory, const char *path, const struct timespec times[2], int flags) {
    return fails(WRITING) ? -1 : (int)syscall(SYS_utimensat, directory, path, times, flags);
}

int futimens(int fd, const struct timespec times[2]) {
    return fails(WRITING) ? -1 : (int)syscall(SYS_utimensat, fd, NULL, times, 0);
}

int syncfs(int fd) {
    return fails(READING) ? -1 : (int)syscall(SYS_syncfs, fd);
}

int openat(int directory, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    int mode = flags & O_CREAT ? va_arg(arguments, int) : 0;
    va_end(arguments);
    bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
    return fails(writes ? WRITING : READING)
               ? -1
               : (int)syscall(SYS_openat, directory, path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (fails(WRITING)) {
        /* A disk that becomes full during a write keeps the first half. */
        syscall(SYS_write, fd, bytes, length / 2);
        errno = fault.reason;
        return -1;
    }
    return syscall(SYS_write, fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    if (fails(WRITING))
        return syscall(SYS_pwrite64, fd, bytes, length / 2, at); /* short, and no errno */
    return syscall(SYS_pwrite64, fd, bytes, length, at);
}

ssize_t pread(int fd, void *bytes, size_t length, off_t at) {
    return fails(READING) ? -1 : syscall(SYS_pread64, fd, bytes, length, at);
}

int fsync(int fd) {
    return fails(WRITING) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return fails(WRITING) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t length) {
    return fails(WRITING) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

/* Called once after the next rename that succeeds. */
static void (*after_rename)(void);

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    void (*then)(void) = after_rename;
    if (fails(WRITING))
        return -1;
    int result = (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, 0);
    if (result == 0 && then) {
        after_rename = NULL;
        then();
    }
    return result;
}

int mkdirat(int directory, const char *path, mode_t mode) {
    return fails(WRITING) ? -1 : (int)syscall(SYS_mkdirat, directory, path, mode);
}

int unlinkat(int directory, const char *path, int flags) {
    return fails(WRITING) ? -1 : (int)syscall(SYS_unlinkat, directory, path, flags);
}

#define HOST "ghcr.io"
#define NAME "org/app"
#define TYPE "application/vnd.oci.image.manifest.v1+json"

static const char layer[] = "the bytes of a layer";
static const char manifest[] = "the bytes of a manifest";

/* What the store said to have kept. */
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
    /* Directly, because the flight's own writes are not to fail here. */
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
    if (count) { /* some bytes may be lost, but no others may be listed */
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
    kept->link = store_link_blob(store, repository_named(HOST, NAME), layer_digest, NULL);
    kept->manifest_link =
        store_link_manifest(store, repository_named(HOST, NAME), manifest_digest, TYPE, NULL);
    kept->tag = store_tag_put(store, repository_named(HOST, NAME), "v1", &record, NULL);
    cleanup_buffer struct buffer out = {0};
    struct error error = {0};
    if (!store_blob_read(store, manifest_digest, 100, &out, &error))
        assert_int_not_equal(error.kind, ERROR_CORRUPT);
    store_partials_clean(store, 0);
}

static bool always(void *context, const struct repository_name *name) {
    ++*(int *)context;
    assert_string_equal(name->host, HOST);
    assert_string_equal(name->path, NAME);
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
    assert_true(!kept->link ||
                store_has_link_blob(store, repository_named(HOST, NAME), layer_digest, NULL));
    char type[128] = TYPE;
    bool linked = store_has_link_manifest(store, repository_named(HOST, NAME), manifest_digest,
                                          type, sizeof type);
    assert_true(linked || !kept->manifest_link);
    assert_string_equal(type, TYPE);
    struct tag_record record;
    bool tagged = store_tag_get(store, repository_named(HOST, NAME), "v1", &record);
    assert_true(tagged || !kept->tag);
    if (tagged)
        assert_true(digest_equal(&record.digest, manifest_digest));
    int repositories = 0;
    assert_true(store_repositories(store, NULL, NULL, always, &repositories, NULL));
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

/* The promises hold while fetching, putting, linking and tagging fail. */
static void run(struct fixture *fixture, unsigned what, int reason, bool lasting) {
    struct digest layer_digest, manifest_digest;
    assert_true(digest_of(DIGEST_SHA256, layer, sizeof layer, &layer_digest));
    assert_true(digest_of(DIGEST_SHA256, manifest, sizeof manifest, &manifest_digest));
    int descriptors = open_descriptors();
    int n = 1;
    for (bool fired = true; fired; n++) {
        clear_root(fixture);
        struct promises kept = {0};
        arm(what, reason, lasting, n);
        use(fixture->store, &layer_digest, &manifest_digest, &kept);
        fault.armed = false;
        fired = fault.fired;
        assert_index_is_what_is_on_disk(fixture, false);
        check(fixture, &layer_digest, &manifest_digest, &kept);
        assert_int_equal(open_descriptors(), descriptors);
        if (!fired)
            assert_true(kept.layer && kept.manifest && kept.link && kept.manifest_link && kept.tag);
        /* The store recovers by itself. */
        use(fixture->store, &layer_digest, &manifest_digest, &kept);
        assert_true(kept.layer && kept.manifest && kept.link && kept.manifest_link && kept.tag);
        scan(fixture);
        assert_index_is_what_is_on_disk(fixture, true);
        check(fixture, &layer_digest, &manifest_digest, &kept);
    }
    assert_true(n > (what & ALLOCATING ? 8 : 40)); /* the faults reached the calls */
}

static void test_one_failing_call_breaks_no_promise(void **state) {
    run(*state, READING | WRITING, EIO, false);
}

static void test_a_full_disk_breaks_no_promise_and_is_recovered_from(void **state) {
    run(*state, WRITING, ENOSPC, true);
}

static void test_a_dead_disk_breaks_no_promise_and_is_recovered_from(void **state) {
    run(*state, READING | WRITING, EIO, true);
}

static void test_one_failing_allocation_breaks_no_promise(void **state) {
    run(*state, ALLOCATING, ENOMEM, false);
}

static void test_no_memory_breaks_no_promise_and_is_recovered_from(void **state) {
    run(*state, ALLOCATING, ENOMEM, true);
}

static void test_a_full_disk_is_told_apart(void **state) {
    struct fixture *fixture = *state;
    struct digest digest = digest_of_text("a");
    struct error error = {0};
    arm(READING | WRITING, ENOSPC, true, 1);
    bool kept = store_blob_put(fixture->store, &digest, "a", 1, &error);
    fault.armed = false;
    assert_false(kept);
    assert_int_equal(error.kind, ERROR_NO_SPACE);
}

/* ---- what goes on behind the requests ---- */

/* A digest, computed while nothing fails. */
static struct digest named(const char *text) {
    bool armed = fault.armed;
    fault.armed = false;
    struct digest digest = digest_of_text(text);
    fault.armed = armed;
    return digest;
}

/* Blobs "oldest", "second", "third" and "rotten", all but the last linked and tagged; and records
 * of one that is gone. */
static void fill(struct fixture *fixture) {
    static const char *const texts[] = {"oldest", "second", "third", "rotten"};
    struct digest gone = named("gone");
    for (int i = 0; i < 4; i++) {
        struct digest digest = put_text(fixture, texts[i]);
        struct tag_record record = {.digest = digest, .media_type = TYPE, .checked_s = 1};
        set_age(fixture, blob_name(&digest), 1000 * (10 - i));
        if (i == 3)
            write_raw(fixture, blob_name(&digest), "ROTTEN", 6);
        assert_true(store_link_blob(fixture->store, repository_named(HOST, NAME), &digest, NULL));
        assert_true(
            store_link_manifest(fixture->store, repository_named(HOST, NAME), &digest, TYPE, NULL));
        assert_true(
            store_tag_put(fixture->store, repository_named(HOST, NAME), texts[i], &record, NULL));
    }
    assert_true(store_link_blob(fixture->store, repository_named(HOST, "gone"), &gone, NULL));
    assert_true(
        store_link_manifest(fixture->store, repository_named(HOST, "gone"), &gone, TYPE, NULL));
    partial_free(store_partial_open(fixture->store, &gone, NULL));
    store_partials_clean(fixture->store, 0);
}

struct seen {
    int tags, links, repositories, evictable;
};

static bool see_tag(void *context, const char *tag, const struct tag_record *record) {
    struct digest digest = named(tag);
    assert_true(digest_equal(&digest, &record->digest));
    ((struct seen *)context)->tags++;
    return true;
}

static bool see_link(void *context, const struct digest *digest) {
    ((struct seen *)context)->links += digest->algorithm == DIGEST_SHA256;
    return true;
}

static bool see_repository(void *context, const struct repository_name *name) {
    assert_string_equal(name->host, HOST);
    assert_true(strcmp(name->path, NAME) == 0 || strcmp(name->path, "gone") == 0);
    ((struct seen *)context)->repositories++;
    return true;
}

static bool see_evictable(void *context, const struct store_blob *blob) {
    (void)blob;
    ((struct seen *)context)->evictable++;
    return true;
}

/* What the store said to have done. */
struct deeds {
    bool scanned, evicted, removed, swept;
    struct store_blob victim;
    struct seen seen;
};

static void look_around(struct store *store, const struct digest *third, struct deeds *done) {
    struct error error = {0};
    bool ok = store_tags(store, repository_named(HOST, NAME), see_tag, &done->seen, &error) &&
              store_links(store, repository_named(HOST, NAME), LINK_BLOB, see_link, &done->seen,
                          &error) &&
              store_links(store, repository_named(HOST, NAME), LINK_MANIFEST, see_link, &done->seen,
                          &error) &&
              store_repositories_all(store, NULL, see_repository, &done->seen, &error) &&
              store_sync_blob_links(store, repository_named(HOST, NAME), DIGEST_SHA256, &error);
    if (!ok)
        assert_int_not_equal(error.kind, ERROR_NONE);
    store_evictable(store, INT64_MAX, see_evictable, &done->seen);
    if (!store_blob_verify(store, third, 0, NULL, NULL, &error)) {
        assert_int_not_equal(error.kind, ERROR_NONE);
        assert_int_not_equal(error.kind, ERROR_CORRUPT);
    }
}

static bool is_there(struct store *store, const struct digest *digest) {
    bool armed = fault.armed;
    fault.armed = false;
    bool there = store_blob_has(store, digest, NULL);
    fault.armed = armed;
    return there;
}

static void do_all(struct store *store, struct deeds *done) {
    struct digest second = named("second"), third = named("third"), rotten = named("rotten");
    struct error error = {0};
    uint64_t size, deleted;
    int fd = store_blob_open(store, &third, NULL, &error);
    if (fd < 0)
        assert_int_not_equal(error.kind, ERROR_NONE);
    done->scanned = store_scan(store, NULL, &error);
    if (!done->scanned)
        assert_int_not_equal(error.kind, ERROR_NONE);
    store_pins_begin(store);
    store_pin(store, &third);
    store_pins_end(store);
    store_blob_touch(store, &third);
    look_around(store, &third, done);
    cleanup_buffer struct buffer out = {0};
    assert_false(
        store_blob_read(store, &rotten, 100, &out, &error)); /* wrong bytes are never read */
    assert_int_equal(out.length, 0);
    done->evicted = store_evict(store, INT64_MAX, &done->victim, &error);
    if (!done->evicted)
        assert_true(error.kind == ERROR_NOT_FOUND || error.kind == ERROR_IO ||
                    error.kind == ERROR_NO_SPACE);
    bool there = is_there(store, &second);
    done->removed = store_blob_remove(store, &second, &size, &error);
    if (done->removed)
        assert_int_equal(size, there ? 6 : 0);
    done->swept = store_sweep(store, 0, NULL, &deleted, &error);
    store_blob_close(store, &third, fd);
}

static void check_deeds(struct fixture *fixture, const struct deeds *done) {
    struct digest third = named("third"), second = named("second");
    struct store_usage usage;
    assert_true(!done->removed || !store_blob_has(fixture->store, &second, NULL));
    assert_true(!done->evicted || !store_blob_has(fixture->store, &done->victim.digest, NULL));
    cleanup_buffer struct buffer out = {0};
    if (!done->evicted || !digest_equal(&done->victim.digest, &third)) {
        assert_true(store_blob_read(fixture->store, &third, 100, &out, NULL));
        assert_string_equal(out.bytes, "third");
        assert_true(
            store_has_link_blob(fixture->store, repository_named(HOST, NAME), &third, NULL));
    }
    store_usage(fixture->store, &usage);
    assert_int_equal(usage.complete, done->scanned);
}

/* The index after a scan, eviction, removal and sweep in which something failed. */
static void run_behind(struct fixture *fixture, unsigned what, int reason, bool lasting) {
    int descriptors = open_descriptors();
    int n = 1;
    unsigned unread = 0;
    for (bool fired = true; fired; n++) {
        struct store_usage usage;
        clear_root(fixture);
        fill(fixture);
        reopen(fixture);
        struct deeds done = {0};
        arm(what, reason, lasting, n);
        do_all(fixture->store, &done);
        fault.armed = false;
        fired = fault.fired;
        assert_int_equal(open_descriptors(), descriptors);
        assert_index_is_what_is_on_disk(fixture, false);
        check_deeds(fixture, &done);
        /* Another scan finds what this one missed. */
        store_usage(fixture->store, &usage);
        unread += usage.unread;
        scan(fixture);
        store_usage(fixture->store, &usage);
        assert_int_equal(usage.unread, 0);
        assert_index_is_what_is_on_disk(fixture, true);
        if (!fired) {
            assert_true(done.scanned && done.evicted && done.removed && done.swept);
            assert_int_equal(done.seen.tags, 4);
            assert_int_equal(done.seen.links, 8);
            assert_int_equal(done.seen.repositories, 2);
            assert_int_equal(done.seen.evictable, 3);
        }
        reopen(fixture);
        done = (struct deeds){0};
        do_all(fixture->store, &done);
        assert_true(done.scanned && done.removed && done.swept);
        assert_index_is_what_is_on_disk(fixture, true);
        assert_false(exists(fixture, "repositories/" HOST "/gone"));
    }
    assert_true(n > (what & ALLOCATING ? 8 : 60));
    assert_true(unread > 0 || !(what & READING));
}

static void test_one_failing_call_leaves_the_index_right(void **state) {
    run_behind(*state, READING | WRITING, EIO, false);
}

static void test_a_dead_disk_leaves_the_index_right(void **state) {
    run_behind(*state, READING | WRITING, EIO, true);
}

static void test_one_failing_allocation_leaves_the_index_right(void **state) {
    run_behind(*state, ALLOCATING, ENOMEM, false);
}

static void test_no_memory_leaves_the_index_right(void **state) {
    run_behind(*state, ALLOCATING, ENOMEM, true);
}

static void test_a_store_that_cannot_be_opened_leaves_nothing_behind(void **state) {
    struct fixture *fixture = *state;
    store_close(fixture->store);
    int descriptors = open_descriptors(), n = 1;
    fixture->store = NULL;
    for (; !fixture->store; n++) {
        struct error error = {0};
        arm(READING | WRITING | ALLOCATING, EIO, false, n);
        fixture->store = store_open(fixture->root, &error);
        bool fired = fault.fired;
        fault.armed = false;
        assert_true(fixture->store || error.kind != ERROR_NONE);
        if (fixture->store && fired) { /* the call that failed was not needed */
            store_close(fixture->store);
            fixture->store = NULL;
        }
        assert_true(fixture->store || open_descriptors() == descriptors);
    }
    assert_true(n > 3);
}

/* ---- a sweep between two calls ---- */

static struct store *swept;

static void sweep_all(void) {
    uint64_t deleted;
    assert_true(store_sweep(swept, 0, NULL, &deleted, NULL));
    assert_int_equal(deleted, 1);
}

/* The sweep may delete a record and its directory between the rename that gives the record its name
 * and the sync of the directory. */
static void test_a_record_that_is_swept_at_once_is_no_failure(void **state) {
    struct fixture *fixture = *state;
    const struct repository_name *app = repository_named(HOST, NAME);
    struct digest gone = digest_of_text("gone");
    struct tag_record record = {.digest = gone, .media_type = TYPE, .checked_s = 1};
    struct error error = {0};
    scan(fixture);
    swept = fixture->store;
    after_rename = sweep_all;
    assert_true(store_tag_put(fixture->store, app, "v1", &record, &error));
    assert_false(store_tag_get(fixture->store, app, "v1", &record));
    after_rename = sweep_all;
    assert_true(store_link_manifest(fixture->store, app, &gone, TYPE, &error));
    assert_null(after_rename);
    assert_false(exists(fixture, "repositories/" HOST));
}

/* ---- a read-only file system ---- */

static void test_a_read_only_root_is_read(void **state) {
    struct fixture *fixture = *state;
    fill(fixture);
    char lock[1024], missing[1024];
    path_in(fixture, "lock", lock);
    path_in(fixture, "missing", missing);
    struct digest third = named("third"), new = named("new");
    struct tag_record record = {.digest = third, .media_type = TYPE, .checked_s = 1};
    for (int round = 0; round < 2; round++) {
        store_close(fixture->store);
        if (round == 1) /* there is no lock file, and none can be made */
            assert_int_equal(unlink(lock), 0);
        arm(WRITING, EROFS, true, 1);
        fixture->store = store_open(fixture->root, NULL);
        assert_non_null(fixture->store);
        struct error error = {0};
        struct store *second = store_open(fixture->root, &error);
        assert_int_equal(second == NULL, round == 0);
        store_close(second);
        assert_int_equal(error.kind, round == 0 ? ERROR_BUSY : ERROR_NONE);
        scan(fixture);
        cleanup_buffer struct buffer out = {0};
        assert_true(store_blob_read(fixture->store, &third, 100, &out, NULL));
        assert_true(store_tag_get(fixture->store, repository_named(HOST, NAME), "third", &record));
        store_blob_touch(fixture->store, &third);
        assert_false(store_blob_put(fixture->store, &new, "new", 3, &error));
        assert_int_equal(error.kind, ERROR_IO);
        assert_null(store_partial_open(fixture->store, &new, &error));
        assert_false(
            store_tag_put(fixture->store, repository_named(HOST, NAME), "new", &record, &error));
        struct store_blob victim;
        assert_false(store_evict(fixture->store, INT64_MAX, &victim, &error));
        assert_int_equal(error.kind, ERROR_IO);
        fault.armed = false;
        assert_index_is_what_is_on_disk(fixture, true);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        STORE_TEST(test_one_failing_call_breaks_no_promise),
        STORE_TEST(test_a_full_disk_breaks_no_promise_and_is_recovered_from),
        STORE_TEST(test_a_dead_disk_breaks_no_promise_and_is_recovered_from),
        STORE_TEST(test_one_failing_allocation_breaks_no_promise),
        STORE_TEST(test_no_memory_breaks_no_promise_and_is_recovered_from),
        STORE_TEST(test_a_full_disk_is_told_apart),
        STORE_TEST(test_one_failing_call_leaves_the_index_right),
        STORE_TEST(test_a_dead_disk_leaves_the_index_right),
        STORE_TEST(test_one_failing_allocation_leaves_the_index_right),
        STORE_TEST(test_no_memory_leaves_the_index_right),
        STORE_TEST(test_a_store_that_cannot_be_opened_leaves_nothing_behind),
        STORE_TEST(test_a_record_that_is_swept_at_once_is_no_failure),
        STORE_TEST(test_a_read_only_root_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
