/* Which images of a repository a keep wants. */
#include "keep/choice.h"

#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "keep/version.h"

/* A tag of the list while the choice is made. */
struct item {
    struct keep_tag tag;
    size_t image;
    bool listed;
};

struct choosing {
    const struct keep_entry *entry;
    const struct keep_listed *images;
    int64_t now_s;
    struct item *items; /* by tag, descending */
    size_t count;
    struct keep_choice *out;
    struct error *error;
};

void keep_choice_finish(struct keep_choice *choice) {
    struct keep_chosen *lists[] = {choice->desired, choice->all};
    size_t counts[] = {choice->desired_count, choice->all_count};
    for (size_t l = 0; l < 2; l++) {
        for (size_t i = 0; i < counts[l]; i++) {
            free(lists[l][i].tag);
            free(lists[l][i].name);
            free(lists[l][i].short_name);
            free(lists[l][i].flat_name);
        }
        free(lists[l]);
    }
    *choice = (struct keep_choice){0};
}

static bool list_has(const char *const *list, struct text string) {
    for (; list && *list; list++) {
        if (text_is(string, *list))
            return true;
    }
    return false;
}

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory while images are chosen");
}

/* ---- order ---- */

static int by_tag_descending(const void *a, const void *b) {
    const struct item *left = a, *right = b;
    size_t common =
        left->tag.tag.length < right->tag.tag.length ? left->tag.tag.length : right->tag.tag.length;
    int order = memcmp(right->tag.tag.at, left->tag.tag.at, common);
    if (order == 0)
        order = (right->tag.tag.length > left->tag.tag.length) -
                (right->tag.tag.length < left->tag.tag.length);
    return order != 0 ? order : (left->image > right->image) - (left->image < right->image);
}

/* Newest first; equal ones by tag, descending. */
static int by_age(const void *a, const void *b) {
    const struct item *const *left = a, *const *right = b;
    int order = keep_tag_compare(&(*right)->tag, &(*left)->tag);
    return order != 0 ? order : by_tag_descending(*left, *right);
}

static int by_version(const void *a, const void *b) {
    const struct item *const *left = a, *const *right = b;
    int order = keep_version_compare((*right)->tag.tag, (*left)->tag.tag);
    return order != 0 ? order : by_tag_descending(*left, *right);
}

static int by_name(const void *a, const void *b) {
    return by_tag_descending(*(const struct item *const *)a, *(const struct item *const *)b);
}

static int by_upload(const void *a, const void *b, void *context) {
    const struct item *const *left = a, *const *right = b;
    const struct choosing *choosing = context;
    int64_t one = choosing->images[(*left)->image].uploaded_s;
    int64_t other = choosing->images[(*right)->image].uploaded_s;
    return one != other ? (one < other ? 1 : -1) : by_tag_descending(*left, *right);
}

/* ---- names ---- */

enum { SIBLING_LIMIT = 32 }; /* names of other tags behind an alias */

/* Whether the item is another tag of the alias's image that says what the image is. */
static bool is_sibling(const struct item *alias, const struct item *item) {
    return item->image == alias->image && item->tag.kind != KEEP_TAG_ALIAS &&
           item->tag.kind != KEEP_TAG_UNKNOWN && item->tag.arch.length == 0;
}

static int by_string_descending(const void *a, const void *b) {
    return strcmp(*(char *const *)b, *(char *const *)a);
}

/* Appends the names of the image's other tags, in descending order. Returns their number. */
static size_t append_siblings(const struct choosing *choosing, const struct item *alias,
                              struct buffer *out) {
    char *names[SIBLING_LIMIT];
    size_t count = 0;
    for (size_t i = 0; i < choosing->count && count < SIBLING_LIMIT; i++) {
        struct buffer name = {0};
        if (!is_sibling(alias, &choosing->items[i]))
            continue;
        if (keep_tag_append_name(&choosing->items[i].tag, &name))
            names[count++] = name.bytes;
        else
            out->failed = true;
    }
    qsort(names, count, sizeof *names, by_string_descending);
    for (size_t i = 0; i < count; i++) {
        buffer_printf(out, "%s%s", i ? ", " : "", names[i]);
        free(names[i]);
    }
    return count;
}

/* The tag that an alias stands for: of the first kind in the menu, the newest. NULL: none. */
static const struct item *target_of(const struct choosing *choosing, const struct item *alias) {
    const struct item *best = NULL;
    for (size_t i = 0; i < choosing->count; i++) {
        const struct item *item = &choosing->items[i];
        if (is_sibling(alias, item) &&
            (!best || item->tag.kind < best->tag.kind ||
             (item->tag.kind == best->tag.kind && by_age(&item, &best) < 0)))
            best = item;
    }
    return best;
}

/* "Weekly 1 (SAL Cycle 2)" inside another name: "Weekly 1, SAL Cycle 2". */
static void append_flat(const struct buffer *name, struct buffer *out) {
    for (size_t i = 0; i < name->length; i++) {
        if (i + 1 < name->length && memcmp(name->bytes + i, " (", 2) == 0) {
            buffer_append_string(out, ", ");
            i++;
        } else if (name->bytes[i] != ')') {
            buffer_append(out, name->bytes + i, 1);
        }
    }
}

static bool name_item(const struct choosing *choosing, const struct item *item,
                      struct keep_chosen *out) {
    cleanup_buffer struct buffer plain = {0}, siblings = {0}, first = {0}, name = {0}, flat = {0};
    bool raw = choosing->entry->kind != KEEP_ENTRY_RUBIN;
    if (raw)
        buffer_append(&plain, item->tag.tag.at, item->tag.tag.length);
    else
        keep_tag_append_name(&item->tag, &plain);
    buffer_append(&name, plain.bytes, plain.length);
    buffer_append(&flat, plain.bytes, plain.length);
    if (!raw && item->tag.kind == KEEP_TAG_ALIAS &&
        append_siblings(choosing, item, &siblings) > 0) {
        buffer_printf(&name, " (%s)", siblings.bytes);
        keep_tag_append_name(&target_of(choosing, item)->tag, &first);
        /* nublado leaves the alias's own cycle out, because that of its target follows. */
        const char *own = plain.bytes ? strstr(plain.bytes, " (") : NULL;
        if (own)
            flat.length = (size_t)(own - plain.bytes);
        buffer_append_string(&flat, " (");
        append_flat(&first, &flat);
        buffer_append_string(&flat, ")");
    }
    out->kind = item->tag.kind;
    out->image = item->image;
    out->tag = text_dup(item->tag.tag);
    bool failed = plain.failed || siblings.failed || first.failed || name.failed || flat.failed;
    out->name = failed ? NULL : strdup(name.bytes);
    out->short_name = failed ? NULL : strdup(plain.bytes);
    out->flat_name = failed ? NULL : strdup(flat.bytes);
    return out->tag && out->name && out->short_name && out->flat_name;
}

/* ---- what is listed ---- */

static bool passes_filter(const struct choosing *choosing, const struct keep_filter *filter,
                          const struct item *item) {
    int64_t made;
    if (!keep_tag_date(&item->tag, &made))
        made = choosing->images[item->image].uploaded_s;
    if (made > 0 && filter->age_ms > 0 && made < choosing->now_s - filter->age_ms / 1000)
        return false;
    if (made > 0 && filter->cutoff_date_s > 0 && made < filter->cutoff_date_s)
        return false;
    struct keep_tag cutoff;
    if (filter->cutoff_version && item->tag.has_version &&
        keep_tag_parse_version(text_of(filter->cutoff_version), &cutoff) &&
        keep_tag_compare_version(&item->tag, &cutoff) < 0)
        return false;
    uint64_t build;
    if (filter->has_cutoff_build &&
        text_to_u64(item->tag.rsp_build.length ? item->tag.rsp_build : item->tag.cycle_build,
                    &build) &&
        build < filter->cutoff_build)
        return false;
    return true;
}

/* The items of a kind that are listed and not for one architecture only, newest first. Returns
 * their number; `out` has room for all items. */
static size_t of_kind(const struct choosing *choosing, enum keep_tag_kind kind,
                      const struct item **out) {
    size_t count = 0;
    for (size_t i = 0; i < choosing->count; i++) {
        if (choosing->items[i].listed && choosing->items[i].tag.kind == kind)
            out[count++] = &choosing->items[i];
    }
    qsort(out, count, sizeof(struct item *), by_age);
    return count;
}

/* The cycle of an alias is that of its siblings: the alias passes when one of them has the cycle.
 */
static bool has_cycle(const struct choosing *choosing, const struct item *item, uint64_t cycle) {
    if (item->tag.cycle.length > 0 || item->tag.kind != KEEP_TAG_ALIAS)
        return keep_tag_has_cycle(&item->tag, cycle);
    for (size_t i = 0; i < choosing->count; i++) {
        const struct item *other = &choosing->items[i];
        if (other->image == item->image && other->tag.kind != KEEP_TAG_ALIAS &&
            keep_tag_has_cycle(&other->tag, cycle))
            return true;
    }
    return false;
}

static void filter_items(struct choosing *choosing, const struct item **sorted) {
    const struct keep_rubin *rubin = &choosing->entry->rubin;
    for (size_t i = 0; i < choosing->count; i++) {
        struct item *item = &choosing->items[i];
        bool pinned = list_has(rubin->pins, item->tag.tag);
        item->listed =
            (pinned || (item->tag.arch.length == 0 &&
                        passes_filter(choosing, &rubin->filters[item->tag.kind], item))) &&
            (!rubin->has_cycle || has_cycle(choosing, item, rubin->cycle));
    }
    for (int kind = 0; kind < KEEP_TAG_KINDS; kind++) {
        const struct keep_filter *filter = &rubin->filters[kind];
        if (!filter->has_number)
            continue;
        size_t count = of_kind(choosing, (enum keep_tag_kind)kind, sorted);
        for (size_t i = filter->number; i < count; i++) {
            struct item *item = &choosing->items[sorted[i] - choosing->items];
            item->listed = list_has(rubin->pins, item->tag.tag);
        }
    }
}

/* ---- what is chosen ---- */

static bool add_desired(struct choosing *choosing, const struct item *item) {
    struct keep_choice *out = choosing->out;
    for (size_t i = 0; i < out->desired_count; i++) {
        if (text_is(item->tag.tag, out->desired[i].tag))
            return true;
    }
    if (out->desired_count == KEEP_IMAGE_LIMIT)
        return error_set(choosing->error, ERROR_INVALID,
                         "%s: more than %d images would be kept; lower the numbers of releases, "
                         "weeklies and dailies, or set newest",
                         choosing->entry->repository, KEEP_IMAGE_LIMIT);
    struct keep_chosen *chosen = &out->desired[out->desired_count++];
    return name_item(choosing, item, chosen) || no_memory(choosing->error);
}

static bool add_by_name(struct choosing *choosing, const char *tag) {
    for (size_t i = 0; tag && i < choosing->count; i++) {
        if (choosing->items[i].listed && text_is(choosing->items[i].tag.tag, tag))
            return add_desired(choosing, &choosing->items[i]);
    }
    return true;
}

static bool add_newest(struct choosing *choosing, enum keep_tag_kind kind, uint64_t number,
                       const struct item **sorted) {
    size_t count = number ? of_kind(choosing, kind, sorted) : 0;
    for (size_t i = 0, taken = 0; i < count && taken < number; i++) {
        if (sorted[i]->tag.arch.length > 0)
            continue;
        taken++;
        if (!add_desired(choosing, sorted[i]))
            return false;
    }
    return true;
}

static bool choose_rubin(struct choosing *choosing, const struct item **sorted) {
    const struct keep_rubin *rubin = &choosing->entry->rubin;
    filter_items(choosing, sorted);
    if (!add_by_name(choosing, rubin->recommended))
        return false;
    for (const char *const *pin = rubin->pins; pin && *pin; pin++) {
        if (!add_by_name(choosing, *pin))
            return false;
    }
    for (size_t i = 0; i < choosing->count; i++) {
        const struct item *item = &choosing->items[i];
        if (item->listed && item->tag.kind == KEEP_TAG_ALIAS && !add_desired(choosing, item))
            return false;
    }
    return add_newest(choosing, KEEP_TAG_RELEASE, rubin->releases, sorted) &&
           add_newest(choosing, KEEP_TAG_WEEKLY, rubin->weeklies, sorted) &&
           add_newest(choosing, KEEP_TAG_DAILY, rubin->dailies, sorted) &&
           add_newest(choosing, KEEP_TAG_CANDIDATE, rubin->candidates, sorted) &&
           add_newest(choosing, KEEP_TAG_EXPERIMENTAL, rubin->experimentals, sorted);
}

static bool matches(const struct keep_tags *tags, struct text tag) {
    const char *const *glob = tags->matching;
    while (glob && *glob && !text_matches_glob(*glob, tag))
        glob++;
    return !glob || *glob;
}

static bool choose_tags(struct choosing *choosing, const struct item **sorted) {
    const struct keep_tags *tags = &choosing->entry->tags;
    size_t count = 0;
    for (size_t i = 0; i < choosing->count; i++) {
        struct item *item = &choosing->items[i];
        int64_t uploaded = choosing->images[item->image].uploaded_s;
        item->listed = matches(tags, item->tag.tag);
        if (item->listed && tags->newer_than_ms > 0) {
            choosing->out->without_times |= uploaded == 0;
            item->listed = uploaded > 0 && uploaded >= choosing->now_s - tags->newer_than_ms / 1000;
        }
        if (item->listed)
            sorted[count++] = item;
    }
    if (tags->order == KEEP_ORDER_UPLOADED)
        qsort_r(sorted, count, sizeof(struct item *), by_upload, choosing);
    else
        qsort(sorted, count, sizeof(struct item *),
              tags->order == KEEP_ORDER_VERSION ? by_version : by_name);
    for (size_t i = 0; i < count && (!tags->has_newest || i < tags->newest); i++) {
        if (!add_desired(choosing, sorted[i]))
            return false;
    }
    return true;
}

static bool list_all(struct choosing *choosing) {
    for (size_t i = 0; i < choosing->count; i++) {
        if (!choosing->items[i].listed)
            continue;
        struct keep_chosen *chosen = &choosing->out->all[choosing->out->all_count++];
        if (!name_item(choosing, &choosing->items[i], chosen))
            return no_memory(choosing->error);
    }
    return true;
}

static void read_items(struct choosing *choosing, size_t image_count) {
    const struct keep_rubin *rubin = &choosing->entry->rubin;
    for (size_t i = 0; i < image_count; i++) {
        for (size_t t = 0; t < choosing->images[i].tag_count; t++) {
            struct item *item = &choosing->items[choosing->count++];
            struct text text = text_of(choosing->images[i].tags[t]);
            item->image = i;
            if (list_has(rubin->aliases, text) ||
                (rubin->recommended && text_is(text, rubin->recommended)))
                keep_tag_parse_alias(text, &item->tag);
            else
                keep_tag_parse(text, &item->tag);
        }
    }
    qsort(choosing->items, choosing->count, sizeof *choosing->items, by_tag_descending);
}

bool keep_choose(const struct keep_entry *entry, const struct keep_listed *images, size_t count,
                 int64_t now_s, struct keep_choice *out, struct error *error) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += images[i].tag_count;
    *out = (struct keep_choice){0};
    cleanup_free struct item *items = calloc(total + 1, sizeof *items);
    cleanup_free const struct item **sorted = calloc(total + 1, sizeof(struct item *));
    out->desired = calloc(KEEP_IMAGE_LIMIT, sizeof *out->desired);
    out->all = calloc(total + 1, sizeof *out->all);
    if (!items || !sorted || !out->desired || !out->all)
        return no_memory(error);
    struct choosing choosing = {.entry = entry,
                                .images = images,
                                .now_s = now_s,
                                .items = items,
                                .out = out,
                                .error = error};
    read_items(&choosing, count);
    bool chosen = entry->kind == KEEP_ENTRY_RUBIN ? choose_rubin(&choosing, sorted)
                                                  : choose_tags(&choosing, sorted);
    return chosen && list_all(&choosing);
}
