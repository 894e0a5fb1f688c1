/*
 * The store's own files, read back as hostile bytes. The first byte of the input chooses the kind
 * of file, the rest is the file (for 'w': bytes that are written into a good file). Every record
 * that the store accepts is whole.
 */
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "fuzz.h"
#include "store/partials.h"
#include "store/records.h"
#include "store/store.h"

#define HOST "h.io"
#define NAME "a"

static char root[64];
static struct store *store;
static struct repository_name name;
static struct digest digest;
static char tag_path[256], link_path[256], data_path[256], state_path[256];

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw) {
    (void)info, (void)type, (void)ftw;
    return remove(path);
}

static void end(void) {
    store_close(store);
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void begin(void) {
    char text[DIGEST_STRING_SIZE];
    strcpy(root, "/dev/shm/tarn-fuzz-XXXXXX");
    if (!mkdtemp(root)) {
        strcpy(root, "/tmp/tarn-fuzz-XXXXXX");
        MUST(mkdtemp(root));
    }
    MUST((store = store_open(root, NULL)));
    atexit(end);
    MUST(repository_name_parse(text_of(HOST), text_of(NAME), &name));
    MUST(digest_of(DIGEST_SHA256, "a", 1, &digest));
    const char *hex = digest_format(&digest, text) + strlen("sha256:");
    const char *repository = "repositories/" HOST "/" NAME;
    snprintf(tag_path, sizeof tag_path, "%s/%s/_tags/t", root, repository);
    snprintf(link_path, sizeof link_path, "%s/%s/_manifests/sha256/%s", root, repository, hex);
    snprintf(data_path, sizeof data_path, "%s/partial/sha256-%s", root, hex);
    snprintf(state_path, sizeof state_path, "%s/partial/sha256-%s.state", root, hex);
    struct tag_record record = {.digest = digest, .media_type = "a/b", .checked_s = 1};
    MUST(store_tag_put(store, &name, "t", &record, NULL));
    MUST(store_link_manifest(store, &name, &digest, "a/b", NULL));
    struct partial *partial = store_partial_open(store, &digest, NULL); /* makes its folder */
    MUST(partial);
    partial_drop(partial);
    partial_free(partial);
}

static void write_file(const char *path, const void *bytes, size_t length) {
    cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    MUST(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
}

static bool is_printable(const char *text, size_t size) {
    size_t length = strnlen(text, size);
    for (size_t i = 0; i < length; i++)
        if (text[i] < 0x20 || text[i] > 0x7e)
            return false;
    return length < size;
}

static void try_tag(const uint8_t *bytes, size_t length) {
    struct tag_record record, again;
    write_file(tag_path, bytes, length);
    if (!store_tag_get(store, &name, "t", &record))
        return;
    MUST(record.digest.algorithm == DIGEST_SHA256 || record.digest.algorithm == DIGEST_SHA512);
    MUST(is_printable(record.media_type, sizeof record.media_type) && record.checked_s >= 0);
    /* An accepted record can be written, and reads back the same. */
    MUST(store_tag_put(store, &name, "t", &record, NULL));
    MUST(store_tag_get(store, &name, "t", &again));
    MUST(digest_equal(&record.digest, &again.digest) && record.checked_s == again.checked_s &&
         strcmp(record.media_type, again.media_type) == 0);
}

static void try_link(const uint8_t *bytes, size_t length) {
    char type[128], again[128];
    write_file(link_path, bytes, length);
    if (!store_has_link_manifest(store, &name, &digest, type, sizeof type))
        return;
    MUST(is_printable(type, sizeof type));
    MUST(store_link_manifest(store, &name, &digest, type, NULL));
    MUST(store_has_link_manifest(store, &name, &digest, again, sizeof again));
    MUST(strcmp(type, again) == 0);
}

/* Opens the partial and checks that the extents lie within the file and the size. */
static void check_partial(void) {
    struct partial *partial = store_partial_open(store, &digest, NULL);
    MUST(partial);
    const struct extent *extents;
    struct stat file;
    uint64_t size, last = 0;
    size_t count = partial_extents(partial, &extents);
    bool sized = partial_size(partial, &size);
    MUST(fstat(partial_fd(partial), &file) == 0);
    for (size_t i = 0; i < count; i++) {
        MUST(extents[i].start < extents[i].end && (i == 0 || extents[i].start > last));
        MUST(extents[i].end <= (uint64_t)file.st_size && (!sized || extents[i].end <= size));
        last = extents[i].end;
    }
    partial_drop(partial);
    partial_free(partial);
}

static void try_state(const uint8_t *bytes, size_t length) {
    write_file(data_path, "0123456789", 10);
    write_file(state_path, bytes, length);
    check_partial();
}

/* Records with a right check and any numbers in any order; then any bytes anywhere, and a cut. */
static void try_state_written_to(const uint8_t *bytes, size_t length) {
    struct partial *partial = store_partial_open(store, &digest, NULL);
    MUST(partial && pwrite(partial_fd(partial), "0123456789", 10, 0) == 10);
    size_t count = length ? bytes[0] % 16 : 0, at = 1;
    for (; count && at + 16 <= length; count--, at += 16) {
        uint64_t numbers[2];
        memcpy(numbers, bytes + at, sizeof numbers);
        if (count % 2) /* small numbers, within or near the ten bytes */
            numbers[0] %= 16, numbers[1] %= 16;
        MUST(partial_record(partial, numbers[0], numbers[1], NULL));
    }
    partial_free(partial);
    if (at + 2 < length) {
        cleanup_close int fd = open(state_path, O_RDWR | O_CLOEXEC);
        MUST(fd >= 0 && pwrite(fd, bytes + at + 2, length - at - 2, bytes[at]) >= 0);
        MUST(!(bytes[at + 1] & 1) || ftruncate(fd, 64 + bytes[at + 1]) == 0);
    }
    check_partial();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    if (!store)
        begin();
    switch (length ? bytes[0] : 0) {
    case 't':
        try_tag(bytes + 1, length - 1);
        break;
    case 'l':
        try_link(bytes + 1, length - 1);
        break;
    case 's':
        try_state(bytes + 1, length - 1);
        break;
    case 'w':
        try_state_written_to(bytes + 1, length - 1);
        break;
    default:
        break;
    }
    return 0;
}
