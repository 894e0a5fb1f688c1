/* A store in a directory of its own for each test. */
#include "store_root.h"

int store_root_setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    /* In memory if possible, because the tests sync a lot. */
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

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

int store_root_teardown(void **state) {
    struct fixture *fixture = *state;
    store_close(fixture->store);
    nftw(fixture->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

void clear_root(struct fixture *fixture) {
    store_close(fixture->store);
    nftw(fixture->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    fixture->store = store_open(fixture->root, NULL);
    assert_non_null(fixture->store);
}

void reopen(struct fixture *fixture) {
    store_close(fixture->store);
    fixture->store = store_open(fixture->root, NULL);
    assert_non_null(fixture->store);
}

void path_in(const struct fixture *fixture, const char *name, char out[1024]) {
    snprintf(out, 1024, "%s/%s", fixture->root, name);
}

bool exists(const struct fixture *fixture, const char *name) {
    char path[1024];
    path_in(fixture, name, path);
    struct stat info;
    return lstat(path, &info) == 0;
}

void write_raw(const struct fixture *fixture, const char *name, const void *bytes, size_t length) {
    char path[1024];
    path_in(fixture, name, path);
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), length);
}

size_t read_raw(const struct fixture *fixture, const char *name, char *out, size_t size) {
    char path[1024];
    path_in(fixture, name, path);
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t length = read(fd, out, size);
    assert_true(length >= 0);
    return (size_t)length;
}

void set_age(const struct fixture *fixture, const char *name, int64_t age_s) {
    char path[1024];
    path_in(fixture, name, path);
    struct timespec times[2] = {{.tv_sec = time(NULL) - age_s}, {.tv_sec = time(NULL) - age_s}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

int64_t age_of(const struct fixture *fixture, const char *name) {
    char path[1024];
    path_in(fixture, name, path);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    struct timespec now; /* not time(), which may be some ms behind the clock of the store */
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec - info.st_mtim.tv_sec;
}

struct digest digest_of_text(const char *text) {
    struct digest digest;
    assert_true(digest_of(DIGEST_SHA256, text, strlen(text), &digest));
    return digest;
}

void use_blob(const struct fixture *fixture, const struct digest *digest) {
    int fd = store_blob_open(fixture->store, digest, NULL, NULL);
    assert_true(fd >= 0);
    store_blob_close(fixture->store, digest, fd);
}

const char *blob_name(const struct digest *digest) {
    static char name[256];
    char text[DIGEST_STRING_SIZE];
    digest_format(digest, text);
    snprintf(name, sizeof name, "blobs/%.6s/%.2s/%s", text, text + 7, text + 7);
    return name;
}

const char *flat_name(const char *folder, const struct digest *digest, const char *suffix) {
    static char name[256];
    char text[DIGEST_STRING_SIZE];
    digest_format(digest, text);
    snprintf(name, sizeof name, "%s/%.6s-%s%s", folder, text, text + 7, suffix);
    return name;
}

struct digest put_text(const struct fixture *fixture, const char *text) {
    struct digest digest = digest_of_text(text);
    struct error error = {0};
    store_blob_put(fixture->store, &digest, text, strlen(text), &error);
    assert_string_equal(error.text, "");
    return digest;
}

const struct repository_name *repository_named(const char *host, const char *path) {
    static _Thread_local struct repository_name name;
    assert_true(repository_name_parse(text_of(host), text_of(path), &name));
    return &name;
}

void scan(const struct fixture *fixture) {
    struct error error = {0};
    assert_true(store_scan(fixture->store, NULL, &error));
}

static struct store_usage seen_on_disk;

static int see_blob(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    struct digest digest;
    char text[DIGEST_STRING_SIZE];
    const char *name = path + ftw->base;
    snprintf(text, sizeof text, "%s:%s", strlen(name) == 64 ? "sha256" : "sha512", name);
    if (type == FTW_F && S_ISREG(info->st_mode) && digest_parse(text_of(text), &digest)) {
        seen_on_disk.bytes += (uint64_t)info->st_size;
        seen_on_disk.blobs++;
    }
    return 0;
}

void assert_index_is_what_is_on_disk(const struct fixture *fixture, bool all) {
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
    seen_on_disk = (struct store_usage){0};
    path_in(fixture, "blobs", path);
    nftw(path, see_blob, 16, FTW_PHYS);
    assert_int_equal(usage.bytes, seen_on_disk.bytes);
    assert_int_equal(usage.blobs, seen_on_disk.blobs);
}
