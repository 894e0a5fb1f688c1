/* The mounts that this process sees (proc_pid_mountinfo(5)). Private to agent/. */
#ifndef NODE_AGENT_MOUNTINFO_H
#define NODE_AGENT_MOUNTINFO_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

struct mountinfo_entry {
    char *folder;  /* where it is mounted */
    char *device;  /* "MAJOR:MINOR": equal for all mounts of one file system */
    char *type;    /* "erofs" */
    char *source;  /* what it says to be made from */
    char *options; /* of the file system */
};

struct mountinfo { /* zeroed is empty */
    char *bytes;
    struct mountinfo_entry *mounts; /* in the order in which they were mounted */
    size_t count;
};

/* ERROR_IO, ERROR_MEMORY. */
bool mountinfo_read(struct mountinfo *table, struct error *error);
void mountinfo_finish(struct mountinfo *table);
#define cleanup_mountinfo __attribute__((cleanup(mountinfo_finish)))

/* The mount that is seen at the folder, which is the last one; NULL: none is mounted there. */
const struct mountinfo_entry *mountinfo_find(const struct mountinfo *table, const char *folder);

#endif
