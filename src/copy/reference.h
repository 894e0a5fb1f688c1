/*
 * What people name on the command line of the commands that read and write images:
 *
 *   HOST[:PORT]/NAME[:TAG][@DIGEST]     an image of a registry
 *   oci:DIR[:TAG]                       an image of a folder in OCI's image layout
 *   docker-archive:FILE[:NAME:TAG]      an image of an archive as `docker save` writes it
 *
 * Pure; hostile input; any thread.
 */
#ifndef COPY_REFERENCE_H
#define COPY_REFERENCE_H

#include <limits.h>
#include <stdbool.h>
#include "base/error.h"
#include "base/text.h"
#include "oci/digest.h"
#include "oci/reference.h"

enum copy_kind { COPY_REGISTRY, COPY_LAYOUT, COPY_ARCHIVE };

enum { COPY_PATTERN_LIMIT = 128, COPY_REFERENCE_SIZE = PATH_MAX + 600 };

struct copy_reference {
    enum copy_kind kind;
    /* REGISTRY: the canonical host ("docker.io"), and the path with library/ added. ARCHIVE: the
     * name of the image in it; both "" when none is given. */
    struct repository_name name;
    char path[PATH_MAX];                  /* LAYOUT, ARCHIVE: the folder or file */
    char tag[TAG_LIMIT + 1];              /* "": none is given */
    struct digest digest;                 /* REGISTRY; algorithm 0: none is given */
    char pattern[COPY_PATTERN_LIMIT + 1]; /* REGISTRY: of tags, in place of one; "": none */
};

enum copy_form {
    COPY_FORM_IMAGE,      /* an image; of a registry `latest`, if neither tag nor digest is given */
    COPY_FORM_PATTERN,    /* the same, and a pattern of tags (`*`, `**`, `?`) is allowed */
    COPY_FORM_TARGET,     /* a destination: the tag stays open when none is given */
    COPY_FORM_REPOSITORY, /* HOST/NAME alone */
};

/* False: ERROR_INVALID; the text names what was given. */
bool copy_reference_parse(struct text text, enum copy_form form, struct copy_reference *out,
                          struct error *error);

/* Writes the reference as people type it. Returns `out`. */
const char *copy_reference_format(const struct copy_reference *reference,
                                  char out[static COPY_REFERENCE_SIZE]);

/* Which manifest it means at its repository: the digest if there is one, else the tag. Returns
 * `out`. */
const char *copy_reference_manifest(const struct copy_reference *reference,
                                    char out[static DIGEST_STRING_SIZE]);

/* "HOST/NAME", the folder or the file. */
const char *copy_reference_place(const struct copy_reference *reference,
                                 char out[static COPY_REFERENCE_SIZE]);

#endif
