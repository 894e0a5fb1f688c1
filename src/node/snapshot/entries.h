/*
 * The snapshots that there are: a tree in memory, with the record that each has in the journal.
 *
 * An entry has a name, which no other entry has, and a number, which no entry ever had before: the
 * number is its folder's name. The owner guards all of it with one lock. Pure apart from memory.
 */
#ifndef NODE_SNAPSHOT_ENTRIES_H
#define NODE_SNAPSHOT_ENTRIES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>
#include "base/buffer.h"
#include "base/error.h"

enum {
    ENTRIES_LIMIT = 65536,      /* entries at the same time */
    ENTRIES_NAME_LIMIT = 4096,  /* bytes of a name */
    ENTRIES_DEPTH_LIMIT = 512,  /* entries below one another */
    ENTRIES_LABEL_LIMIT = 4096, /* bytes of a label's key and value (containerd's own limit) */
    ENTRIES_LABELS_LIMIT = 256 << 10, /* bytes of all labels of an entry */
};

/* Values as in containerd.services.snapshots.v1.Kind. */
enum entry_kind { ENTRY_VIEW = 1, ENTRY_ACTIVE = 2, ENTRY_COMMITTED = 3 };

enum entry_mount { ENTRY_NOT_MOUNTED, ENTRY_MOUNTING, ENTRY_MOUNTED };

struct entry {
    char *name;
    struct entry *parent; /* a committed one; NULL: none */
    unsigned children;    /* entries whose parent this is */
    unsigned depth;       /* entries above it */
    uint64_t id;          /* from 1 on */
    enum entry_kind kind;
    int64_t created_ns, updated_ns; /* since 1970 */
    json_t *labels;                 /* an object of strings, none of them empty */
    uint64_t size, inodes;          /* what a committed one takes on the disk */
    /* The image ("HOST/NAME@DIGEST") of which this committed entry is the lowest `layers` layers,
     * whose files are not in its folder but are mounted there. NULL: the files are in the folder.
     * The parents of such an entry are such entries, too. */
    char *image;
    unsigned layers;
    enum entry_mount mount; /* not in the record */
    UT_hash_handle by_name, by_id;
};

struct entries {
    struct entry *by_name, *by_id;
    unsigned count;
    uint64_t next_id; /* larger than every number that was ever used */
};

void entries_init(struct entries *entries);
void entries_finish(struct entries *entries);

/* NULL: there is none. */
struct entry *entries_find(const struct entries *entries, const char *name);
struct entry *entries_find_id(const struct entries *entries, uint64_t id);

/* A new entry outside of the tree; `labels` is shared with the caller. NULL: out of memory. */
struct entry *entry_new(const char *name, struct entry *parent, enum entry_kind kind,
                        json_t *labels);
void entry_free(struct entry *entry); /* one outside of the tree */

static inline void cleanup_entry_call(struct entry **entry) {
    entry_free(*entry);
}
/* entry_free() at the end of the scope. */
#define cleanup_entry __attribute__((cleanup(cleanup_entry_call)))

/* Puts an entry into the tree, which then owns it; an entry there with the same number leaves the
 * tree, is freed, and its children and its mount are the new one's. False: out of memory, and
 * nothing has changed. No other entry may have the name. */
bool entries_put(struct entries *entries, struct entry *entry);

/* Takes an entry without children out of the tree and frees it. */
void entries_remove(struct entries *entries, struct entry *entry);

/* For HASH_SRT: parents first. */
int entries_compare_depth(const struct entry *a, const struct entry *b);

/* Appends the record of an entry, or of its end, as one line of JSON without the line's end. */
void entries_write_put(const struct entry *entry, struct buffer *out);
void entries_write_remove(uint64_t id, struct buffer *out);
/* Appends the record that numbers below `next_id` were used. */
void entries_write_next(uint64_t next_id, struct buffer *out);

/* Does what a record says. False: ERROR_CORRUPT (it is no record, or contradicts those before it),
 * ERROR_MEMORY. */
bool entries_replay(struct entries *entries, struct text record, struct error *error);

#endif
