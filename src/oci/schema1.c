/* Finds the payload of a signed manifest of schema 1. */
#include "oci/schema1.h"

#include <stdlib.h>
#include <string.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "oci/manifest.h"

enum { TAIL_LIMIT = 64 }; /* bytes behind the signatures: white space and a brace */

static json_t *load(const void *bytes, size_t length) {
    return bounded_json_load_by(JSON_REJECT_DUPLICATES, bytes, length, NULL);
}

/* Decodes base64 in the alphabet for URLs (RFC 7515 §2). NULL: it is none, or out of memory. */
static char *decode(const json_t *string, size_t *length) {
    if (!json_is_string(string))
        return NULL;
    cleanup_free char *text = strdup(json_string_value(string));
    for (char *c = text; c && *c; c++)
        *c = *c == '-' ? '+' : *c == '_' ? '/' : *c;
    return text ? base64_decode(text_of(text), length) : NULL;
}

/* Puts the payload together: the first formatLength bytes and formatTail, as the first signature's
 * protected header says. */
static bool read_payload(const json_t *document, const char *bytes, size_t length,
                         struct buffer *payload) {
    const json_t *signature = json_array_get(json_object_get(document, "signatures"), 0);
    size_t size = 0, tail_size = 0;
    cleanup_free char *text = decode(json_object_get(signature, "protected"), &size);
    cleanup_json json_t *header = text ? load(text, size) : NULL;
    const json_t *head_size = json_object_get(header, "formatLength");
    cleanup_free char *tail = decode(json_object_get(header, "formatTail"), &tail_size);
    return tail && tail_size <= TAIL_LIMIT && json_is_integer(head_size) &&
           json_integer_value(head_size) > 0 && (uint64_t)json_integer_value(head_size) <= length &&
           buffer_append(payload, bytes, (size_t)json_integer_value(head_size)) &&
           buffer_append(payload, tail, tail_size);
}

bool schema1_digest(const void *bytes, size_t length, enum digest_algorithm algorithm,
                    struct digest *digest) {
    cleanup_buffer struct buffer payload = {0};
    if (length > MANIFEST_SIZE_LIMIT)
        return false;
    cleanup_json json_t *document = load(bytes, length);
    if (json_integer_value(json_object_get(document, "schemaVersion")) != 1 ||
        !read_payload(document, bytes, length, &payload))
        return false;
    cleanup_json json_t *signed_part = load(payload.bytes, payload.length);
    json_object_del(document, "signatures");
    return signed_part && json_equal(document, signed_part) &&
           digest_of(algorithm, payload.bytes, payload.length, digest);
}

void schema1_layers(const void *bytes, size_t length,
                    void (*each)(void *context, const struct digest *digest), void *context) {
    if (length > MANIFEST_SIZE_LIMIT)
        return;
    cleanup_json json_t *document = load(bytes, length);
    const json_t *layers = json_object_get(document, "fsLayers");
    for (size_t i = 0; i < json_array_size(layers) && i < MANIFEST_DESCRIPTOR_LIMIT; i++) {
        const char *sum = json_string_value(json_object_get(json_array_get(layers, i), "blobSum"));
        struct digest digest;
        if (sum && digest_parse(text_of(sum), &digest))
            each(context, &digest);
    }
}
