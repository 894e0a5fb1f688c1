/*
 * The context of a build: a folder as a tar archive, without what its ignore files leave out.
 *
 * The archive is the same on every machine: names in the order of their bytes, owner 0:0, all times
 * 1980-01-01 (some tools of builds, such as zip, take no earlier one). Its SHA-256 is its name, so
 * that a context that has not changed is known. The folder is read twice, first for that digest and
 * then for the archive, and nothing is written to the disk in between.
 *
 * The ignore files are those of docker: DOCKERFILE.dockerignore, else .dockerignore; and, for Cloud
 * Build, .gcloudignore beside it, with its lines "#!include:FILE". The Dockerfile and .dockerignore
 * are always sent. A symlink that leads out of the folder is refused, because whoever unpacks the
 * context has nothing there.
 *
 * One thread at a time.
 */
#ifndef BUILD_CONTEXT_H
#define BUILD_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "copy/sink.h"
#include "oci/digest.h"

enum {
    CONTEXT_TIME = 315532800, /* 1980-01-01T00:00:00Z */
    CONTEXT_ENTRIES_LIMIT = 4 << 20,
};

struct context;

struct context_settings {
    const char *folder;
    const char *dockerfile; /* relative to the folder; NULL: no Dockerfile is needed */
    bool reads_gcloudignore;
    bool keeps_symlinks; /* those that lead out of the folder, too */
};

struct context_sum {
    struct digest digest; /* SHA-256 of the archive */
    uint64_t files;       /* all entries but folders */
    uint64_t bytes;       /* of their content */
};

/* Opens the folder and reads its ignore files. NULL: ERROR_NOT_FOUND (no folder, no Dockerfile),
 * ERROR_INVALID (a pattern, with its line), ERROR_IO, ERROR_MEMORY. */
struct context *context_open(const struct context_settings *settings, struct error *error);
void context_close(struct context *context); /* NULL is allowed */

/* Reads all of it for its sum. False: the error names the file. */
bool context_measure(struct context *context, struct context_sum *sum, struct error *error);

/* Hands on the path of each file that would be sent, without reading its content. */
bool context_list(struct context *context, bool (*on_path)(void *receiver, const char *path),
                  void *receiver, struct error *error);

/* Writes the archive that was measured. False: ERROR_CORRUPT names the file that has changed since;
 * or as context_measure(), or the sink's. Whoever takes the bytes hashes them as well, and asks
 * context_check(). */
bool context_write(struct context *context, const struct sink *sink, struct error *error);
/* Whether what was written has the digest that was measured. False: ERROR_CORRUPT. */
bool context_check(const struct context *context, const struct digest *digest, struct error *error);

#endif
