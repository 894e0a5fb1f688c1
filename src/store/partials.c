/* Partials: opened, recorded, committed, dropped, cleaned away. */
#include "store/partials.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <utlist.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "store/partial_state.h"
#include "store/root.h"
#include "store/store_private.h"

#define PARTIALS "partial"
#define STATE    ".state"

/* List entry (store->open_partials) for a partial that is open or is being looked at for cleaning;
 * at most one per digest. */
struct open_partial {
    struct digest digest;
    bool cleaning; /* takes only a moment: an opener waits for its end */
    struct open_partial *next;
};

struct partial {
    struct store *store;
    struct open_partial open; /* listed until it is committed, dropped or freed */
    bool listed;
    int fd;
    struct partial_state state;
    struct extents extents;
    _Atomic uint64_t size;
    uint64_t reserved; /* bytes */
};

/* Enters `entry`. False: the partial is open already, or, if `entry` is for cleaning, anybody has
 * it. */
static bool open_partials_enter(struct store *store, struct open_partial *entry) {
    bool entered = false;
    lock_acquire(&store->open_partials_lock);
    for (;;) {
        struct open_partial *other;
        LL_FOREACH (store->open_partials, other) {
            if (digest_equal(&other->digest, &entry->digest))
                break;
        }
        if (!other) {
            LL_PREPEND(store->open_partials, entry);
            entered = true;
        }
        if (!other || !other->cleaning || entry->cleaning)
            break;
        condition_wait(&store->open_partials_changed, &store->open_partials_lock);
    }
    lock_release(&store->open_partials_lock);
    return entered;
}

static void open_partials_leave(struct store *store, struct open_partial *entry) {
    lock_acquire(&store->open_partials_lock);
    LL_DELETE(store->open_partials, entry);
    condition_broadcast(&store->open_partials_changed);
    lock_release(&store->open_partials_lock);
}

/* What a partial has on disk: its data and its state. */
struct footprint {
    bool exists;
    uint64_t bytes;
    int64_t used_ns; /* wall time of the last write to either */
};

static struct footprint measure(struct store *store, const struct digest *digest) {
    static const char *const suffixes[] = {"", STATE};
    struct footprint footprint = {0};
    for (size_t i = 0; i < 2; i++) {
        char path[PATH_SIZE];
        struct stat file;
        if (!store_path_flat(path, PARTIALS, digest, suffixes[i]) || !root_stat(store, path, &file))
            continue;
        int64_t used_ns = (int64_t)file.st_mtim.tv_sec * 1000000000 + file.st_mtim.tv_nsec;
        footprint.exists = true;
        footprint.bytes += (uint64_t)file.st_blocks * 512;
        footprint.used_ns = used_ns > footprint.used_ns ? used_ns : footprint.used_ns;
    }
    return footprint;
}

/* Enters a partial among those that nobody has open, or takes it out again. */
static void count_left(struct store *store, const struct footprint *footprint, bool left) {
    if (!footprint->exists)
        return;
    lock_acquire(&store->open_partials_lock);
    uint64_t bytes = store->left_bytes, sign = left ? 1 : UINT64_MAX; /* wraps: minus one */
    store->left_partials += left || store->left_partials ? sign : 0;
    store->left_bytes += left || bytes > footprint->bytes ? sign * footprint->bytes : sign * bytes;
    lock_release(&store->open_partials_lock);
}

void partial_reserve(struct partial *partial, uint64_t bytes) {
    index_reserve(&partial->store->index, partial->reserved, bytes);
    partial->reserved = bytes;
}

static void unlist(struct partial *partial) {
    if (partial->listed)
        open_partials_leave(partial->store, &partial->open);
    partial->listed = false;
}

/* Opens the data and reads the state, or starts with both empty. */
static bool open_files(struct partial *partial, struct error *error) {
    struct store *store = partial->store;
    char data[PATH_SIZE], state[PATH_SIZE];
    store_path_flat(data, PARTIALS, &partial->open.digest, "");
    store_path_flat(state, PARTIALS, &partial->open.digest, STATE);
    const struct footprint footprint = measure(store, &partial->open.digest);
    count_left(store, &footprint, false);
    partial->fd = root_open(store, data, O_RDWR | O_CREAT);
    struct stat file;
    if (partial->fd < 0 || fstat(partial->fd, &file) < 0)
        return error_set_errno(error, errno, "open %s/%s", store->path, data);
    if (!S_ISREG(file.st_mode))
        return error_set(error, ERROR_IO, "%s/%s is not a file (remove it)", store->path, data);
    uint64_t size = SIZE_UNKNOWN;
    bool believed = file.st_size > 0 && partial_state_load(store, state, (uint64_t)file.st_size,
                                                           &size, &partial->extents);
    if (!believed && file.st_size > 0 && ftruncate(partial->fd, 0) < 0)
        return error_set_errno(error, errno, "empty %s/%s", store->path, data);
    atomic_init(&partial->size, size);
    /* Written anew even when it was believed: with merged extents and without torn records. */
    return partial_state_create(store, state, size, &partial->extents, &partial->state, error);
}

struct partial *store_partial_open(struct store *store, const struct digest *digest,
                                   struct error *error) {
    char path[PATH_SIZE];
    if (!store_path_flat(path, PARTIALS, digest, STATE)) {
        error_set(error, ERROR_INVALID, "open a partial blob: not a digest");
        return NULL;
    }
    struct partial *partial = calloc(1, sizeof *partial);
    if (!partial) {
        error_set(error, ERROR_MEMORY, "open %s/%s: out of memory", store->path, path);
        return NULL;
    }
    partial->store = store;
    partial->open.digest = *digest;
    partial->fd = partial->state.fd = -1;
    partial->listed = open_partials_enter(store, &partial->open);
    if (!partial->listed)
        error_set(error, ERROR_BUSY, "%s/%s is open already", store->path, path);
    else if (open_files(partial, error))
        return partial;
    partial_free(partial);
    return NULL;
}

bool store_partial_is_left(struct store *store, const struct digest *digest) {
    char data[PATH_SIZE];
    struct stat file;
    return store_path_flat(data, PARTIALS, digest, "") && root_stat(store, data, &file);
}

int partial_fd(const struct partial *partial) {
    return partial->fd;
}

size_t partial_extents(const struct partial *partial, const struct extent **extents) {
    *extents = partial->extents.at;
    return partial->extents.count;
}

bool partial_size(const struct partial *partial, uint64_t *size) {
    uint64_t recorded = atomic_load_explicit(&partial->size, memory_order_relaxed);
    if (recorded == SIZE_UNKNOWN)
        return false;
    *size = recorded;
    return true;
}

bool partial_set_size(struct partial *partial, uint64_t size, struct error *error) {
    uint64_t recorded = atomic_load_explicit(&partial->size, memory_order_relaxed);
    if (recorded == size)
        return true;
    if (size > INT64_MAX)
        return error_set(error, ERROR_INVALID, "a blob cannot have %llu bytes",
                         (unsigned long long)size);
    /* Cut the file first: if the process is killed in between, the old records name no bytes that
     * are still there. Bytes recorded before any size was known may stay. */
    struct stat file;
    uint64_t keep = recorded == SIZE_UNKNOWN ? size : 0;
    if (fstat(partial->fd, &file) < 0 ||
        ((uint64_t)file.st_size > keep && ftruncate(partial->fd, (off_t)keep) < 0))
        return error_set_errno(error, errno, "cut a partial blob to %llu bytes",
                               (unsigned long long)keep);
    extents_remove(&partial->extents, keep, UINT64_MAX);
    if (!partial_state_record_size(&partial->state, size, error))
        return false;
    atomic_store_explicit(&partial->size, size, memory_order_relaxed);
    return true;
}

bool partial_record(struct partial *partial, uint64_t start, uint64_t end, struct error *error) {
    return partial_state_record(&partial->state, start, end, error);
}

static void remove_state(struct store *store, const struct digest *digest) {
    char state[PATH_SIZE];
    if (store_path_flat(state, PARTIALS, digest, STATE))
        unlinkat(store->root, state, 0);
}

bool partial_commit(struct partial *partial, struct error *error) {
    struct store *store = partial->store;
    const struct digest *digest = &partial->open.digest;
    char data[PATH_SIZE], blob[PATH_SIZE];
    store_path_flat(data, PARTIALS, digest, "");
    store_path_blob(blob, digest);
    uint64_t size;
    struct stat file;
    if (!partial->listed)
        return error_set(error, ERROR_NOT_FOUND, "%s/%s is committed or dropped already",
                         store->path, data);
    if (fdatasync(partial->fd) < 0 || fstat(partial->fd, &file) < 0)
        return error_set_errno(error, errno, "sync %s/%s", store->path, data);
    if (partial_size(partial, &size) && size != (uint64_t)file.st_size)
        return error_set(error, ERROR_CORRUPT, "%s/%s has %lld bytes instead of %llu", store->path,
                         data, (long long)file.st_size, (unsigned long long)size);
    struct index_hold hold;
    if (!index_hold(&store->index, digest, true, &hold))
        return error_set(error, ERROR_MEMORY, "commit %s/%s: out of memory", store->path, data);
    bool renamed = root_rename(store, data, blob, DURABILITY_FILE, error);
    if (renamed) {
        hold.reserved = partial->reserved;
        partial->reserved = 0;
    }
    index_settle(&store->index, &hold, renamed ? (uint64_t)file.st_size : hold.size);
    index_release(&store->index, &hold, renamed);
    if (!renamed)
        return false;
    remove_state(store, digest);
    unlist(partial);
    return root_sync_parent(store, blob, error);
}

static void remove_files(struct store *store, const struct digest *digest) {
    char data[PATH_SIZE];
    if (store_path_flat(data, PARTIALS, digest, ""))
        unlinkat(store->root, data, 0);
    remove_state(store, digest);
}

void partial_drop(struct partial *partial) {
    if (partial->listed)
        remove_files(partial->store, &partial->open.digest);
    partial_reserve(partial, 0);
    unlist(partial);
}

/* The files of a partial stay if there are bytes in them. */
static void leave_files(struct partial *partial) {
    struct store *store = partial->store;
    char data[PATH_SIZE];
    struct stat file;
    store_path_flat(data, PARTIALS, &partial->open.digest, "");
    if (root_stat(store, data, &file) ? file.st_size == 0 : errno == ENOENT)
        remove_files(store, &partial->open.digest);
    const struct footprint footprint = measure(store, &partial->open.digest);
    count_left(store, &footprint, true);
}

static void enforce_limit(struct store *store);

void partial_free(struct partial *partial) {
    if (!partial)
        return;
    struct store *store = partial->store;
    bool leaves = partial->listed;
    if (leaves)
        leave_files(partial);
    if (partial->fd >= 0)
        close(partial->fd);
    if (partial->state.fd >= 0)
        close(partial->state.fd);
    partial_reserve(partial, 0);
    unlist(partial);
    extents_finish(&partial->extents);
    free(partial);
    if (leaves)
        enforce_limit(store);
}

/* The digest in the name of a partial or its state: "sha256-HEX" or "sha256-HEX.state". */
static bool parse_name(const char *name, struct digest *out) {
    struct text stem = text_of(name);
    if (text_ends(stem, STATE))
        stem.length -= strlen(STATE);
    return store_path_flat_digest(stem, out);
}

/* A file of a partial that nobody has open. */
struct left_file {
    struct digest digest;
    bool is_state;
};

/* Calls `each` for every file of partials that nobody has open; nobody opens it meanwhile. */
static void visit(struct store *store,
                  void (*each)(void *context, struct store *store, const struct left_file *file),
                  void *context) {
    DIR *directory = root_open_directory(store, PARTIALS);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        struct open_partial visited = {.cleaning = true};
        if (!parse_name(entry->d_name, &visited.digest) || !open_partials_enter(store, &visited))
            continue;
        const struct left_file file = {visited.digest, text_ends(text_of(entry->d_name), STATE)};
        each(context, store, &file);
        open_partials_leave(store, &visited);
    }
    if (directory)
        closedir(directory);
}

/* Deletes a partial that nobody has open, and that nobody opens meanwhile. */
static uint64_t delete_left(struct store *store, const struct digest *digest) {
    struct footprint before = measure(store, digest);
    remove_files(store, digest);
    const struct footprint after = measure(store, digest);
    if (after.exists) /* the disk does not delete: it still counts */
        return 0;
    count_left(store, &before, false);
    return before.bytes;
}

static void clean_one(void *context, struct store *store, const struct left_file *file) {
    const int64_t *before_ns = context;
    const struct footprint footprint = measure(store, &file->digest);
    if (footprint.exists && footprint.used_ns <= *before_ns)
        delete_left(store, &file->digest);
}

void store_partials_clean(struct store *store, int64_t age_s) {
    int64_t before_ns = age_s ? (clock_wall_s() - age_s) * 1000000000 : INT64_MAX;
    root_clean_temporaries(store);
    visit(store, clean_one, &before_ns);
}

struct oldest {
    struct digest digest;
    struct footprint footprint; /* exists is false: there is none */
};

static void find_oldest(void *context, struct store *store, const struct left_file *file) {
    struct oldest *oldest = context;
    const struct footprint footprint = measure(store, &file->digest);
    if (footprint.exists &&
        (!oldest->footprint.exists || footprint.used_ns < oldest->footprint.used_ns))
        *oldest = (struct oldest){file->digest, footprint};
}

bool store_partials_evict(struct store *store, uint64_t *freed) {
    struct oldest oldest = {0};
    *freed = 0;
    lock_acquire(&store->open_partials_lock);
    bool any = store->left_partials > 0;
    lock_release(&store->open_partials_lock);
    if (!any)
        return false;
    visit(store, find_oldest, &oldest);
    struct open_partial evicted = {.digest = oldest.digest, .cleaning = true};
    if (!oldest.footprint.exists || !open_partials_enter(store, &evicted))
        return false;
    *freed = delete_left(store, &evicted.digest);
    open_partials_leave(store, &evicted);
    return true;
}

/* Keeps the number of left partials bounded. */
static void enforce_limit(struct store *store) {
    for (;;) {
        uint64_t freed;
        lock_acquire(&store->open_partials_lock);
        bool over = store->left_partials > PARTIALS_LEFT_LIMIT;
        lock_release(&store->open_partials_lock);
        if (!over || !store_partials_evict(store, &freed) || !freed)
            return;
    }
}

struct counted {
    uint64_t partials, bytes;
};

static void count_one(void *context, struct store *store, const struct left_file *file) {
    struct counted *counted = context;
    const struct footprint footprint = measure(store, &file->digest);
    char data[PATH_SIZE];
    struct stat state;
    if (file->is_state) { /* counts with its data; without data it is of no use */
        if (store_path_flat(data, PARTIALS, &file->digest, "") && !root_stat(store, data, &state))
            remove_state(store, &file->digest);
        return;
    }
    counted->partials++;
    counted->bytes += footprint.bytes;
}

void store_partials_count(struct store *store) {
    struct counted counted = {0};
    visit(store, count_one, &counted);
    lock_acquire(&store->open_partials_lock);
    store->left_partials = counted.partials;
    store->left_bytes = counted.bytes;
    lock_release(&store->open_partials_lock);
    enforce_limit(store);
}

void store_partials_usage(struct store *store, struct store_usage *out) {
    lock_acquire(&store->open_partials_lock);
    out->partials = store->left_partials;
    out->partial_bytes = store->left_bytes + atomic_load(&store->upload_bytes);
    lock_release(&store->open_partials_lock);
}
