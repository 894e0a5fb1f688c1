/* Writes and reads the records of what is pending. */
#include "cache/pending.h"

#include <stdio.h>
#include <string.h>

#define HEADING "tarn-pending 1\n"

static const char *const words[] = {
    [PENDING_DATA] = "data", [PENDING_OVERWRITE] = "overwrite",
    [PENDING_BLOB] = "blob", [PENDING_MANIFEST] = "manifest",
    [PENDING_TAG] = "tag",
};
enum { KINDS = sizeof words / sizeof *words };

enum { LINE_SIZE = 16 + HOST_LIMIT + 1 + NAME_LIMIT + 1 + PENDING_TEXT_SIZE + 2 };

/* Writes the item's line with its end. */
static struct text write_line(char out[static LINE_SIZE], const struct pending_item *item) {
    const bool has_name = item->kind >= PENDING_BLOB;
    const bool has_text = item->kind > PENDING_BLOB;
    int length =
        snprintf(out, LINE_SIZE, "%s%s%s%s%s%s%s\n", words[item->kind], has_name ? " " : "",
                 has_name ? item->name.host : "", has_name ? "/" : "",
                 has_name ? item->name.path : "", has_text ? " " : "", has_text ? item->text : "");
    return (struct text){out, (size_t)length};
}

/* Whether the record has the line. */
static bool has_line(const struct buffer *record, struct text line) {
    struct text rest = {record->bytes, record->length};
    while (rest.at) {
        struct text other = text_cut(rest, '\n', &rest);
        if (other.length + 1 == line.length && memcmp(other.at, line.at, other.length) == 0)
            return true;
    }
    return false;
}

bool pending_add(struct buffer *record, const struct pending_item *item) {
    char bytes[LINE_SIZE];
    const struct text line = write_line(bytes, item);
    if (record->length == 0 && !buffer_append_string(record, HEADING))
        return false;
    if (has_line(record, line))
        return true;
    return record->length + line.length <= PENDING_LIMIT &&
           buffer_append(record, line.at, line.length);
}

static bool parse_name(struct text text, struct repository_name *name) {
    struct text path;
    struct text host = text_cut(text, '/', &path);
    return path.at && repository_name_parse(host, path, name);
}

static bool parse_line(struct text line, struct pending_item *item) {
    struct text rest, text;
    const struct text word = text_cut(line, ' ', &rest);
    for (unsigned kind = 0; kind < KINDS; kind++) {
        if (!text_is(word, words[kind]))
            continue;
        *item = (struct pending_item){.kind = (enum pending_kind)kind};
        if (kind < PENDING_BLOB)
            return !rest.at;
        if (!rest.at)
            return false;
        const struct text name = text_cut(rest, ' ', &text);
        if (!parse_name(name, &item->name) || (kind == PENDING_BLOB) != !text.at)
            return false;
        return kind == PENDING_BLOB || (text_copy(text, item->text, sizeof item->text) &&
                                        (kind != PENDING_TAG || reference_is_tag(text)));
    }
    return false;
}

bool pending_next(struct text *rest, struct pending_item *item) {
    while (rest->at && rest->length) {
        const struct text line = text_cut(*rest, '\n', rest);
        if (parse_line(line, item))
            return true;
    }
    return false;
}
