/*
 * cachemachine's machine specifications: files of a folder, and bodies that are POSTed.
 *
 *   {"name": "jupyter", "labels": {"k": "v"}, "repomen": [
 *     {"type": "RubinRepoMan", "repo": "lsstsqre/sciplat-lab", "num_releases": 1, ...},
 *     {"type": "RubinRepoGar", "project_id": ..., ...}, {"type": "SimpleRepoMan", "images":
 * [...]}]}
 *
 * A machine is a keep. What is wrong with one is told with its place: `repomen[0].repo`.
 */
#ifndef KEEP_MACHINE_H
#define KEEP_MACHINE_H

#include <jansson.h>
#include "base/error.h"
#include "base/text.h"
#include "keep/spec.h"

enum { KEEP_MACHINE_BYTES = 1 << 20 };

struct keep_machine {
    struct keep_spec spec; /* its strings belong to the machine */
    json_t *json;          /* as it was given */
    void **pieces;
    size_t piece_count;
};

/* `secret`: the name of a pull secret for the machine's pods; NULL: none; outlives the machine.
 * NULL: ERROR_INVALID, ERROR_NO_SPACE (too many images) or ERROR_MEMORY. */
struct keep_machine *keep_machine_read(struct text bytes, const char *secret, struct error *error);
void keep_machine_free(struct keep_machine *machine); /* NULL is allowed */

/* The spec's labels as JSON, new. NULL: out of memory. */
json_t *keep_machine_labels(const struct keep_spec *spec);

#endif
