/* Writes lines of JSON, and makes the values in them. */
#include "admin/line.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/cleanup.h"
#include "base/json.h"

enum { TIME_SIZE = 32 };

bool line_write(const struct line_sink *sink, json_t *line, struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    bool written = bounded_json_dump(line, JSON_COMPACT, &bytes);
    json_decref(line);
    if (!written || !buffer_append_string(&bytes, "\n"))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return sink->write(sink->context, bytes.bytes, bytes.length) ||
           error_set(error, ERROR_CLOSED, "the client left");
}

json_t *line_digest(const struct digest *digest) {
    char text[DIGEST_STRING_SIZE];
    return json_string(digest_format(digest, text));
}

json_t *line_time(int64_t wall_s) {
    char text[TIME_SIZE];
    time_t seconds = (time_t)wall_s;
    struct tm parts;
    if (!gmtime_r(&seconds, &parts) ||
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        return json_null();
    return json_string(text);
}

json_t *line_size(uint64_t bytes) {
    return json_integer(bytes < INT64_MAX ? (json_int_t)bytes : INT64_MAX);
}

const char **line_read_strings(const json_t *array, size_t limit) {
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count > limit)
        return NULL;
    cleanup_free const char **strings = calloc(count + 1, sizeof *strings);
    for (size_t i = 0; strings && i < count; i++) {
        const json_t *string = json_array_get(array, i);
        strings[i] = json_string_value(string);
        if (!strings[i] || strlen(strings[i]) != json_string_length(string))
            return NULL;
    }
    return take(strings);
}
