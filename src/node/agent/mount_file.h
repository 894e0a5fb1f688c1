/*
 * The file ROOT/mounts.json: what is mounted where, over restarts. It is replaced as a whole, and a
 * crash leaves the old or the new one. Private to agent/; any thread.
 */
#ifndef NODE_AGENT_MOUNT_FILE_H
#define NODE_AGENT_MOUNT_FILE_H

#include <jansson.h>
#include "node/agent/mounts.h"

struct mount_record { /* owned texts */
    char *folder, *image;
    char layer[MOUNT_ORDER_LAYER_SIZE]; /* of what is written; "": the mount is read-only */
    char token[MOUNTS_TOKEN_LIMIT + 1];
    uint32_t number; /* of its tree */
};

/* False: out of memory. A token that is too long counts as none. */
bool mount_record_init(struct mount_record *record, const char *folder, const char *image,
                       const char *layer, const char *token);
bool mount_record_copy(const struct mount_record *record, struct mount_record *out);
void mount_record_finish(struct mount_record *record);

json_t *mount_record_write(const struct mount_record *record);
/* False: out of memory, or it is none. */
bool mount_record_read(const json_t *json, struct mount_record *out);

/* *root: the caller's; NULL: there is no file yet. ERROR_INVALID: it is damaged. */
bool mount_file_read(const char *folder, json_t **root, struct error *error);
/* Takes over both; NULL is out of memory. */
bool mount_file_save(const char *folder, json_t *mounts, json_t *trees, struct error *error);

#endif
