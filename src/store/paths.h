/*
 * Private to store/: the names of everything below the root. All paths are relative to the root's
 * descriptor and are made only here. No path can climb out of the root: a repository's name comes
 * as a `struct repository_name`, which only the parser of its grammar makes, so that the grammar is
 * not checked again here; digests have only hexadecimal digits; a tag is checked here.
 *
 * The functions that return false do so when the digest or the tag is none.
 */
#ifndef STORE_PATHS_H
#define STORE_PATHS_H

#include <stdbool.h>
#include "oci/digest.h"
#include "oci/reference.h"

/* "repositories/" HOST "/" NAME "/_manifests/sha512/" HEX is the longest: 673 with its NUL. */
enum { PATH_SIZE = 704 };

#define RECORDS "repositories" /* the directory of all records */

/* The directories of a repository's links; what store_path_link() calls a kind. */
#define LINKED_BLOBS     "_blobs"
#define LINKED_MANIFESTS "_manifests"

bool store_path_blob(char out[static PATH_SIZE], const struct digest *digest);
/* `folder` "/sha256-" HEX `suffix`: partials, their states, blobs in quarantine. */
bool store_path_flat(char out[static PATH_SIZE], const char *folder, const struct digest *digest,
                     const char *suffix);
/* The directory of a repository's links of one kind and algorithm. */
void store_path_links(char out[static PATH_SIZE], const struct repository_name *repository,
                      const char *kind, enum digest_algorithm algorithm);
bool store_path_link(char out[static PATH_SIZE], const struct repository_name *repository,
                     const char *kind, const struct digest *digest);
void store_path_tags(char out[static PATH_SIZE], const struct repository_name *repository);
bool store_path_tag(char out[static PATH_SIZE], const struct repository_name *repository,
                    const char *tag);

#endif
