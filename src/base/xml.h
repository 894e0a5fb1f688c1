/*
 * XML from untrusted services, as a walk over its elements, within bounds.
 *
 * A document has at most XML_LENGTH_LIMIT bytes and XML_DEPTH_LIMIT levels of elements, and no
 * document type declaration, so that no entity can be defined. A name is given without its
 * namespace's prefix. Pure; any thread.
 */
#ifndef BASE_XML_H
#define BASE_XML_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "base/text.h"

enum {
    XML_LENGTH_LIMIT = 1 << 20,
    XML_DEPTH_LIMIT = 8,
    XML_PATH_SIZE = 512,
};

struct xml_sink {
    void *context;
    /* An element has begun; `path` is "ListBucketResult/Contents". May be NULL. */
    bool (*on_begin)(void *context, const char *path, struct error *error);
    /* It ends; `text` is its own text, without that of the elements in it, and is valid during the
     * call. May be NULL. Each callback returns false, with the error set, to end the walk. */
    bool (*on_end)(void *context, const char *path, struct text text, struct error *error);
};

/* False: ERROR_INVALID (no well-formed document, with line and column, or beyond the bounds),
 * ERROR_MEMORY, or what a callback set. Callbacks may have been called before. The memory that held
 * the texts is wiped, because they may be secrets. */
bool xml_walk(const void *bytes, size_t length, const struct xml_sink *sink, struct error *error);

#endif
