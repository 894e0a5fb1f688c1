/* A list and a watch that arrive in pieces: the items are those that jansson finds in the whole. */
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "fuzz.h"
#include "kubernetes/items.h"
#include "kubernetes/lines.h"

static bool on_item(void *context, const json_t *item, struct error *error) {
    (void)error;
    json_array_append(context, (json_t *)item);
    return true;
}

static bool on_line(void *context, struct text line, struct error *error) {
    (void)error;
    size_t *bytes = context;
    MUST(line.length > 0 && !memchr(line.at, '\n', line.length));
    *bytes += line.length;
    return true;
}

/* Takes a list in pieces. The list without its items is the caller's; NULL: it is none. */
static json_t *split(const uint8_t *bytes, size_t length, size_t piece, json_t *found) {
    struct items items;
    bool ok = true;
    items_init(&items, on_item, found);
    for (size_t at = 0; ok && at < length; at += piece)
        ok = items_take(&items, bytes + at, length - at < piece ? length - at : piece, NULL);
    json_t *rest = ok ? items_end(&items, NULL) : NULL;
    items_finish(&items);
    return rest;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    if (length == 0)
        return 0;
    size_t piece = 1 + bytes[0] % 16, seen = 0;
    bytes++, length--;
    cleanup_json json_t *found = json_array();
    cleanup_json json_t *rest = split(bytes, length, piece, found);
    cleanup_json json_t *whole =
        bounded_json_load_by(JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, bytes, length, NULL);
    const json_t *items = json_object_get(whole, "items");
    /* An escape in the name hides the items: whoever takes the list apart finds them in the rest.
     */
    if (rest && whole && json_is_array(items) &&
        json_array_size(json_object_get(rest, "items")) == 0)
        MUST(json_equal((json_t *)items, found));
    struct lines lines;
    lines_init(&lines, on_line, &seen);
    for (size_t at = 0; at < length; at += piece)
        MUST(lines_take(&lines, bytes + at, length - at < piece ? length - at : piece, NULL));
    MUST(lines_end(&lines, NULL));
    MUST(seen <= length);
    lines_finish(&lines);
    return 0;
}
