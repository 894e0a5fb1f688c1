/* The tree of snapshots in memory, and the records of its entries. */
#include "node/snapshot/entries.h"

#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"

void entries_init(struct entries *entries) {
    *entries = (struct entries){.next_id = 1};
}

void entry_free(struct entry *entry) {
    if (!entry)
        return;
    json_decref(entry->labels);
    free(entry->image);
    free(entry->name);
    free(entry);
}

struct entry *entry_new(const char *name, struct entry *parent, enum entry_kind kind,
                        json_t *labels) {
    struct entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->labels = json_incref(labels);
    entry->name = strdup(name);
    entry->parent = parent;
    entry->depth = parent ? parent->depth + 1 : 0;
    entry->kind = kind;
    if (entry->name && entry->labels)
        return entry;
    entry_free(entry);
    return NULL;
}

struct entry *entries_find(const struct entries *entries, const char *name) {
    struct entry *found;
    HASH_FIND(by_name, entries->by_name, name, strlen(name), found);
    return found;
}

struct entry *entries_find_id(const struct entries *entries, uint64_t id) {
    struct entry *found;
    HASH_FIND(by_id, entries->by_id, &id, sizeof id, found);
    return found;
}

static void take_out(struct entries *entries, struct entry *entry) {
    HASH_DELETE(by_name, entries->by_name, entry);
    HASH_DELETE(by_id, entries->by_id, entry);
    if (entry->parent)
        entry->parent->children--;
    entries->count--;
}

/* False: out of memory, and nothing has changed. */
static bool add(struct entries *entries, struct entry *entry) {
    HASH_ADD_KEYPTR(by_name, entries->by_name, entry->name, strlen(entry->name), entry);
    if (!entry->by_name.tbl)
        return false;
    HASH_ADD(by_id, entries->by_id, id, sizeof entry->id, entry);
    if (!entry->by_id.tbl) {
        HASH_DELETE(by_name, entries->by_name, entry);
        return false;
    }
    if (entry->parent)
        entry->parent->children++;
    if (entry->id >= entries->next_id)
        entries->next_id = entry->id + 1;
    entries->count++;
    return true;
}

bool entries_put(struct entries *entries, struct entry *entry) {
    struct entry *before = entries_find_id(entries, entry->id);
    if (!before)
        return add(entries, entry);
    /* What was there leaves first, because both may have the same name. Its place in the tables is
     * then free for the new one, or for itself again. */
    take_out(entries, before);
    entry->mount = before->mount;
    if (!add(entries, entry)) {
        add(entries, before);
        return false;
    }
    for (struct entry *child = entries->by_id; before->children > 0 && child;
         child = child->by_id.next) {
        if (child->parent != before)
            continue;
        child->parent = entry;
        before->children--;
        entry->children++;
    }
    entry_free(before);
    return true;
}

void entries_remove(struct entries *entries, struct entry *entry) {
    take_out(entries, entry);
    entry_free(entry);
}

void entries_finish(struct entries *entries) {
    while (entries->by_id) {
        struct entry *entry = entries->by_id;
        entry->parent = NULL;
        entries_remove(entries, entry);
    }
}

int entries_compare_depth(const struct entry *a, const struct entry *b) {
    return a->depth < b->depth ? -1 : a->depth > b->depth;
}

/* ---- records ---- */

void entries_write_put(const struct entry *entry, struct buffer *out) {
    buffer_printf(out, "{\"put\":%llu,\"name\":\"", (unsigned long long)entry->id);
    buffer_append_json(out, text_of(entry->name));
    buffer_printf(out, "\",\"kind\":%d,\"created\":%lld,\"updated\":%lld", (int)entry->kind,
                  (long long)entry->created_ns, (long long)entry->updated_ns);
    if (entry->parent)
        buffer_printf(out, ",\"parent\":%llu", (unsigned long long)entry->parent->id);
    if (entry->size || entry->inodes)
        buffer_printf(out, ",\"size\":%llu,\"inodes\":%llu", (unsigned long long)entry->size,
                      (unsigned long long)entry->inodes);
    if (entry->image) {
        buffer_printf(out, ",\"layers\":%u,\"image\":\"", entry->layers);
        buffer_append_json(out, text_of(entry->image));
        buffer_append_string(out, "\"");
    }
    if (json_object_size(entry->labels) > 0) {
        buffer_append_string(out, ",\"labels\":");
        if (!bounded_json_dump(entry->labels, JSON_COMPACT, out))
            out->failed = true;
    }
    buffer_append_string(out, "}");
}

void entries_write_remove(uint64_t id, struct buffer *out) {
    buffer_printf(out, "{\"remove\":%llu}", (unsigned long long)id);
}

void entries_write_next(uint64_t next_id, struct buffer *out) {
    buffer_printf(out, "{\"next\":%llu}", (unsigned long long)next_id);
}

/* A number that is not negative; 0: it is absent, or no such number. */
static uint64_t number_of(const json_t *record, const char *name) {
    json_int_t number = json_integer_value(json_object_get(record, name));
    return number > 0 ? (uint64_t)number : 0;
}

static bool corrupt(struct error *error, const char *what) {
    return error_set(error, ERROR_CORRUPT, "the record %s", what);
}

/* Whether the entry may be put there. */
static bool check_put(const struct entries *entries, const struct entry *entry,
                      const json_t *record, struct error *error) {
    const struct entry *named = entries_find(entries, entry->name);
    const struct entry *before = entries_find_id(entries, entry->id);
    if (entry->id == 0 || entry->id >= UINT64_MAX / 2 || !entry->name[0])
        return corrupt(error, "has no number or no name");
    if (named && named->id != entry->id)
        return corrupt(error, "has the name of another snapshot");
    if (entry->kind < ENTRY_VIEW || entry->kind > ENTRY_COMMITTED)
        return corrupt(error, "has an unknown kind");
    if (json_object_get(record, "parent") &&
        (!entry->parent || entry->parent->kind != ENTRY_COMMITTED ||
         entry->parent->id == entry->id || entry->depth > ENTRIES_DEPTH_LIMIT))
        return corrupt(error, "names a parent that cannot be one");
    if (before && before->children > 0 &&
        (entry->kind != ENTRY_COMMITTED || entry->parent != before->parent))
        return corrupt(error, "changes a snapshot on which others stand");
    return true;
}

static bool replay_put(struct entries *entries, const json_t *record, struct error *error) {
    struct entry *parent = entries_find_id(entries, number_of(record, "parent"));
    json_t *given = json_object_get(record, "labels");
    cleanup_json json_t *labels = given ? json_incref(given) : json_object();
    cleanup_entry struct entry *entry =
        entry_new(json_member_text(record, "name"), parent,
                  (enum entry_kind)number_of(record, "kind"), labels);
    if (!entry)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!json_is_object(labels))
        return corrupt(error, "has labels that are none");
    entry->id = number_of(record, "put");
    entry->created_ns = (int64_t)number_of(record, "created");
    entry->updated_ns = (int64_t)number_of(record, "updated");
    entry->size = number_of(record, "size");
    entry->inodes = number_of(record, "inodes");
    entry->layers = (unsigned)number_of(record, "layers");
    const char *image = json_member_text(record, "image");
    if (image[0] && !(entry->image = strdup(image)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!check_put(entries, entry, record, error))
        return false;
    if (!entries_put(entries, entry))
        return error_set(error, ERROR_MEMORY, "out of memory");
    take(entry);
    return true;
}

static bool replay_remove(struct entries *entries, const json_t *record, struct error *error) {
    struct entry *entry = entries_find_id(entries, number_of(record, "remove"));
    if (!entry || entry->children > 0)
        return corrupt(error, "removes a snapshot that is not there, or is in use");
    entries_remove(entries, entry);
    return true;
}

bool entries_replay(struct entries *entries, struct text record, struct error *error) {
    cleanup_json json_t *json = bounded_json_load_by(0, record.at, record.length, error);
    if (!json) {
        if (error && error->kind == ERROR_INVALID)
            error->kind = ERROR_CORRUPT;
        return false;
    }
    if (json_object_get(json, "put"))
        return replay_put(entries, json, error);
    if (json_object_get(json, "remove"))
        return replay_remove(entries, json, error);
    uint64_t next = number_of(json, "next");
    if (next == 0 || next >= UINT64_MAX / 2)
        return corrupt(error, "is of an unknown kind");
    if (next > entries->next_id)
        entries->next_id = next;
    return true;
}
