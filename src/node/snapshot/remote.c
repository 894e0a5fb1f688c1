/* Remote snapshots: layers that are neither fetched nor unpacked, and the mounts that show them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "node/snapshot/snapshots_private.h"

#define LABEL_IMAGE    "containerd.io/snapshot/cri.image-ref"
#define LABEL_MANIFEST "containerd.io/snapshot/cri.manifest-digest"
#define LABEL_LAYER    "containerd.io/snapshot/cri.layer-digest"

/* ---- finding ---- */

/* What is known before anybody searches. */
enum standing { IS_ORDINARY, IS_HERE, IS_UNKNOWN };

/* Whether the entry stands for these layers above that parent. */
static bool stands_for(const struct entry *entry, const char *chain, const struct entry *parent) {
    return entry->image && entry->parent == parent &&
           strcmp(json_member_text(entry->labels, SNAPSHOTS_LABEL_REF), chain) == 0;
}

static enum standing look(const struct snapshots *snapshots,
                          const struct snapshots_request *request, const char *chain,
                          uint64_t *parent_id) REQUIRES(snapshots->state_lock) {
    const struct entry *parent =
        request->parent[0] ? entries_find(&snapshots->entries, request->parent) : NULL;
    if (entries_find(&snapshots->entries, request->key) || (request->parent[0] && !parent) ||
        (parent && !parent->image))
        return IS_ORDINARY;
    *parent_id = parent ? parent->id : 0;
    const struct entry *entry, *next;
    HASH_ITER (by_id, snapshots->entries.by_id, entry, next) {
        if (stands_for(entry, chain, parent))
            return IS_HERE;
    }
    return IS_UNKNOWN;
}

static bool is_searched(const struct snapshots *snapshots, const char *chain, uint64_t parent)
    REQUIRES(snapshots->state_lock) {
    for (const struct snapshots_search *search = snapshots->searches; search; search = search->next)
        if (search->parent == parent && strcmp(search->chain, chain) == 0)
            return true;
    return false;
}

/* Waits while another thread searches for the same layers, and then registers this search. */
static enum standing begin_search(struct snapshots *snapshots,
                                  const struct snapshots_request *request,
                                  struct snapshots_search *search) {
    enum standing standing;
    lock_acquire(&snapshots->state_lock);
    while ((standing = look(snapshots, request, search->chain, &search->parent)) == IS_UNKNOWN &&
           is_searched(snapshots, search->chain, search->parent))
        condition_wait(&snapshots->changed, &snapshots->state_lock);
    if (standing == IS_UNKNOWN) {
        search->next = snapshots->searches;
        snapshots->searches = search;
    }
    lock_release(&snapshots->state_lock);
    return standing;
}

static void end_search(struct snapshots *snapshots, const struct snapshots_search *search) {
    lock_acquire(&snapshots->state_lock);
    struct snapshots_search **at = &snapshots->searches;
    while (*at != search)
        at = &(*at)->next;
    *at = search->next;
    condition_broadcast(&snapshots->changed);
    lock_release(&snapshots->state_lock);
}

/* In a turn: a committed entry for the layers, outside of the tree. NULL: the parent has gone, the
 * image does not fit onto it, or memory is out. */
static struct entry *make_entry(struct snapshots *snapshots,
                                const struct snapshots_request *request, const char *chain,
                                const struct snapshots_found *found) {
    char name[ENTRIES_NAME_LIMIT];
    struct entry *parent = entries_find(&snapshots->entries, request->parent);
    if (parent ? !parent->image || parent->layers + 1 != found->layers
               : request->parent[0] || found->layers != 1)
        return NULL;
    uint64_t id = snapshots_take_id(snapshots);
    snprintf(name, sizeof name, "%s", chain);
    /* Another snapshot has the plain name, for example of the same layers above another parent. */
    if (entries_find(&snapshots->entries, name))
        snprintf(name, sizeof name, "%s@%llu", chain, (unsigned long long)id);
    struct entry *entry = entry_new(name, parent, ENTRY_COMMITTED, request->labels);
    if (!entry)
        return NULL;
    entry->id = id;
    entry->created_ns = entry->updated_ns = snapshots_now_ns();
    entry->image = strdup(found->image);
    entry->layers = found->layers;
    if (!entry->image)
        entry_free(take(entry));
    return entry;
}

/* The number of the new entry; 0: the error is set. */
static uint64_t add(struct snapshots *snapshots, const struct snapshots_request *request,
                    const char *chain, const struct snapshots_found *found, struct error *error) {
    uint64_t id = 0;
    bool done = false;
    snapshots_begin(snapshots);
    cleanup_entry struct entry *entry = make_entry(snapshots, request, chain, found);
    if (!entry)
        error_set(error, ERROR_NOT_FOUND, "%s is not above these layers", found->image);
    else if (folders_make(snapshots->fd, entry->id, false, geteuid(), getegid(), error)) {
        id = entry->id;
        done = snapshots_put(snapshots, entry, error);
        if (done)
            take(entry);
        else
            folders_delete(snapshots->fd, id, NULL);
    }
    snapshots_end(snapshots);
    return done ? id : 0;
}

/* ---- mounting ---- */

/* The highest remote entry among this and those below it. */
static struct entry *find_remote(struct entry *entry) {
    while (entry && !entry->image)
        entry = entry->parent;
    return entry;
}

/* Waits until no thread mounts the entry with this number, and takes over to mount it. NULL: it is
 * mounted, or it is gone. Else the image's name, the caller's to free(). */
static char *begin_mount(struct snapshots *snapshots, uint64_t id, unsigned *layers,
                         bool *is_out_of_memory) {
    char *image = NULL;
    struct entry *entry;
    lock_acquire(&snapshots->state_lock);
    while ((entry = entries_find_id(&snapshots->entries, id)) && entry->mount == ENTRY_MOUNTING)
        condition_wait(&snapshots->changed, &snapshots->state_lock);
    if (entry && entry->mount == ENTRY_NOT_MOUNTED) {
        image = strdup(entry->image);
        *is_out_of_memory = !image;
        *layers = entry->layers;
        if (image)
            entry->mount = ENTRY_MOUNTING;
    }
    lock_release(&snapshots->state_lock);
    return image;
}

static void end_mount(struct snapshots *snapshots, uint64_t id, bool is_mounted) {
    lock_acquire(&snapshots->state_lock);
    struct entry *entry = entries_find_id(&snapshots->entries, id);
    if (entry)
        entry->mount = is_mounted ? ENTRY_MOUNTED : ENTRY_NOT_MOUNTED;
    condition_broadcast(&snapshots->changed);
    lock_release(&snapshots->state_lock);
}

static bool mount_remote(struct snapshots *snapshots, uint64_t id, const atomic_bool *stop,
                         struct error *error) {
    char directory[FOLDERS_PATH_LIMIT];
    unsigned layers = 0;
    bool is_out_of_memory = false;
    cleanup_free char *image = begin_mount(snapshots, id, &layers, &is_out_of_memory);
    if (is_out_of_memory)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!image)
        return true;
    folders_path(snapshots->root, id, "fs", directory);
    bool done = snapshots->has_images
                    ? snapshots->images.mount(snapshots->images.context, image, layers, directory,
                                              stop, error)
                    : error_set(error, ERROR_UNAVAILABLE, "streaming is switched off on this node");
    end_mount(snapshots, id, done);
    return done || error_wrap(error, "mounting %u layers of %s", layers, image);
}

bool snapshots_mount_lower(struct snapshots *snapshots, const char *name, const atomic_bool *stop,
                           struct error *error) {
    lock_acquire(&snapshots->state_lock);
    const struct entry *remote =
        name[0] ? find_remote(entries_find(&snapshots->entries, name)) : NULL;
    uint64_t id = remote ? remote->id : 0;
    lock_release(&snapshots->state_lock);
    return id == 0 || mount_remote(snapshots, id, stop, error);
}

/* ---- both ---- */

/* Searches, and enters what was found. *image: its name, the caller's; NULL: nothing was. */
static bool search(struct snapshots *snapshots, const struct snapshots_request *request,
                   const char *chain, char **image, struct error *error) {
    const struct snapshots_wanted wanted = {
        .chain = chain,
        .image = json_member_text(request->labels, LABEL_IMAGE),
        .manifest = json_member_text(request->labels, LABEL_MANIFEST),
        .layer = json_member_text(request->labels, LABEL_LAYER),
    };
    struct snapshots_found found = {0};
    struct error why = {0};
    if (!snapshots->images.find(snapshots->images.context, &wanted, request->stop, &found, error))
        return false;
    *image = found.image;
    uint64_t id = add(snapshots, request, chain, &found, error);
    if (id == 0)
        return false;
    /* When it fails now, the first container tries again. */
    if (found.is_whole && !mount_remote(snapshots, id, request->stop, &why))
        log_at(LOG_WARN, "image not mounted yet", LOG_STRING("image", found.image),
               LOG_STRING("error", why.text));
    return true;
}

enum snapshots_outcome snapshots_find_remote(struct snapshots *snapshots,
                                             const struct snapshots_request *request,
                                             const char *chain, struct error *error) {
    struct snapshots_search searched = {.chain = chain};
    cleanup_free char *image = NULL;
    struct error why = {0};
    if (!snapshots->has_images)
        return SNAPSHOTS_DONE;
    switch (begin_search(snapshots, request, &searched)) {
    case IS_ORDINARY:
        return SNAPSHOTS_DONE;
    case IS_HERE:
        return snapshots_refuse(SNAPSHOTS_EXISTS, error, ERROR_INVALID,
                                "the layers up to %s are here already", chain);
    case IS_UNKNOWN:
        break;
    }
    bool found = search(snapshots, request, chain, &image, &why);
    end_search(snapshots, &searched);
    if (found) {
        log_at(LOG_INFO, "layer streams", LOG_STRING("image", image), LOG_STRING("chain", chain));
        return snapshots_refuse(SNAPSHOTS_EXISTS, error, ERROR_INVALID,
                                "the layers up to %s stream", chain);
    }
    if (request->stop && atomic_load(request->stop))
        return snapshots_refuse(SNAPSHOTS_FAILED, error, ERROR_CLOSED, "nobody waits any more");
    log_at(LOG_INFO, "layer is unpacked",
           LOG_STRING("image", json_member_text(request->labels, LABEL_IMAGE)),
           LOG_STRING("chain", chain), LOG_STRING("why", why.text));
    return SNAPSHOTS_DONE;
}
