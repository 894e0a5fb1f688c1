/* The media type under which a manifest is sent. */
#include <stdio.h>
#include "oci/manifest.h"
#include "registry/call.h"

#define DOCKER_SCHEMA_1 "application/vnd.docker.distribution.manifest.v1"

enum { PARSED_IN_PLACE = 8 << 10 }; /* bytes that an event loop may parse */

/* Whether a type, perhaps with parameters, is JSON of some kind of manifest. No browser runs such a
 * type as a page or an image, so upstream's own is sent. */
static bool is_manifest_type(const char *type) {
    struct text rest, name = text_trim(text_cut(text_of(type), ';', &rest));
    return manifest_is_media_type(text_of(type)) && text_starts(name, "application/") &&
           (text_ends(name, "+json") || text_ends(name, "+prettyjws") ||
            text_is(name, "application/json"));
}

/* Schema 1, which manifest_parse() does not know, has a member "fsLayers". */
static const char *type_of_others(const struct document *document) {
    if (!memmem(document->bytes, document->length, "\"fsLayers\"", 10))
        return MEDIA_UNKNOWN;
    bool is_signed = memmem(document->bytes, document->length, "\"signatures\"", 12) != NULL;
    return is_signed ? DOCKER_SCHEMA_1 "+prettyjws" : DOCKER_SCHEMA_1 "+json";
}

bool media_type_is_costly(const struct document *document) {
    return document->has_bytes && document->length > PARSED_IN_PLACE &&
           !is_manifest_type(document->media_type);
}

const char *media_type_of(const struct document *document, char out[static MEDIA_TYPE_SIZE]) {
    if (is_manifest_type(document->media_type))
        return document->media_type;
    struct manifest manifest;
    if (!document->has_bytes)
        return NULL;
    if (!manifest_parse(document->bytes, document->length, &manifest, NULL))
        return type_of_others(document);
    const char *type = is_manifest_type(manifest.media_type) ? manifest.media_type
                       : manifest.is_index                   ? MEDIA_OCI_INDEX
                                                             : MEDIA_OCI_MANIFEST;
    snprintf(out, MEDIA_TYPE_SIZE, "%s", type);
    manifest_finish(&manifest);
    return out;
}
