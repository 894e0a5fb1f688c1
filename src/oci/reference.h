/*
 * Names of hosts, repositories, tags and images, by the grammar of distribution-spec ("Pulling
 * manifests") and of Docker's references. Pure; any thread.
 */
#ifndef OCI_REFERENCE_H
#define OCI_REFERENCE_H

#include <stdbool.h>
#include "base/error.h"
#include "base/text.h"
#include "oci/digest.h"

enum { NAME_LIMIT = 255, TAG_LIMIT = 128, HOST_LIMIT = 255 };

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*, at most 255 bytes. */
bool reference_is_repository(struct text text);

/* [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127} */
bool reference_is_tag(struct text text);

/* "host", "host:port", "1.2.3.4:5", "[::1]:5": DNS labels or an address, and perhaps a port from 1
 * to 65535; at most HOST_LIMIT bytes. */
bool reference_is_host(struct text text);

/* Docker's rule for the first part of a name: it is a host when it has a '.' or ':' or is
 * "localhost". */
bool reference_looks_like_host(struct text part);

/*
 * A repository of a registry: the registry's host and the repository's path at it. A value. Only
 * repository_name_parse() makes one, so the grammar of a repository_name need not be checked again.
 */
struct repository_name {
    char host[HOST_LIMIT + 1]; /* as reference_is_host() takes it, in the case given */
    char path[NAME_LIMIT + 1]; /* as reference_is_repository() takes it */
};

/* False: `host` or `path` breaks its grammar; *out is then zeroed. */
bool repository_name_parse(struct text host, struct text path, struct repository_name *out);

bool repository_name_equal(const struct repository_name *a, const struct repository_name *b);

/* The part of a path behind /manifests/: a tag or a digest. */
struct reference {
    bool is_digest;
    struct digest digest;    /* if is_digest */
    char tag[TAG_LIMIT + 1]; /* else */
};

/* Reads a digest if there is a ':', else a tag. False: it breaks the grammar. */
bool reference_parse(struct text text, struct reference *out);

/* A whole image name as people type it: [HOST/]NAME[:TAG][@DIGEST]. */
struct image_name {
    char host[HOST_LIMIT + 1];       /* "" when the name has none */
    char repository[NAME_LIMIT + 1]; /* as typed: without Docker Hub's library/ */
    struct reference reference;      /* the digest if there is one, else the tag, else "latest" */
};
bool image_name_parse(struct text text, struct image_name *out, struct error *error);

#endif
