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

enum { TAG_SIZE = TAG_LIMIT + 1 };

#define RECORDS "repositories" /* the directory of all records */
#define HISTORY "history"      /* store/note.h */
#define FILLED  "filled"       /* store/note.h */
#define PENDING "pending"      /* store/pending.h */
#define ASIDE   "aside"        /* store/aside.h */

/* The directories of a repository's links; what store_path_link() calls a kind. */
#define LINKED_BLOBS     "_blobs"
#define LINKED_MANIFESTS "_manifests"

bool store_path_blob(char out[static PATH_SIZE], const struct digest *digest);
/* `folder` "/sha256-" HEX `suffix`: partials, their states, blobs in quarantine, what is pending.
 */
bool store_path_flat(char out[static PATH_SIZE], const char *folder, const struct digest *digest,
                     const char *suffix);
/* The digest in a name "sha256-HEX". */
bool store_path_flat_digest(struct text name, struct digest *out);
/* The directory of a repository's links of one kind and algorithm. */
void store_path_links(char out[static PATH_SIZE], const struct repository_name *repository,
                      const char *kind, enum digest_algorithm algorithm);
bool store_path_link(char out[static PATH_SIZE], const struct repository_name *repository,
                     const char *kind, const struct digest *digest);
void store_path_tags(char out[static PATH_SIZE], const struct repository_name *repository);
/* `ignores_case`: the root's file system does, so that `V1` and `v1` would be one file there. The
 * file's name is then the tag in lower case, '+', and a hexadecimal digit for each four characters
 * whose bits say which of them are upper case (the lowest bit is the first character's), without
 * the zeros at the end: "v1+" and "v1+1". A tag has no '+', so that no such file is taken for the
 * record of another tag. */
bool store_path_tag(char out[static PATH_SIZE], const struct repository_name *repository,
                    const char *tag, bool ignores_case);
/* The tag whose file has this name. False: no tag's. */
bool store_path_tag_of_file(const char *name, bool ignores_case, char tag[static TAG_SIZE]);

#endif
