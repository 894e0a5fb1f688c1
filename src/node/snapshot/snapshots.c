/* Opens a snapshotter, and makes, changes and removes its snapshots. */
#include "node/snapshot/snapshots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "node/snapshot/snapshots_private.h"

enum snapshots_outcome snapshots_refuse(enum snapshots_outcome outcome, struct error *error,
                                        enum error_kind kind, const char *format, ...) {
    char text[sizeof error->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error_set(error, kind, "%s", text);
    return outcome;
}

int64_t snapshots_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- turns ---- */

void snapshots_begin(struct snapshots *snapshots) {
    lock_acquire(&snapshots->state_lock);
    while (snapshots->changing)
        condition_wait(&snapshots->changed, &snapshots->state_lock);
    snapshots->changing = true;
    lock_release(&snapshots->state_lock);
}

/* In a turn: writes the records anew, parents first, if it is time. */
static void tidy(struct snapshots *snapshots) {
    cleanup_buffer struct buffer lines = {.limit = JOURNAL_LIMIT}, record = {0};
    struct error error;
    if (!journal_is_due(&snapshots->journal))
        return;
    lock_acquire(&snapshots->state_lock);
    entries_write_next(snapshots->entries.next_id, &record);
    journal_add_line(&lines, (struct text){record.bytes, record.length});
    HASH_SRT(by_id, snapshots->entries.by_id, entries_compare_depth);
    const struct entry *entry, *next;
    HASH_ITER (by_id, snapshots->entries.by_id, entry, next) {
        buffer_clear(&record);
        entries_write_put(entry, &record);
        lines.failed = lines.failed || record.failed;
        journal_add_line(&lines, (struct text){record.bytes, record.length});
    }
    lock_release(&snapshots->state_lock);
    if (!journal_rewrite(&snapshots->journal, &lines, &error))
        log_at(LOG_WARN, "snapshot records not tidied", LOG_STRING("error", error.text));
}

void snapshots_end(struct snapshots *snapshots) {
    tidy(snapshots);
    lock_acquire(&snapshots->state_lock);
    snapshots->changing = false;
    snapshots->making = 0;
    condition_broadcast(&snapshots->changed);
    lock_release(&snapshots->state_lock);
}

uint64_t snapshots_take_id(struct snapshots *snapshots) {
    lock_acquire(&snapshots->state_lock);
    uint64_t id = snapshots->entries.next_id++;
    snapshots->making = id;
    lock_release(&snapshots->state_lock);
    return id;
}

/* In a turn: memory was out for what the last record says, so the next one says what stays. */
static void take_back(struct snapshots *snapshots, uint64_t id) {
    cleanup_buffer struct buffer record = {0};
    const struct entry *before = entries_find_id(&snapshots->entries, id);
    struct error error;
    if (before)
        entries_write_put(before, &record);
    else
        entries_write_remove(id, &record);
    if (record.failed ||
        !journal_append(&snapshots->journal, (struct text){record.bytes, record.length}, &error))
        log_at(LOG_ERROR, "snapshot record not taken back", LOG_NUMBER("snapshot", id));
}

bool snapshots_put(struct snapshots *snapshots, struct entry *entry, struct error *error) {
    cleanup_buffer struct buffer record = {.limit = JOURNAL_RECORD_LIMIT};
    entries_write_put(entry, &record);
    if (record.failed)
        return error_set(error, ERROR_BUSY, "the record of %.200s is too long", entry->name);
    lock_acquire(&snapshots->state_lock);
    bool has_room =
        snapshots->entries.count < ENTRIES_LIMIT || entries_find_id(&snapshots->entries, entry->id);
    lock_release(&snapshots->state_lock);
    if (!has_room)
        return error_set(error, ERROR_BUSY, "there are %d snapshots, which is the limit",
                         ENTRIES_LIMIT);
    if (!journal_append(&snapshots->journal, (struct text){record.bytes, record.length}, error))
        return false;
    lock_acquire(&snapshots->state_lock);
    bool done = entries_put(&snapshots->entries, entry);
    lock_release(&snapshots->state_lock);
    if (!done)
        take_back(snapshots, entry->id);
    return done || error_set(error, ERROR_MEMORY, "out of memory");
}

/* ---- opening ---- */

static bool replay(void *context, struct text record, struct error *error) {
    struct snapshots *snapshots = context;
    return entries_replay(&snapshots->entries, record, error);
}

/* Ends the mount of a remote snapshot that is gone. False: it is mounted still. */
static bool unmount(struct snapshots *snapshots, uint64_t id) {
    char directory[FOLDERS_PATH_LIMIT];
    struct error error;
    folders_path(snapshots->root, id, "fs", directory);
    if (!snapshots->has_images ||
        snapshots->images.unmount(snapshots->images.context, directory, &error))
        return true;
    log_at(LOG_WARN, "snapshot not unmounted", LOG_STRING("error", error.text));
    return false;
}

/* For sweeping: also lets no number be given that a folder has. What is mounted still is left. */
static bool is_known(void *context, uint64_t id) {
    struct snapshots *snapshots = context;
    lock_acquire(&snapshots->state_lock);
    bool found = id == snapshots->making || entries_find_id(&snapshots->entries, id);
    if (id >= snapshots->entries.next_id && id < UINT64_MAX / 2)
        snapshots->entries.next_id = id + 1;
    lock_release(&snapshots->state_lock);
    return found || !unmount(snapshots, id);
}

static bool open_root(struct snapshots *snapshots, const char *root, struct error *error) {
    if (root[0] != '/' || strpbrk(root, ":,\\") || strlen(root) > FOLDERS_PATH_LIMIT - 64)
        return error_set(error, ERROR_INVALID,
                         "%s cannot hold snapshots: it must be an absolute path of less than %d "
                         "bytes without ':', ',' and '\\', which overlayfs does not take",
                         root, FOLDERS_PATH_LIMIT - 64);
    if (mkdir(root, 0700) != 0 && errno != EEXIST)
        return error_set_errno(error, errno, "making %s", root);
    snapshots->fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (snapshots->fd < 0)
        return error_set_errno(error, errno, "opening %s", root);
    if (flock(snapshots->fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? error_set(error, ERROR_BUSY, "another process uses %s", root)
                                    : error_set_errno(error, errno, "locking %s", root);
    snapshots->root = strdup(root);
    return snapshots->root || error_set(error, ERROR_MEMORY, "out of memory");
}

/* Mounts again what active snapshots and views stand on. */
static void mount_again(struct snapshots *snapshots) {
    const struct entry *entry, *next;
    /* No other thread changes the tree yet. */
    HASH_ITER (by_id, snapshots->entries.by_id, entry, next) {
        struct error error;
        if (entry->kind != ENTRY_COMMITTED &&
            !snapshots_mount_lower(snapshots, entry->name, NULL, &error))
            log_at(LOG_ERROR, "snapshot not mounted again", LOG_STRING("snapshot", entry->name),
                   LOG_STRING("error", error.text));
    }
}

struct snapshots *snapshots_open(const struct snapshots_settings *settings, struct error *error) {
    struct snapshots *snapshots = calloc(1, sizeof *snapshots);
    if (!snapshots) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    snapshots->fd = -1;
    snapshots->journal.fd = -1;
    lock_init(&snapshots->state_lock);
    condition_init(&snapshots->changed);
    entries_init(&snapshots->entries);
    snapshots->has_images = settings->images != NULL;
    if (settings->images)
        snapshots->images = *settings->images;
    snapshots->index_off = access("/sys/module/overlay/parameters/index", F_OK) == 0;
    if (!open_root(snapshots, settings->root, error) ||
        (!journal_open(&snapshots->journal, snapshots->fd, replay, snapshots, error) &&
         !error_wrap(error, "%s", settings->root))) {
        snapshots_close(snapshots);
        return NULL;
    }
    folders_sweep(snapshots->fd, is_known, snapshots);
    mount_again(snapshots);
    return snapshots;
}

void snapshots_close(struct snapshots *snapshots) {
    if (!snapshots)
        return;
    journal_close(&snapshots->journal);
    entries_finish(&snapshots->entries);
    condition_finish(&snapshots->changed);
    lock_finish(&snapshots->state_lock);
    if (snapshots->fd >= 0)
        close(snapshots->fd);
    free(snapshots->root);
    free(snapshots);
}

/* ---- mounts ---- */

void snapshots_mount_finish(struct snapshots_mount *mount) {
    free(mount->source);
    for (unsigned i = 0; i < mount->count; i++)
        free(mount->options[i]);
    *mount = (struct snapshots_mount){0};
}

static bool add_option(struct snapshots_mount *mount, const char *name, const char *value) {
    char *option = NULL;
    if (asprintf(&option, "%s%s", name, value) < 0)
        return false;
    mount->options[mount->count++] = option;
    return true;
}

/* The folders below the entry, highest first, separated by colons; the remote ones are one. Returns
 * how many. */
static unsigned list_lower(const struct snapshots *snapshots, const struct entry *entry,
                           struct buffer *out) {
    char path[FOLDERS_PATH_LIMIT];
    unsigned count = 0;
    for (const struct entry *at = entry->parent; at; at = at->image ? NULL : at->parent) {
        folders_path(snapshots->root, at->id, "fs", path);
        buffer_printf(out, "%s%s", count++ > 0 ? ":" : "", path);
    }
    return count;
}

static bool describe(const struct snapshots *snapshots, const struct entry *entry,
                     struct snapshots_mount *mount) REQUIRES(snapshots->state_lock) {
    char path[FOLDERS_PATH_LIMIT];
    cleanup_buffer struct buffer lower = {0};
    unsigned count = list_lower(snapshots, entry, &lower);
    bool is_active = entry->kind == ENTRY_ACTIVE;
    if (lower.failed)
        return false;
    folders_path(snapshots->root, entry->id, "fs", path);
    /* overlayfs needs two folders at least. */
    if (count + is_active < 2) {
        mount->type = "bind";
        mount->source = strdup(count > 0 ? lower.bytes : path);
        return mount->source && add_option(mount, is_active ? "rw" : "ro", "") &&
               add_option(mount, "rbind", "");
    }
    mount->type = "overlay";
    mount->source = strdup("overlay");
    if (!mount->source || (snapshots->index_off && !add_option(mount, "index=off", "")))
        return false;
    if (is_active) {
        if (!add_option(mount, "upperdir=", path))
            return false;
        folders_path(snapshots->root, entry->id, "work", path);
        if (!add_option(mount, "workdir=", path))
            return false;
    }
    return add_option(mount, "lowerdir=", lower.bytes);
}

enum snapshots_outcome snapshots_mounts(struct snapshots *snapshots, const char *key,
                                        const atomic_bool *stop, struct snapshots_mount *mount,
                                        struct error *error) {
    enum snapshots_outcome outcome = SNAPSHOTS_DONE;
    if (!snapshots_mount_lower(snapshots, key, stop, error))
        return SNAPSHOTS_FAILED;
    lock_acquire(&snapshots->state_lock);
    const struct entry *entry = entries_find(&snapshots->entries, key);
    if (!entry)
        outcome = snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_NOT_FOUND,
                                   "the snapshot %.200s does not exist", key);
    else if (entry->kind == ENTRY_COMMITTED)
        outcome = snapshots_refuse(SNAPSHOTS_PRECONDITION, error, ERROR_INVALID,
                                   "the snapshot %.200s is neither active nor a view", key);
    else if (!describe(snapshots, entry, mount))
        outcome = snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_MEMORY, "out of memory");
    lock_release(&snapshots->state_lock);
    return outcome;
}

/* ---- making ---- */

/* In a turn: whether a snapshot may be made. */
static enum snapshots_outcome check_new(const struct snapshots *snapshots,
                                        const struct snapshots_request *request,
                                        struct entry **parent, struct error *error) {
    *parent = request->parent[0] ? entries_find(&snapshots->entries, request->parent) : NULL;
    if (request->parent[0] && !*parent)
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_NOT_FOUND,
                                "the parent %.200s does not exist", request->parent);
    if (*parent && (*parent)->kind != ENTRY_COMMITTED)
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_INVALID,
                                "the parent %.200s is not committed", request->parent);
    if (*parent && (*parent)->depth >= ENTRIES_DEPTH_LIMIT)
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_INVALID,
                                "more than %d snapshots stand on one another", ENTRIES_DEPTH_LIMIT);
    if (entries_find(&snapshots->entries, request->key))
        return snapshots_refuse(SNAPSHOTS_EXISTS, error, ERROR_INVALID,
                                "the snapshot %.200s exists", request->key);
    return SNAPSHOTS_DONE;
}

/* In a turn: makes folder and entry. */
static enum snapshots_outcome make(struct snapshots *snapshots, enum entry_kind kind,
                                   const struct snapshots_request *request, struct error *error) {
    char path[FOLDERS_PATH_LIMIT];
    struct stat status = {.st_uid = geteuid(), .st_gid = getegid()};
    struct entry *parent;
    enum snapshots_outcome outcome = check_new(snapshots, request, &parent, error);
    if (outcome != SNAPSHOTS_DONE)
        return outcome;
    /* The root of the tree belongs to whom it belongs in the parent, as in containerd's overlay
     * snapshotter. */
    if (parent) {
        folders_path(snapshots->root, parent->id, "fs", path);
        if (stat(path, &status) != 0 && !error_set_errno(error, errno, "looking at %s", path))
            return SNAPSHOTS_FAILED;
    }
    cleanup_entry struct entry *entry = entry_new(request->key, parent, kind, request->labels);
    if (!entry)
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_MEMORY, "out of memory");
    uint64_t id = entry->id = snapshots_take_id(snapshots);
    entry->created_ns = entry->updated_ns = snapshots_now_ns();
    if (!folders_make(snapshots->fd, id, kind == ENTRY_ACTIVE, status.st_uid, status.st_gid, error))
        return SNAPSHOTS_FAILED;
    if (!snapshots_put(snapshots, entry, error)) {
        folders_delete(snapshots->fd, id, NULL);
        return SNAPSHOTS_FAILED;
    }
    take(entry);
    return SNAPSHOTS_DONE;
}

enum snapshots_outcome snapshots_prepare(struct snapshots *snapshots, enum entry_kind kind,
                                         const struct snapshots_request *request,
                                         struct snapshots_mount *mount, struct error *error) {
    const char *chain = json_member_text(request->labels, SNAPSHOTS_LABEL_REF);
    enum snapshots_outcome outcome = SNAPSHOTS_DONE;
    if (kind == ENTRY_ACTIVE && chain[0])
        outcome = snapshots_find_remote(snapshots, request, chain, error);
    if (outcome != SNAPSHOTS_DONE)
        return outcome;
    if (!snapshots_mount_lower(snapshots, request->parent, request->stop, error))
        return SNAPSHOTS_FAILED;
    snapshots_begin(snapshots);
    outcome = make(snapshots, kind, request, error);
    snapshots_end(snapshots);
    return outcome == SNAPSHOTS_DONE
               ? snapshots_mounts(snapshots, request->key, request->stop, mount, error)
               : outcome;
}

/* ---- changing ---- */

/* A copy outside of the tree, with another name and other labels. NULL: out of memory. */
static struct entry *copy_entry(const struct entry *entry, const char *name, json_t *labels) {
    struct entry *copy = entry_new(name, entry->parent, entry->kind, labels);
    if (!copy)
        return NULL;
    copy->id = entry->id;
    copy->created_ns = entry->created_ns;
    copy->updated_ns = snapshots_now_ns();
    copy->size = entry->size;
    copy->inodes = entry->inodes;
    copy->layers = entry->layers;
    if (entry->image && !(copy->image = strdup(entry->image)))
        entry_free(take(copy));
    return copy;
}

/* In a turn: puts the copy of an entry in its place. */
static enum snapshots_outcome replace(struct snapshots *snapshots, struct entry *made,
                                      struct error *error) {
    cleanup_entry struct entry *entry = made;
    if (!entry)
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_MEMORY, "out of memory");
    if (!snapshots_put(snapshots, entry, error))
        return SNAPSHOTS_FAILED;
    take(entry);
    return SNAPSHOTS_DONE;
}

/* In a turn: whether the snapshot can be committed; *parent is its parent then. */
static enum snapshots_outcome check_commit(const struct snapshots *snapshots, const char *name,
                                           const struct snapshots_request *request,
                                           struct entry **parent, struct error *error) {
    const struct entry *entry = entries_find(&snapshots->entries, request->key);
    if (entries_find(&snapshots->entries, name))
        return snapshots_refuse(SNAPSHOTS_EXISTS, error, ERROR_INVALID,
                                "the snapshot %.200s exists", name);
    if (!entry)
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_NOT_FOUND,
                                "the snapshot %.200s does not exist", request->key);
    if (entry->kind != ENTRY_ACTIVE)
        return snapshots_refuse(SNAPSHOTS_PRECONDITION, error, ERROR_INVALID,
                                "the snapshot %.200s is not active", request->key);
    *parent = entry->parent;
    if (!request->parent[0] || (entry->parent && strcmp(entry->parent->name, request->parent) == 0))
        return SNAPSHOTS_DONE;
    if (entry->parent)
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_INVALID,
                                "the snapshot %.200s has another parent", request->key);
    *parent = entries_find(&snapshots->entries, request->parent);
    if (!*parent)
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_NOT_FOUND,
                                "the parent %.200s does not exist", request->parent);
    if ((*parent)->kind != ENTRY_COMMITTED || (*parent)->depth >= ENTRIES_DEPTH_LIMIT)
        return snapshots_refuse(SNAPSHOTS_PRECONDITION, error, ERROR_INVALID,
                                "the parent %.200s is not committed, or too much stands below it",
                                request->parent);
    return SNAPSHOTS_DONE;
}

/* In a turn. `size` and `inodes` were measured in the folder with the number `id`. */
static enum snapshots_outcome commit(struct snapshots *snapshots, const char *name,
                                     const struct snapshots_request *request,
                                     const struct entry *measured, struct error *error) {
    struct entry *parent = NULL;
    enum snapshots_outcome outcome = check_commit(snapshots, name, request, &parent, error);
    if (outcome != SNAPSHOTS_DONE)
        return outcome;
    const struct entry *entry = entries_find(&snapshots->entries, request->key);
    struct entry *made = copy_entry(entry, name, request->labels);
    if (made) {
        made->kind = ENTRY_COMMITTED;
        made->created_ns = made->updated_ns;
        made->parent = parent;
        made->depth = parent ? parent->depth + 1 : 0;
        made->size = measured->size;
        made->inodes = measured->inodes;
    }
    return replace(snapshots, made, error);
}

/* The number of the snapshot; 0: it does not exist, or is of another kind. */
static uint64_t find_id(struct snapshots *snapshots, const char *key, enum entry_kind kind) {
    lock_acquire(&snapshots->state_lock);
    const struct entry *entry = entries_find(&snapshots->entries, key);
    uint64_t id = entry && entry->kind == kind ? entry->id : 0;
    lock_release(&snapshots->state_lock);
    return id;
}

enum snapshots_outcome snapshots_commit(struct snapshots *snapshots, const char *name,
                                        const struct snapshots_request *request,
                                        struct error *error) {
    /* Measuring takes long, so it does not take a turn. Nobody writes to the snapshot any more. */
    struct entry measured = {.id = find_id(snapshots, request->key, ENTRY_ACTIVE)};
    if (measured.id != 0 &&
        !folders_measure(snapshots->fd, measured.id, &measured.size, &measured.inodes, error))
        return SNAPSHOTS_FAILED;
    snapshots_begin(snapshots);
    enum snapshots_outcome outcome = commit(snapshots, name, request, &measured, error);
    snapshots_end(snapshots);
    return outcome;
}

/* In a turn: takes a snapshot out of the tree. */
static enum snapshots_outcome take_out(struct snapshots *snapshots, const char *key, uint64_t *id,
                                       bool *is_remote, struct error *error) {
    enum snapshots_outcome outcome = SNAPSHOTS_DONE;
    cleanup_buffer struct buffer record = {0};
    struct entry *entry;
    lock_acquire(&snapshots->state_lock);
    entry = entries_find(&snapshots->entries, key);
    if (!entry)
        outcome = snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_NOT_FOUND,
                                   "the snapshot %.200s does not exist", key);
    else if (entry->children > 0)
        outcome = snapshots_refuse(SNAPSHOTS_PRECONDITION, error, ERROR_INVALID,
                                   "%u other snapshots stand on %.200s", entry->children, key);
    else if (entry->mount == ENTRY_MOUNTING)
        outcome = snapshots_refuse(SNAPSHOTS_PRECONDITION, error, ERROR_INVALID,
                                   "the snapshot %.200s is being mounted", key);
    lock_release(&snapshots->state_lock);
    if (outcome != SNAPSHOTS_DONE)
        return outcome;
    *id = entry->id;
    *is_remote = entry->image != NULL;
    entries_write_remove(entry->id, &record);
    if (record.failed)
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_MEMORY, "out of memory");
    if (!journal_append(&snapshots->journal, (struct text){record.bytes, record.length}, error))
        return SNAPSHOTS_FAILED;
    lock_acquire(&snapshots->state_lock);
    entries_remove(&snapshots->entries, entry);
    lock_release(&snapshots->state_lock);
    return SNAPSHOTS_DONE;
}

enum snapshots_outcome snapshots_remove(struct snapshots *snapshots, const char *key,
                                        struct error *error) {
    struct error failure;
    uint64_t id = 0;
    bool is_remote = false;
    snapshots_begin(snapshots);
    enum snapshots_outcome outcome = take_out(snapshots, key, &id, &is_remote, error);
    snapshots_end(snapshots);
    if (outcome != SNAPSHOTS_DONE)
        return outcome;
    /* The snapshot is gone, whatever follows; snapshots_cleanup() and the next start try again. */
    if (is_remote && !unmount(snapshots, id))
        return SNAPSHOTS_DONE;
    if (!folders_delete(snapshots->fd, id, &failure))
        log_at(LOG_WARN, "snapshot folder left", LOG_STRING("error", failure.text));
    return SNAPSHOTS_DONE;
}

void snapshots_cleanup(struct snapshots *snapshots) {
    folders_sweep(snapshots->fd, is_known, snapshots);
}

/* ---- looking ---- */

enum snapshots_outcome snapshots_stat(struct snapshots *snapshots, const char *key,
                                      snapshots_show *show, void *context, struct error *error) {
    lock_acquire(&snapshots->state_lock);
    const struct entry *entry = entries_find(&snapshots->entries, key);
    if (entry)
        show(context, entry);
    lock_release(&snapshots->state_lock);
    return entry ? SNAPSHOTS_DONE
                 : snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_NOT_FOUND,
                                    "the snapshot %.200s does not exist", key);
}

void snapshots_list(struct snapshots *snapshots, const struct filters *filters,
                    snapshots_show *show, void *context) {
    const struct entry *entry, *next;
    lock_acquire(&snapshots->state_lock);
    HASH_ITER (by_id, snapshots->entries.by_id, entry, next) {
        if (filters_match(filters, entry))
            show(context, entry);
    }
    lock_release(&snapshots->state_lock);
}

enum snapshots_outcome snapshots_usage(struct snapshots *snapshots, const char *key, uint64_t *size,
                                       uint64_t *inodes, struct error *error) {
    uint64_t id = 0;
    lock_acquire(&snapshots->state_lock);
    const struct entry *entry = entries_find(&snapshots->entries, key);
    *size = entry ? entry->size : 0;
    *inodes = entry ? entry->inodes : 0;
    id = entry && entry->kind == ENTRY_ACTIVE ? entry->id : 0;
    lock_release(&snapshots->state_lock);
    if (!entry)
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_NOT_FOUND,
                                "the snapshot %.200s does not exist", key);
    return id == 0 || folders_measure(snapshots->fd, id, size, inodes, error) ? SNAPSHOTS_DONE
                                                                              : SNAPSHOTS_FAILED;
}

/* The labels that an update leads to, the caller's. NULL: the error says why. */
static json_t *change_labels(const struct entry *entry, const json_t *labels,
                             const char *const *paths, size_t path_count, struct error *error) {
    static const char prefix[] = "labels.";
    cleanup_json json_t *changed = json_deep_copy(path_count > 0 ? entry->labels : labels);
    bool done = changed != NULL;
    for (size_t i = 0; done && i < path_count; i++) {
        if (strcmp(paths[i], "labels") == 0) {
            json_decref(changed);
            changed = json_deep_copy(labels);
            done = changed != NULL;
        } else if (strncmp(paths[i], prefix, strlen(prefix)) == 0) {
            const char *key = paths[i] + strlen(prefix);
            json_t *value = json_object_get(labels, key);
            if (value)
                done = json_object_set(changed, key, value) == 0;
            else
                json_object_del(changed, key);
        } else {
            error_set(error, ERROR_INVALID, "the field %.100s of a snapshot cannot be changed",
                      paths[i]);
            return NULL;
        }
    }
    if (!done)
        error_set(error, ERROR_MEMORY, "out of memory");
    return done ? take(changed) : NULL;
}

enum snapshots_outcome snapshots_update(struct snapshots *snapshots, const char *key,
                                        const json_t *labels, const char *const *paths,
                                        size_t path_count, snapshots_show *show, void *context,
                                        struct error *error) {
    enum snapshots_outcome outcome = SNAPSHOTS_FAILED;
    snapshots_begin(snapshots);
    const struct entry *entry = entries_find(&snapshots->entries, key);
    cleanup_json json_t *changed =
        entry ? change_labels(entry, labels, paths, path_count, error) : NULL;
    if (!entry)
        error_set(error, ERROR_NOT_FOUND, "the snapshot %.200s does not exist", key);
    if (changed)
        outcome = replace(snapshots, copy_entry(entry, key, changed), error);
    snapshots_end(snapshots);
    return outcome == SNAPSHOTS_DONE ? snapshots_stat(snapshots, key, show, context, error)
                                     : outcome;
}
