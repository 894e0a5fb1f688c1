/* Writes and reads the mark of tarn's own files. */
#include "node/mark.h"

#include <string.h>
#include "base/json.h"
#include "oci/digest.h"

#define FIRST_LINE                                                                                 \
    "# Written by \"tarn mirror\". \"tarn mirror remove\" deletes it; do not edit it.\n"
#define SECOND_LINE "# tarn-mirror "

void mark_finish(struct mark *mark) {
    json_decref(mark->folders);
    mark->folders = NULL;
}

bool mark_write(const char *url, json_t *folders, struct text body, struct buffer *out) {
    char digest[DIGEST_STRING_SIZE];
    cleanup_json json_t *fields = NULL;
    if (digest_format_text(body, digest))
        fields = json_pack("{s:s, s:O, s:s}", "url", url, "folders", folders, "digest", digest);
    return buffer_append_string(out, FIRST_LINE SECOND_LINE) &&
           bounded_json_dump(fields, JSON_PRESERVE_ORDER, out) && buffer_append_string(out, "\n") &&
           buffer_append(out, body.at, body.length);
}

enum mark_found mark_read(struct text file, struct mark *out) {
    char digest[DIGEST_STRING_SIZE];
    *out = (struct mark){0};
    if (!text_starts(file, FIRST_LINE SECOND_LINE))
        return MARK_MISSING;
    struct text body;
    struct text line = text_cut(text_from(file, strlen(FIRST_LINE SECOND_LINE)), '\n', &body);
    cleanup_json json_t *fields = bounded_json_load_by(0, line.at, line.length, NULL);
    const char *url = json_string_value(json_object_get(fields, "url"));
    const char *written = json_string_value(json_object_get(fields, "digest"));
    out->folders = json_incref(json_object_get(fields, "folders"));
    if (!url || !written || !body.at || !text_copy(text_of(url), out->url, sizeof out->url))
        return MARK_EDITED;
    return digest_format_text(body, digest) && strcmp(digest, written) == 0 ? MARK_FOUND
                                                                            : MARK_EDITED;
}
