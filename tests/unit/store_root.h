/* A store in a directory of its own for each test, and ways to look at and spoil its files. */
#ifndef TEST_STORE_ROOT_H
#define TEST_STORE_ROOT_H

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/cleanup.h"
#include "oci/digest.h"
#include "store/blobs.h"
#include "store/partials.h"
#include "store/records.h"
#include "store/store.h"
#include "store/usage.h"

struct fixture {
    char root[64];
    struct store *store;
};

static inline int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    /* In memory where there is such a file system: the tests sync a lot, and see none of it. */
    strcpy(fixture->root, "/dev/shm/tarn-store-XXXXXX");
    if (!mkdtemp(fixture->root)) {
        strcpy(fixture->root, "/tmp/tarn-store-XXXXXX");
        assert_non_null(mkdtemp(fixture->root));
    }
    struct error error = {0};
    fixture->store = store_open(fixture->root, &error);
    assert_string_equal(error.text, "");
    assert_non_null(fixture->store);
    *state = fixture;
    return 0;
}

static inline int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static inline int teardown(void **state) {
    struct fixture *fixture = *state;
    store_close(fixture->store);
    nftw(fixture->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

/* What a new process finds: the same files, nothing in memory. */
static inline void reopen(struct fixture *fixture) {
    store_close(fixture->store);
    fixture->store = store_open(fixture->root, NULL);
    assert_non_null(fixture->store);
}

static inline void path_in(const struct fixture *fixture, const char *name, char out[1024]) {
    snprintf(out, 1024, "%s/%s", fixture->root, name);
}

static inline bool exists(const struct fixture *fixture, const char *name) {
    char path[1024];
    path_in(fixture, name, path);
    struct stat info;
    return lstat(path, &info) == 0;
}

static inline void write_raw(const struct fixture *fixture, const char *name, const void *bytes,
                             size_t length) {
    char path[1024];
    path_in(fixture, name, path);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), length);
}

static inline size_t read_raw(const struct fixture *fixture, const char *name, char *out,
                              size_t size) {
    char path[1024];
    path_in(fixture, name, path);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t length = read(fd, out, size);
    assert_true(length >= 0);
    return (size_t)length;
}

static inline void set_age(const struct fixture *fixture, const char *name, int64_t age_s) {
    char path[1024];
    path_in(fixture, name, path);
    struct timespec times[2] = {{.tv_sec = time(NULL) - age_s}, {.tv_sec = time(NULL) - age_s}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static inline int64_t age_of(const struct fixture *fixture, const char *name) {
    char path[1024];
    path_in(fixture, name, path);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    struct timespec now; /* not time(), which may be some ms behind the clock of the store */
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - info.st_mtim.tv_sec;
}

static inline struct digest digest_of_text(const char *text) {
    struct digest digest;
    assert_true(digest_of(DIGEST_SHA256, text, strlen(text), &digest));
    return digest;
}

/* Opens and closes it, which is a use. */
static inline void use_blob(const struct fixture *fixture, const struct digest *digest) {
    int fd = store_blob_open(fixture->store, digest, NULL, NULL);
    assert_true(fd >= 0);
    store_blob_close(fixture->store, digest, fd);
}

/* "blobs/sha256/ab/abcd…"; until the next call. */
static inline const char *blob_name(const struct digest *digest) {
    static char name[256];
    char text[DIGEST_STRING_SIZE];
    digest_format(digest, text);
    snprintf(name, sizeof name, "blobs/%.6s/%.2s/%s", text, text + 7, text + 7);
    return name;
}

/* FOLDER "/sha256-abcd…" SUFFIX; until the next call. */
static inline const char *flat_name(const char *folder, const struct digest *digest,
                                    const char *suffix) {
    static char name[256];
    char text[DIGEST_STRING_SIZE];
    digest_format(digest, text);
    snprintf(name, sizeof name, "%s/%.6s-%s%s", folder, text, text + 7, suffix);
    return name;
}

/* Puts the bytes of `text`. */
static inline struct digest put_text(const struct fixture *fixture, const char *text) {
    struct digest digest = digest_of_text(text);
    struct error error = {0};
    store_blob_put(fixture->store, &digest, text, strlen(text), &error);
    assert_string_equal(error.text, "");
    return digest;
}

/* The name of a repository; until the next call of this thread. */
static inline const struct repository_name *repository_named(const char *host, const char *path) {
    static _Thread_local struct repository_name name;
    assert_true(repository_name_parse(text_of(host), text_of(path), &name));
    return &name;
}

static inline void scan(const struct fixture *fixture) {
    const atomic_bool stop = false;
    struct error error = {0};
    assert_true(store_scan(fixture->store, &stop, &error));
}

static struct store_usage seen_on_disk_;

static inline int see_blob_(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    struct digest digest;
    char text[DIGEST_STRING_SIZE];
    const char *name = path + ftw->base;
    snprintf(text, sizeof text, "%s:%s", strlen(name) == 64 ? "sha256" : "sha512", name);
    if (type == FTW_F && S_ISREG(info->st_mode) && digest_parse(text_of(text), &digest)) {
        seen_on_disk_.bytes += (uint64_t)info->st_size;
        seen_on_disk_.blobs++;
    }
    return 0;
}

/* That each blob of the index is on the disk and has that size; `all`: and no others are there. */
static inline void assert_index_is_what_is_on_disk(const struct fixture *fixture, bool all) {
    char path[1024];
    struct store_usage usage, found = {0};
    struct store_blob blob;
    for (uint32_t cursor = 0; store_blob_next(fixture->store, &cursor, &blob);) {
        uint64_t size = 0;
        assert_true(store_blob_has(fixture->store, &blob.digest, &size));
        assert_int_equal(size, blob.size);
        assert_false(blob.in_use);
        found.bytes += size;
        found.blobs++;
    }
    store_usage(fixture->store, &usage);
    assert_int_equal(usage.bytes, found.bytes);
    assert_int_equal(usage.blobs, found.blobs);
    if (!all)
        return;
    seen_on_disk_ = (struct store_usage){0};
    path_in(fixture, "blobs", path);
    nftw(path, see_blob_, 16, FTW_PHYS);
    assert_int_equal(usage.bytes, seen_on_disk_.bytes);
    assert_int_equal(usage.blobs, seen_on_disk_.blobs);
}

#endif
