/* The JSON of nublado's controller: what can be spawned, and how the pre-pulling stands. */
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "keep/compat.h"
#include "keep/survey.h"

static json_t *string_or_null(const char *string) {
    return string ? json_string(string) : json_null();
}

/* ---- images ---- */

/* An item with its tag parsed, for nublado's order. */
struct entry {
    const struct keep_item *item;
    struct keep_tag tag;
};

static int by_menu(const void *a, const void *b) {
    const struct entry *left = a, *right = b;
    if (left->item->kind != right->item->kind)
        return left->item->kind < right->item->kind ? -1 : 1;
    int order = keep_tag_compare(&right->tag, &left->tag);
    return order != 0 ? order : strcmp(right->item->tag, left->item->tag);
}

/* The items with a tag, in the order of nublado's menu. NULL: out of memory. */
static struct entry *sort_items(const struct keep_item *items, size_t count, size_t *sorted) {
    struct entry *entries = calloc(count + 1, sizeof *entries);
    *sorted = 0;
    for (size_t i = 0; entries && i < count; i++) {
        if (!items[i].tag)
            continue;
        struct entry *entry = &entries[(*sorted)++];
        entry->item = &items[i];
        if (items[i].kind == KEEP_TAG_ALIAS)
            keep_tag_parse_alias(text_of(items[i].tag), &entry->tag);
        else
            keep_tag_parse(text_of(items[i].tag), &entry->tag);
    }
    if (entries)
        qsort(entries, *sorted, sizeof *entries, by_menu);
    return entries;
}

static int by_string(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The other tags of the item's image, sorted. */
static json_t *aliases_of(const struct keep_list *list, const struct keep_item *item) {
    const char *tags[64];
    size_t count = 0;
    json_t *aliases = json_array();
    for (size_t i = 0; item->digest && i < list->all_count && count < 64; i++) {
        const struct keep_item *other = &list->all[i];
        if (other->entry == item->entry && other->digest &&
            strcmp(other->digest, item->digest) == 0 && strcmp(other->tag, item->tag) != 0)
            tags[count++] = other->tag;
    }
    qsort(tags, count, sizeof *tags, by_string);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(aliases, json_string(tags[i]));
    return aliases;
}

static json_t *spawner_image(const struct keep_survey *survey, const struct keep_item *item) {
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:b}", "reference", item->url, "tag", item->tag,
                     "name", item->flat_name, "digest", string_or_null(item->digest), "aliases",
                     aliases_of(survey->kept->list, item), "prepulled",
                     keep_survey_is_everywhere(survey, item));
}

/* The recommended tag of the first entry that has one. */
static const char *recommended_of(const struct keep_spec *spec) {
    for (size_t i = 0; i < spec->entry_count; i++) {
        if (spec->entries[i].kind == KEEP_ENTRY_RUBIN && spec->entries[i].rubin.recommended)
            return spec->entries[i].rubin.recommended;
    }
    return NULL;
}

static json_t *newest_of(const struct keep_survey *survey, const struct entry *entries,
                         size_t count, enum keep_tag_kind kind) {
    for (size_t i = 0; i < count; i++) {
        if (entries[i].item->kind == kind)
            return spawner_image(survey, entries[i].item);
    }
    return json_null();
}

static json_t *recommended_image(const struct keep_survey *survey) {
    const struct keep_list *list = survey->kept->list;
    const char *tag = recommended_of(survey->kept->spec);
    for (size_t i = 0; tag && i < list->desired_count; i++) {
        if (list->desired[i].tag && strcmp(list->desired[i].tag, tag) == 0)
            return spawner_image(survey, &list->desired[i]);
    }
    return json_null();
}

static json_t *spawner_images(const struct keep_survey *survey) {
    const struct keep_list *list = survey->kept->list;
    if (!list)
        return json_pack("{s:n, s:n, s:n, s:n, s:[]}", "recommended", "latest_weekly",
                         "latest_daily", "latest_release", "all");
    size_t all_count, desired_count;
    cleanup_free struct entry *all = sort_items(list->all, list->all_count, &all_count);
    cleanup_free struct entry *desired =
        sort_items(list->desired, list->desired_count, &desired_count);
    if (!all || !desired)
        return NULL;
    json_t *images = json_array();
    for (size_t i = 0; i < all_count; i++)
        json_array_append_new(images, spawner_image(survey, all[i].item));
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "recommended", recommended_image(survey),
                     "latest_weekly", newest_of(survey, desired, desired_count, KEEP_TAG_WEEKLY),
                     "latest_daily", newest_of(survey, desired, desired_count, KEEP_TAG_DAILY),
                     "latest_release", newest_of(survey, desired, desired_count, KEEP_TAG_RELEASE),
                     "all", images);
}

bool keep_compat_spawner_images(struct keeper *keeper, struct buffer *out) {
    struct keep_survey survey;
    cleanup_json json_t *json = NULL;
    lock_acquire(&keeper->state_lock);
    bool found = keep_survey_begin(keeper, keeper->settings.keep->nublado, &survey, NULL);
    if (found) {
        json = spawner_images(&survey);
        keep_survey_finish(&survey);
    }
    lock_release(&keeper->state_lock);
    return found && bounded_json_dump(json, JSON_COMPACT, out);
}

/* ---- pre-pulling ---- */

/* "LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE" is Google's. */
static json_t *source_of(const struct keep_entry *entry) {
    static const char suffix[] = "-docker.pkg.dev";
    struct text path, host = text_cut(text_of(entry->repository), '/', &path);
    struct text repository, project = text_cut(path, '/', &repository);
    struct text image = {0}, folder = {0};
    if (repository.at)
        folder = text_cut(repository, '/', &image);
    if (text_ends(host, suffix) && image.at)
        return json_pack("{s:s, s:s%, s:s%, s:s%, s:s%}", "type", "google", "location", host.at,
                         host.length - strlen(suffix), "project_id", project.at, project.length,
                         "repository", folder.at, folder.length, "image", image.at, image.length);
    return json_pack("{s:s, s:s%, s:s%}", "type", "docker", "registry", host.at, host.length,
                     "repository", path.at, path.length);
}

static json_t *strings_of(const char *const *list) {
    json_t *strings = json_array();
    for (; list && *list; list++)
        json_array_append_new(strings, json_string(*list));
    return strings;
}

static json_t *config_of(const struct keep_survey *survey) {
    const struct keep_spec *spec = survey->kept->spec;
    static const struct keep_entry none = {.repository = "docker.io/"};
    const struct keep_entry *entry = spec->entry_count ? &spec->entries[0] : &none;
    for (size_t i = spec->entry_count; i-- > 0;) {
        if (spec->entries[i].kind == KEEP_ENTRY_RUBIN)
            entry = &spec->entries[i];
    }
    const struct keep_rubin *rubin = &entry->rubin;
    return json_pack(
        "{s:o, s:f, s:f, s:o, s:I, s:I, s:I, s:o, s:o, s:o}", "source", source_of(entry),
        "refresh_interval", (double)survey->keeper->settings.keep->refresh_ms / 1000,
        "prepull_timeout", (double)spec->pull.timeout_ms / 1000, "recommended_tag",
        string_or_null(rubin->recommended), "num_releases", (json_int_t)rubin->releases,
        "num_weeklies", (json_int_t)rubin->weeklies, "num_dailies", (json_int_t)rubin->dailies,
        "cycle", rubin->has_cycle ? json_integer((json_int_t)rubin->cycle) : json_null(), "pin",
        strings_of(rubin->pins), "alias_tags", strings_of(rubin->aliases));
}

/* Whether the item is an alias of another that is kept, too: nublado then shows that one only. */
static bool is_resolved_alias(const struct keep_list *list, const struct keep_item *item) {
    for (size_t i = 0; item->kind == KEEP_TAG_ALIAS && item->digest && i < list->desired_count;
         i++) {
        const struct keep_item *other = &list->desired[i];
        if (other->kind != KEEP_TAG_ALIAS && other->kind != KEEP_TAG_UNKNOWN && other->digest &&
            strcmp(other->digest, item->digest) == 0)
            return true;
    }
    return false;
}

/* The names of the eligible nodes that have the item's image, or those that have not; sorted. */
static json_t *nodes_with(const struct keep_survey *survey, const struct keep_item *item,
                          bool with) {
    const struct keep_plan *plan = survey->keeper->plan;
    int image = keep_survey_image(survey, item);
    cleanup_free const char **names = calloc(survey->node_count + 1, sizeof *names);
    json_t *list = json_array();
    size_t count = 0;
    for (size_t i = 0; names && image >= 0 && i < survey->node_count; i++) {
        size_t node = survey->nodes[i];
        if (keep_plan_is_kept(plan, (size_t)survey->keep, (size_t)image, node) == with)
            names[count++] = keep_plan_node(plan, node)->name;
    }
    if (names)
        qsort(names, count, sizeof *names, by_string);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(names[i]));
    return list;
}

static json_t *prepull_images(const struct keep_survey *survey) {
    const struct keep_list *list = survey->kept->list;
    json_t *done = json_array(), *pending = json_array();
    size_t count = 0;
    cleanup_free struct entry *sorted =
        list ? sort_items(list->desired, list->desired_count, &count) : NULL;
    for (size_t i = 0; sorted && i < count; i++) {
        const struct keep_item *item = sorted[i].item;
        if (is_resolved_alias(list, item))
            continue;
        struct keep_image image = {0};
        int at = keep_survey_image(survey, item);
        if (at >= 0)
            keep_plan_image(survey->keeper->plan, (size_t)survey->keep, (size_t)at, &image);
        json_t *missing = nodes_with(survey, item, false);
        bool is_done = json_array_size(missing) == 0;
        json_t *json =
            json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "reference", item->url, "tag",
                      item->tag, "name", item->flat_name, "digest", string_or_null(item->digest),
                      "size", image.size ? json_integer((json_int_t)image.size) : json_null(),
                      "nodes", nodes_with(survey, item, true), "missing", missing);
        json_array_append_new(is_done ? done : pending, json);
    }
    return json_pack("{s:o, s:o}", "prepulled", done, "pending", pending);
}

static json_t *cached_on(const struct keep_survey *survey, size_t node) {
    const struct keep_list *list = survey->kept->list;
    json_t *cached = json_array();
    for (size_t i = 0; list && i < list->desired_count; i++) {
        const struct keep_item *item = &list->desired[i];
        int image = keep_survey_image(survey, item);
        if (image >= 0 && !is_resolved_alias(list, item) &&
            keep_plan_is_kept(survey->keeper->plan, (size_t)survey->keep, (size_t)image, node))
            json_array_append_new(cached, json_string(item->url));
    }
    return cached;
}

static json_t *prepull_nodes(const struct keep_survey *survey) {
    const struct keep_plan *plan = survey->keeper->plan;
    json_t *nodes = json_array();
    for (size_t n = 0; n < keep_plan_node_count(plan); n++) {
        const struct keep_node *node = keep_plan_node(plan, n);
        char comment[KEEP_COMMENT_SIZE];
        enum keep_eligibility eligibility =
            keep_node_eligible(node, &survey->kept->spec->nodes, comment);
        if (eligibility == KEEP_NODE_OTHER)
            continue;
        json_array_append_new(nodes,
                              json_pack("{s:s, s:b, s:o, s:o}", "name", node->name, "eligible",
                                        eligibility == KEEP_NODE_ELIGIBLE, "comment",
                                        *comment ? json_string(comment) : json_null(), "cached",
                                        cached_on(survey, n)));
    }
    return nodes;
}

bool keep_compat_prepulls(struct keeper *keeper, struct buffer *out) {
    struct keep_survey survey;
    cleanup_json json_t *json = NULL;
    lock_acquire(&keeper->state_lock);
    bool found = keep_survey_begin(keeper, keeper->settings.keep->nublado, &survey, NULL);
    if (found) {
        json = json_pack("{s:o, s:o, s:o}", "config", config_of(&survey), "images",
                         prepull_images(&survey), "nodes", prepull_nodes(&survey));
        keep_survey_finish(&survey);
    }
    lock_release(&keeper->state_lock);
    return found && bounded_json_dump(json, JSON_COMPACT | JSON_REAL_PRECISION(15), out);
}
