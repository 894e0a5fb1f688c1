/* Media types of layers of files (image-spec layer.md; Docker's image manifest V2, schema 2). Pure;
 * any thread. */
#ifndef LAYER_MEDIA_TYPE_H
#define LAYER_MEDIA_TYPE_H

#include <stdbool.h>

/* Whether it is the type of a layer of files; *is_plain: it says that there is no compression.
 * Docker's type without a suffix says nothing about that. */
bool layer_media_type_parse(const char *type, bool *is_plain);

#endif
