/* Private to store/: lists the names of a repository's records without reading the records. */
#ifndef STORE_RECORD_NAMES_H
#define STORE_RECORD_NAMES_H

#include "store/records.h"

/* The name of the folder that holds a repository's links of this kind. */
const char *record_names_folder(enum link_kind kind);

/* All call `each` until it returns false; `each` may delete the record that it is given. */
bool record_names_of_links(struct store *store, const struct repository_name *repository,
                           enum link_kind kind,
                           bool (*each)(void *context, const struct digest *digest), void *context,
                           struct error *error);
bool record_names_of_tags(struct store *store, const struct repository_name *repository,
                          bool (*each)(void *context, const char *tag), void *context,
                          struct error *error);
/* The paths of files among the tags that are no tag's: on a file system that ignores case, what a
 * tarn before this rule wrote, and what was copied from another file system. Elsewhere there are
 * none. */
bool record_names_of_lost_tags(struct store *store, const struct repository_name *repository,
                               bool (*each)(void *context, const char *path), void *context,
                               struct error *error);

#endif
