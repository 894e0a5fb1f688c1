/* The state file of a partial: written record by record, read back with suspicion. */
#include "store/partial_state.h"

#include <errno.h>
#include <fcntl.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "store/root.h"
#include "store/store_private.h"

/* In this machine's byte order, because a state file is only read by the boot that wrote it. */
struct state_header {
    char magic[8];
    uint32_t version;
    uint32_t reserved;
    char boot_id[BOOT_ID_SIZE];
    uint64_t check;
};

struct state_record {
    /* The bytes [start, end) are present. If `start` is SIZE_MARK: `end` is the blob's size, and
     * all that was recorded under another size is void. */
    uint64_t start, end;
    uint64_t check;
};

_Static_assert(sizeof(struct state_header) == 64, "header without padding");
_Static_assert(sizeof(struct state_record) == 24, "record without padding");

#define STATE_MAGIC "tarnpart"
#define SIZE_MARK   UINT64_MAX

enum {
    STATE_VERSION = 1,
    /* 16 GiB in records of 64 KiB. Bytes whose records found no slot are fetched again after a
     * restart. */
    STATE_SLOT_LIMIT = 1 << 18,
    LOAD_RECORDS = 256, /* read at once: 6 KiB of stack */
};

static uint64_t mix(uint64_t value) { /* the finalizer of MurmurHash3 */
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdULL;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ULL;
    return value ^ value >> 33;
}

/* Detects torn and zeroed records. Not against forgery: whoever can write here can write blobs. */
static uint64_t record_check(uint64_t start, uint64_t end) {
    return mix(mix(start + 0x7461726e) ^ end);
}

static uint64_t header_check(const struct state_header *header) {
    uint64_t check = 0;
    for (size_t at = 0; at < offsetof(struct state_header, check); at += sizeof check) {
        uint64_t word;
        memcpy(&word, (const char *)header + at, sizeof word);
        check = mix(check + word);
    }
    return check;
}

static struct state_header header_of_boot(const struct store *store) {
    struct state_header header = {.version = STATE_VERSION};
    memcpy(header.magic, STATE_MAGIC, sizeof header.magic);
    memcpy(header.boot_id, store->boot_id, sizeof header.boot_id);
    header.check = header_check(&header);
    return header;
}

struct loading {
    struct extents extents; /* not sorted yet */
    uint64_t size;
};

static bool load_record(struct loading *loading, const struct state_record *record) {
    if (record->check != record_check(record->start, record->end))
        return true; /* torn, or the slot was never written */
    if (record->start == SIZE_MARK) {
        if (loading->size != SIZE_UNKNOWN && loading->size != record->end)
            loading->extents.count = 0;
        loading->size = record->end;
        return true;
    }
    return extents_append(&loading->extents, record->start, record->end);
}

static bool load_records(int fd, struct loading *loading) {
    struct state_record records[LOAD_RECORDS];
    uint64_t at = sizeof(struct state_header);
    for (size_t slots = 0; slots < STATE_SLOT_LIMIT; slots += LOAD_RECORDS) {
        ssize_t got = file_read_at(fd, records, sizeof records, at);
        if (got < 0)
            return false;
        size_t count = (size_t)got / sizeof *records;
        for (size_t i = 0; i < count; i++)
            if (!load_record(loading, &records[i]))
                return false;
        if (count < LOAD_RECORDS)
            break;
        at += sizeof records;
    }
    return true;
}

bool partial_state_load(struct store *store, const char *path, uint64_t length, uint64_t *size,
                        struct extents *out) {
    cleanup_close int fd = root_open(store, path, O_RDONLY);
    struct state_header header, expected = header_of_boot(store);
    if (fd < 0 || !file_read_all_at(fd, &header, sizeof header, 0, NULL) ||
        memcmp(&header, &expected, sizeof header) != 0)
        return false;
    struct loading loading = {.size = SIZE_UNKNOWN};
    if (!load_records(fd, &loading)) {
        extents_finish(&loading.extents);
        return false;
    }
    extents_sort(&loading.extents);
    extents_remove(&loading.extents, loading.size < length ? loading.size : length, UINT64_MAX);
    *size = loading.size;
    *out = loading.extents;
    return true;
}

static struct state_record record_of(uint64_t start, uint64_t end) {
    return (struct state_record){start, end, record_check(start, end)};
}

static bool write_state(int fd, const struct store *store, uint64_t size,
                        const struct extents *extents, uint64_t *slots) {
    cleanup_buffer struct buffer bytes = {0};
    struct state_header header = header_of_boot(store);
    buffer_append(&bytes, &header, sizeof header);
    if (size != SIZE_UNKNOWN) {
        struct state_record record = record_of(SIZE_MARK, size);
        buffer_append(&bytes, &record, sizeof record);
    }
    for (size_t i = 0; i < extents->count; i++) {
        struct state_record record = record_of(extents->at[i].start, extents->at[i].end);
        buffer_append(&bytes, &record, sizeof record);
    }
    if (bytes.failed) {
        errno = ENOMEM;
        return false;
    }
    *slots = (bytes.length - sizeof header) / sizeof(struct state_record);
    return file_write_all(fd, bytes.bytes, bytes.length, NULL);
}

bool partial_state_create(struct store *store, const char *path, uint64_t size,
                          const struct extents *extents, struct partial_state *out,
                          struct error *error) {
    char temporary[PATH_SIZE];
    uint64_t slots = 0;
    cleanup_close int fd = root_temporary(store, temporary, error);
    if (fd < 0)
        return false;
    bool ok = write_state(fd, store, size, extents, &slots);
    if (!ok)
        error_set_errno(error, errno, "write %s/%s", store->path, path);
    else
        ok = root_rename(store, temporary, path, DURABILITY_NONE, error);
    if (!ok) {
        unlinkat(store->root, temporary, 0);
        return false;
    }
    atomic_init(&out->slots, slots);
    out->fd = take_fd(fd);
    return true;
}

static bool write_record(struct partial_state *state, struct state_record record,
                         struct error *error) {
    uint64_t slot = atomic_fetch_add_explicit(&state->slots, 1, memory_order_relaxed);
    if (slot >= STATE_SLOT_LIMIT)
        return true;
    uint64_t at = sizeof(struct state_header) + slot * sizeof record;
    return file_write_all_at(state->fd, &record, sizeof record, at, error) ||
           error_wrap(error, "the state of a partial blob");
}

bool partial_state_record(struct partial_state *state, uint64_t start, uint64_t end,
                          struct error *error) {
    return write_record(state, record_of(start, end), error);
}

bool partial_state_record_size(struct partial_state *state, uint64_t size, struct error *error) {
    return write_record(state, record_of(SIZE_MARK, size), error);
}
