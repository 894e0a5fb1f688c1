/* Makes, shares and releases documents. */
#include "cache/document.h"

#include <stdlib.h>
#include <string.h>

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

struct document *document_from(const struct digest *digest, const char *media_type,
                               const void *bytes, size_t length) {
    struct document *document = document_new(digest, media_type, length, true);
    if (document && length)
        memcpy(document->bytes, bytes, length);
    return document;
}

struct document *document_keep(struct document *document) {
    atomic_fetch_add_explicit(&document->references, 1, memory_order_relaxed);
    return document;
}

void document_release(struct document *document) {
    if (!document || atomic_fetch_sub_explicit(&document->references, 1, memory_order_acq_rel) > 1)
        return;
    struct document_derived *derived = document_derived(document);
    if (derived)
        derived->free(derived);
    if (document->counted_in)
        atomic_fetch_sub(document->counted_in, document->length);
    free(document);
}

struct document_derived *document_derived(struct document *document) {
    return atomic_load_explicit(&document->derivation, memory_order_acquire);
}

struct document_derived *document_set_derived(struct document *document,
                                              struct document_derived *derived) {
    struct document_derived *earlier = NULL;
    if (atomic_compare_exchange_strong(&document->derivation, &earlier, derived))
        return derived;
    derived->free(derived);
    return earlier;
}
