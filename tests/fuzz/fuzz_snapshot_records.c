/* The file of records as a crash or a bad disk may leave it, and filters. */
#include "fuzz.h"
#include "node/snapshot/entries.h"
#include "node/snapshot/filter.h"

static void check_entries(const struct entries *entries) {
    const struct entry *entry, *next;
    HASH_ITER (by_id, entries->by_id, entry, next) {
        MUST(entries_find(entries, entry->name) == entry);
        MUST(entry->id < entries->next_id);
        MUST(!entry->parent || entries_find_id(entries, entry->parent->id) == entry->parent);
        MUST(!entry->parent || entry->parent->kind == ENTRY_COMMITTED);
    }
}

/* Each line is a record; a record that was taken and is written again is taken by another tree. */
static void check_records(struct text text) {
    struct entries entries, again;
    entries_init(&entries);
    entries_init(&again);
    while (text.at) {
        struct text line = text_cut(text, '\n', &text);
        struct error error = {0};
        if (!entries_replay(&entries, line, &error))
            MUST(error.kind == ERROR_CORRUPT);
        check_entries(&entries);
    }
    HASH_SRT(by_id, entries.by_id, entries_compare_depth);
    const struct entry *entry, *next;
    HASH_ITER (by_id, entries.by_id, entry, next) {
        struct buffer record = {0};
        struct error error = {0};
        entries_write_put(entry, &record);
        MUST(!record.failed);
        MUST(entries_replay(&again, (struct text){record.bytes, record.length}, &error));
        buffer_finish(&record);
    }
    MUST(again.count == entries.count);
    entries_finish(&again);
    entries_finish(&entries);
}

static void check_filter(struct text text) {
    struct entry entry = {.name = (char *)"a", .kind = ENTRY_VIEW};
    char *copy = text_dup(text);
    struct error error = {0};
    MUST(copy);
    struct filters *filters = filters_parse(&(const char *){copy}, 1, &error);
    MUST(filters || error.kind == ERROR_INVALID);
    if (filters)
        filters_match(filters, &entry);
    filters_free(filters);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct text text = {(const char *)bytes, length};
    check_records(text);
    check_filter(text);
    return 0;
}
