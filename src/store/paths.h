/*
 * Private to store/: the names of everything below the root. All paths are relative to the root's
 * descriptor and are made only here, from values whose grammar allows no name that climbs out.
 *
 * Each returns false when its arguments are no such value or the path would be too long.
 */
#ifndef STORE_PATHS_H
#define STORE_PATHS_H

#include <stdbool.h>
#include "oci/digest.h"

/* "repositories/" HOST "/" NAME "/_manifests/sha512/" HEX is the longest: 673 with its NUL. */
enum { PATH_SIZE = 704 };

/* The directories of a repository's links; what store_path_link() calls a kind. */
#define LINKED_BLOBS     "_blobs"
#define LINKED_MANIFESTS "_manifests"

bool store_path_blob(char out[static PATH_SIZE], const struct digest *digest);
/* `folder` "/sha256-" HEX `suffix`: partials, their states, blobs in quarantine. */
bool store_path_flat(char out[static PATH_SIZE], const char *folder, const struct digest *digest,
                     const char *suffix);
/* The directory of a repository's links of one kind and algorithm. */
bool store_path_links(char out[static PATH_SIZE], const char *host, const char *repository,
                      const char *kind, enum digest_algorithm algorithm);
bool store_path_link(char out[static PATH_SIZE], const char *host, const char *repository,
                     const char *kind, const struct digest *digest);
bool store_path_tags(char out[static PATH_SIZE], const char *host, const char *repository);
bool store_path_tag(char out[static PATH_SIZE], const char *host, const char *repository,
                    const char *tag);

#endif
