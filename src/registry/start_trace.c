/* Checks what a node says that a start of an image reads. */
#include "registry/start_trace.h"

#include "base/json.h"
#include "oci/digest.h"

static bool is_natural(const json_t *value) {
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static bool is_read(const json_t *read) {
    struct digest layer;
    const char *text = json_string_value(json_object_get(read, "layer"));
    return text && digest_parse(text_of(text), &layer) &&
           is_natural(json_object_get(read, "offset")) &&
           is_natural(json_object_get(read, "length"));
}

bool start_trace_check(struct text document, struct error *error) {
    cleanup_json json_t *root =
        bounded_json_load_by(JSON_REJECT_DUPLICATES, document.at, document.length, NULL);
    const json_t *reads = json_object_get(root, "reads"),
                 *version = json_object_get(root, "version");
    if (!json_is_object(root))
        return error_set(error, ERROR_INVALID, "the trace is no JSON object");
    if (!json_is_integer(version) || json_integer_value(version) != 1)
        return error_set(error, ERROR_INVALID, "the trace must have the version 1");
    if (!json_is_array(reads) || json_array_size(reads) > START_TRACE_READS)
        return error_set(error, ERROR_INVALID, "the trace must have a list of at most %d reads",
                         START_TRACE_READS);
    for (size_t i = 0; i < json_array_size(reads); i++)
        if (!is_read(json_array_get(reads, i)))
            return error_set(error, ERROR_INVALID,
                             "read %zu of the trace must have a layer, an offset and a length", i);
    return true;
}
