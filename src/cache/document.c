/* Makes, shares and releases documents. */
#include "cache/document.h"

#include <stdlib.h>

struct document *document_new(const struct digest *digest, const char *media_type, uint64_t length,
                              bool has_bytes) {
    struct document *document = malloc(sizeof *document + (has_bytes ? length : 0));
    if (!document)
        return NULL;
    *document = (struct document){
        .references = 1, .digest = *digest, .has_bytes = has_bytes, .length = length};
    text_copy(text_of(media_type), document->media_type, sizeof document->media_type);
    return document;
}

struct document *document_keep(struct document *document) {
    atomic_fetch_add_explicit(&document->references, 1, memory_order_relaxed);
    return document;
}

void document_release(struct document *document) {
    if (document && atomic_fetch_sub_explicit(&document->references, 1, memory_order_acq_rel) == 1)
        free(document);
}
