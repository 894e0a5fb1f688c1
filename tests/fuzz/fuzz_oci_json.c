/* JSON from outside: an accepted value is within the bounds, and is the same when it is written and
 * read again. */
#include "base/cleanup.h"
#include "base/json.h"
#include "fuzz.h"

static size_t depth_of(const json_t *json, size_t limit) {
    size_t most = 0, index;
    const char *key;
    json_t *value;
    MUST(limit);
    if (json_is_array(json)) {
        json_array_foreach (json, index, value) {
            size_t depth = depth_of(value, limit - 1);
            most = depth > most ? depth : most;
        }
    }
    json_object_foreach ((json_t *)json, key, value) {
        size_t depth = depth_of(value, limit - 1);
        most = depth > most ? depth : most;
    }
    return most + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct error error = {0};
    cleanup_json json_t *json = bounded_json_load(bytes, length, &error);
    cleanup_json json_t *strict = bounded_json_load_by(JSON_REJECT_DUPLICATES, bytes, length, NULL);
    MUST(json || error.kind == ERROR_INVALID);
    MUST(json || !strict);
    if (!json)
        return 0;
    MUST(depth_of(json, JSON_DEPTH_LIMIT + 2) <= JSON_DEPTH_LIMIT + 1); /* a leaf is a level */
    cleanup_buffer struct buffer text = {0};
    MUST(bounded_json_dump(json, JSON_COMPACT, &text));
    cleanup_json json_t *again = bounded_json_load(text.bytes, text.length, NULL);
    MUST(json_equal(json, again));
    MUST(!strict || json_equal(json, strict));
    return 0;
}
