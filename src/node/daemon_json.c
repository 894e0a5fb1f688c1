/* Finds the place of a list in the text of a JSON object, and edits it there. */
#include "node/daemon_json.h"

#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"

/* ---- the values ---- */

/* The error up to its place in the text, because the parser's words behind it quote the text, which
 * may hold the password of a proxy. */
static struct error without_quotation(struct error error) {
    char *column = strstr(error.text, "column ");
    if (column)
        column[strcspn(column, ":")] = '\0';
    return error;
}

json_t *daemon_json_load(struct text text, struct error *error) {
    struct error why;
    json_t *object = bounded_json_load_by(JSON_REJECT_DUPLICATES, text.at, text.length, &why);
    if (json_is_object(object))
        return object;
    if (object)
        error_set(error, ERROR_INVALID, "is no JSON object");
    else if (error)
        *error = without_quotation(why);
    json_decref(object);
    return NULL;
}

static bool is_same(const char *a, const char *b) {
    size_t length_a = strlen(a), length_b = strlen(b);
    length_a -= length_a > 0 && a[length_a - 1] == '/';
    length_b -= length_b > 0 && b[length_b - 1] == '/';
    return length_a == length_b && memcmp(a, b, length_a) == 0;
}

/* The index of the value in the list; -1: it is not there. */
static int find_value(const json_t *list, const char *value) {
    size_t index;
    json_t *item;
    json_array_foreach (list, index, item) {
        if (json_is_string(item) && is_same(json_string_value(item), value))
            return (int)index;
    }
    return -1;
}

bool daemon_json_has(const json_t *object, const char *key, const char *value) {
    return find_value(json_object_get(object, key), value) >= 0;
}

static bool check_list(const json_t *list, const char *key, struct error *error) {
    size_t index;
    json_t *item;
    bool ok = !list || json_is_array(list);
    json_array_foreach (list, index, item)
        ok = ok && json_is_string(item);
    return ok || error_set(error, ERROR_INVALID, "\"%s\" is no list of strings", key);
}

/* ---- their places in the text, which is valid JSON ---- */

/* From the first byte of a member or an item to behind its last. */
struct span {
    size_t start, end;
};

static size_t skip_blanks(const char *text, size_t at) {
    return at + strspn(text + at, " \t\r\n");
}

static size_t skip_string(const char *text, size_t at) {
    for (at++; text[at] && text[at] != '"'; at++)
        at += text[at] == '\\' && text[at + 1];
    return text[at] ? at + 1 : at;
}

static size_t skip_value(const char *text, size_t at) {
    size_t depth = 0;
    if (text[at] != '"' && text[at] != '{' && text[at] != '[')
        return at + strcspn(text + at, ",]} \t\r\n");
    do {
        if (text[at] == '"') {
            at = skip_string(text, at);
            continue;
        }
        depth += text[at] == '{' || text[at] == '[';
        depth -= text[at] == '}' || text[at] == ']';
        at++;
    } while (text[at] && depth > 0);
    return at;
}

/* The members or items behind the bracket at `open`: at most `limit`. */
static size_t find_items(const char *text, size_t open, struct span *items, size_t limit) {
    size_t count = 0, at = skip_blanks(text, open + 1);
    while (text[at] && text[at] != ']' && text[at] != '}' && count < limit) {
        struct span *item = &items[count++];
        item->start = at;
        if (text[open] == '{') {
            at = skip_blanks(text, skip_string(text, at)); /* the colon */
            at = skip_blanks(text, at + (text[at] == ':'));
        }
        item->end = skip_value(text, at);
        at = skip_blanks(text, item->end);
        if (text[at] == ',')
            at = skip_blanks(text, at + 1);
    }
    return count;
}

/* The number of the member `key`; `count`: there is none that is spelled so. */
static size_t find_member(const char *text, const struct span *members, size_t count,
                          const char *key) {
    size_t length = strlen(key), at = 0;
    for (; at < count; at++) {
        const char *name = text + members[at].start + 1;
        if (strncmp(name, key, length) == 0 && name[length] == '"')
            break;
    }
    return at;
}

/* Where the value of a member begins. */
static size_t find_value_start(const char *text, const struct span *member) {
    size_t at = skip_blanks(text, skip_string(text, member->start));
    return skip_blanks(text, at + 1);
}

/* ---- editing ---- */

/* The text and where its members are. */
struct editing {
    const char *text;
    size_t open; /* of the object */
    struct span *members, *items;
    size_t limit, count, item_count;
    size_t member; /* the one that is edited; `count`: it is not there */
    size_t list;   /* where its value begins */
};

static bool find_places(struct editing *editing, struct text text, const char *key) {
    editing->text = text.at;
    editing->open = skip_blanks(text.at, 0);
    editing->limit = text.length / 2 < JSON_VALUE_LIMIT ? text.length / 2 + 1 : JSON_VALUE_LIMIT;
    editing->members = calloc(editing->limit, sizeof *editing->members);
    editing->items = calloc(editing->limit, sizeof *editing->items);
    if (!editing->members || !editing->items)
        return false;
    editing->count = find_items(text.at, editing->open, editing->members, editing->limit);
    editing->member = find_member(text.at, editing->members, editing->count, key);
    if (editing->member == editing->count)
        return true;
    editing->list = find_value_start(text.at, &editing->members[editing->member]);
    editing->item_count = find_items(text.at, editing->list, editing->items, editing->limit);
    return true;
}

static void editing_finish(struct editing *editing) {
    free(editing->members);
    free(editing->items);
}
#define cleanup_editing __attribute__((cleanup(editing_finish)))

/* Puts `item` in front of the others behind the bracket at `open`, with the blanks that the first
 * one has. */
static bool insert(const struct editing *editing, size_t open, const char *item, bool own_line,
                   struct buffer *out) {
    const char *text = editing->text;
    size_t first = skip_blanks(text, open + 1);
    bool is_empty = text[first] == ']' || text[first] == '}';
    buffer_append(out, text, open + 1);
    if (is_empty) {
        buffer_printf(out, own_line ? "\n  %s\n" : "%s", item);
    } else {
        buffer_append(out, text + open + 1, first - open - 1);
        buffer_printf(out, "%s,", item);
        if (first == open + 1)
            buffer_append_string(out, " ");
        else
            buffer_append(out, text + open + 1, first - open - 1);
    }
    return buffer_append_string(out, text + first);
}

/* Leaves the bytes from `start` to `end` out. */
static bool cut(const struct editing *editing, size_t start, size_t end, struct buffer *out) {
    return buffer_append(out, editing->text, start) &&
           buffer_append_string(out, editing->text + end);
}

/* Leaves one of the items out, with one of the commas beside it. */
static bool cut_item(const struct editing *editing, const struct span *items, size_t count,
                     size_t at, struct buffer *out) {
    if (at + 1 < count)
        return cut(editing, items[at].start, items[at + 1].start, out);
    return cut(editing, at ? items[at - 1].end : items[at].start, items[at].end, out);
}

/* Appends `edited` if it has the values of `wanted`; else, because a key is spelled with escapes,
 * `wanted` in the format of Docker's documents. */
static bool finish(const struct buffer *edited, const json_t *wanted, struct buffer *out,
                   struct error *error) {
    cleanup_json json_t *got =
        edited->length ? bounded_json_load(edited->bytes, edited->length, NULL) : NULL;
    if (got && json_equal(got, wanted)
            ? buffer_append(out, edited->bytes, edited->length)
            : bounded_json_dump(wanted, JSON_INDENT(2), out) && buffer_append_string(out, "\n"))
        return true;
    return error_set(error, ERROR_MEMORY, "out of memory");
}

bool daemon_json_add(struct text text, const char *key, const char *value, struct buffer *out,
                     struct error *error) {
    cleanup_json json_t *wanted = daemon_json_load(text, error);
    cleanup_editing struct editing editing = {0};
    cleanup_buffer struct buffer edited = {0}, item = {0};
    if (!wanted || !check_list(json_object_get(wanted, key), key, error))
        return false;
    if (daemon_json_has(wanted, key, value))
        return buffer_append(out, text.at, text.length) ||
               error_set(error, ERROR_MEMORY, "out of memory");
    if (!json_object_get(wanted, key))
        json_object_set_new(wanted, key, json_array());
    json_array_insert_new(json_object_get(wanted, key), 0, json_string(value));
    if (!find_places(&editing, text, key))
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool has_list = editing.member < editing.count;
    if (!has_list)
        buffer_printf(&item, "\"%s\": [", key);
    buffer_append_string(&item, "\"");
    buffer_append_json(&item, text_of(value));
    if (buffer_append_string(&item, has_list ? "\"" : "\"]"))
        insert(&editing, has_list ? editing.list : editing.open, item.bytes, !has_list, &edited);
    return finish(&edited, wanted, out, error);
}

bool daemon_json_remove(struct text text, const char *key, const char *value, bool drop,
                        struct buffer *out, struct error *error) {
    cleanup_json json_t *wanted = daemon_json_load(text, error);
    cleanup_editing struct editing editing = {0};
    cleanup_buffer struct buffer edited = {0};
    json_t *list = json_object_get(wanted, key);
    if (!wanted || !check_list(list, key, error))
        return false;
    int index = find_value(list, value);
    if (index < 0)
        return buffer_append(out, text.at, text.length) ||
               error_set(error, ERROR_MEMORY, "out of memory");
    json_array_remove(list, (size_t)index);
    bool drops = drop && json_array_size(list) == 0;
    if (drops)
        json_object_del(wanted, key);
    if (!find_places(&editing, text, key))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (editing.member < editing.count) {
        if (drops)
            cut_item(&editing, editing.members, editing.count, editing.member, &edited);
        else
            cut_item(&editing, editing.items, editing.item_count, (size_t)index, &edited);
    }
    return finish(&edited, wanted, out, error);
}
