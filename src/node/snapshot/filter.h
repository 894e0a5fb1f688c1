/*
 * The filters of a list of snapshots, in containerd's syntax (containerd, pkg/filters).
 *
 *     kind==committed,labels."containerd.io/snapshot.ref"==sha256:…,parent==""
 *
 * A filter is a list of conditions, of which all must hold: a field (`name`, `parent`, `kind`,
 * `labels.KEY`) that is there, or one that is equal to (`==`), is not equal to (`!=`) or matches
 * (`~=`) a value. A field's parts and a value may be quoted; a pattern may also stand between `/`
 * or
 * `|`. Patterns are extended regular expressions of POSIX without counts (`{2,3}`) and without
 * references (`\1`), because these can take any amount of memory or time. Pure.
 */
#ifndef NODE_SNAPSHOT_FILTER_H
#define NODE_SNAPSHOT_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "node/snapshot/entries.h"

enum {
    FILTER_LIMIT = 64,           /* filters of a list, and conditions of a filter */
    FILTER_TEXT_LIMIT = 8 << 10, /* bytes of a filter */
    FILTER_PATTERN_LIMIT = 256,  /* bytes of a pattern */
};

struct filters;

/* The filters of which one must hold; without any, everything matches. NULL: ERROR_INVALID (with
 * the place in the text), ERROR_MEMORY. */
struct filters *filters_parse(const char *const *texts, size_t count, struct error *error);
void filters_free(struct filters *filters);

bool filters_match(const struct filters *filters, const struct entry *entry);

static inline void cleanup_filters_call(struct filters **filters) {
    filters_free(*filters);
}
/* filters_free() at the end of the scope. */
#define cleanup_filters __attribute__((cleanup(cleanup_filters_call)))

#endif
