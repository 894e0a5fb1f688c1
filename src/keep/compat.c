/* The JSON of cachemachine. */
#include "keep/compat.h"

#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "keep/survey.h"

bool keep_compat_machines(struct keeper *keeper, struct buffer *out) {
    cleanup_json json_t *list = json_array();
    lock_acquire(&keeper->state_lock);
    for (size_t i = 0; i < keeper->kept_count; i++) {
        if (!keeper->kepts[i].is_hidden)
            json_array_append_new(list, json_string(keeper->kepts[i].spec->name));
    }
    lock_release(&keeper->state_lock);
    return bounded_json_dump(list, JSON_ENSURE_ASCII, out);
}

/* ---- what is common to all nodes ---- */

/* A name of an image on a node, without its tag or digest: the length of "HOST/NAME". */
static size_t repository_length(const struct keep_name *name) {
    const char *at = strchr(name->text, '@'), *slash = strrchr(name->text, '/');
    if (at)
        return (size_t)(at - name->text);
    const char *colon = strrchr(slash ? slash : name->text, ':');
    return colon ? (size_t)(colon - name->text) : name->length;
}

static bool same_repository(const struct keep_name *a, const struct keep_name *b) {
    size_t length = repository_length(a);
    return length == repository_length(b) && memcmp(a->text, b->text, length) == 0;
}

static bool has_name(const struct keep_node *node, const struct keep_node_image *image,
                     const struct keep_name *name) {
    for (uint32_t i = 0; i < image->name_count; i++) {
        if (node->names[image->first_name + i]->key == name->key)
            return true;
    }
    return false;
}

/* The image of a node that has both names: "NAME@DIGEST" and "NAME:TAG". */
static const struct keep_node_image *find_both(const struct keep_node *node,
                                               const struct keep_name *digest,
                                               const struct keep_name *tag) {
    const struct keep_node_image *image = keep_node_find(node, digest->digest);
    return image && has_name(node, image, digest) && has_name(node, image, tag) ? image : NULL;
}

/* Adds the tags that the image has in the repository of `tag` besides it, each once. */
static void add_other_tags(const struct keep_node *node, const struct keep_node_image *image,
                           const struct keep_name *tag, json_t *tags) {
    for (uint32_t i = 0; i < image->name_count; i++) {
        const struct keep_name *name = node->names[image->first_name + i];
        if (name->digest || name->key == tag->key || !same_repository(name, tag))
            continue;
        const char *text = name->text + repository_length(name);
        text += *text == ':';
        size_t index;
        const json_t *value;
        bool has = false;
        json_array_foreach (tags, index, value)
            has |= strcmp(json_string_value(value), text) == 0;
        if (!has)
            json_array_append_new(tags, json_string(text));
    }
}

static void add_common(json_t *list, const char *url, const char *digest, json_t *tags) {
    json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "image_url", url, "image_hash",
                                          digest ? digest : "", "tags", tags));
}

/* One name with a tag of the first node: it is common if all nodes have it for the same digest. */
static void add_if_common(const struct keep_survey *survey, const struct keep_node_image *image,
                          const struct keep_name *digest, const struct keep_name *tag,
                          json_t *list) {
    const struct keep_plan *plan = survey->keeper->plan;
    json_t *tags = json_array();
    add_other_tags(keep_plan_node(plan, survey->nodes[0]), image, tag, tags);
    for (size_t i = 1; i < survey->node_count; i++) {
        const struct keep_node *node = keep_plan_node(plan, survey->nodes[i]);
        const struct keep_node_image *other = find_both(node, digest, tag);
        if (!other) {
            json_decref(tags);
            return;
        }
        add_other_tags(node, other, tag, tags);
    }
    add_common(list, tag->text, strchr(digest->text, '@') + 1, tags);
}

/* In the order of the first node: its images as listed, their repositories as named, their tags as
 * named. A name with a digest comes before those with tags. */
static json_t *common_cache(const struct keep_survey *survey, const struct keep_list *kept) {
    json_t *list = json_array();
    const struct keep_node *node =
        survey->node_count ? keep_plan_node(survey->keeper->plan, survey->nodes[0]) : NULL;
    for (size_t i = 0; node && i < node->image_count; i++) {
        const struct keep_node_image *image = &node->images[i];
        for (uint32_t d = 0; d < image->name_count; d++) {
            const struct keep_name *digest = node->names[image->first_name + d];
            for (uint32_t t = 0; digest->digest && t < image->name_count; t++) {
                const struct keep_name *tag = node->names[image->first_name + t];
                if (!tag->digest && same_repository(tag, digest))
                    add_if_common(survey, image, digest, tag, list);
            }
        }
    }
    /* What our own pulls have brought and no list shows yet, or ever, because its names are cut. */
    for (size_t i = 0; kept && i < kept->desired_count; i++) {
        const struct keep_item *item = &kept->desired[i];
        size_t index;
        const json_t *value;
        bool has = false;
        json_array_foreach (list, index, value)
            has |= strcmp(json_string_value(json_object_get(value, "image_url")), item->url) == 0;
        if (!has && item->tag && keep_survey_is_everywhere(survey, item))
            add_common(list, item->url, item->digest, json_array());
    }
    return list;
}

/* ---- machines ---- */

/* cachemachine knows no digest of an image of a SimpleRepoMan unless it is written there. */
static json_t *hash_of(const struct keep_survey *survey, const struct keep_item *item) {
    const struct keep_entry *entry = &survey->kept->spec->entries[item->entry];
    if (survey->kept->machine && entry->kind == KEEP_ENTRY_IMAGE && !entry->digest)
        return json_null();
    return json_string(item->digest ? item->digest : "");
}

static json_t *element(const struct keep_survey *survey, const struct keep_item *item,
                       const char *name) {
    return json_pack("{s:s, s:o, s:s}", "image_url", item->url, "image_hash", hash_of(survey, item),
                     "name", name);
}

/* By the Docker API, cachemachine learns from the nodes what an alias stands for: as soon as all
 * have its image, by whatever tag. */
static const char *name_of(const struct keep_survey *survey, const struct keep_item *item) {
    bool is_docker = survey->kept->list->sources[item->entry].source == CATALOG_DOCKER;
    return is_docker && !keep_survey_digest_is_everywhere(survey, item) ? item->short_name
                                                                        : item->name;
}

struct machine_lists {
    json_t *all, *available, *desired, *missing;
};

static void fill_lists(const struct keep_survey *survey, struct machine_lists *out) {
    const struct keep_list *list = survey->kept->list;
    *out = (struct machine_lists){json_array(), json_array(), json_array(), json_array()};
    for (size_t i = 0; list && i < list->all_count; i++) {
        const struct keep_item *item = &list->all[i];
        if (survey->kept->spec->entries[item->entry].kind != KEEP_ENTRY_IMAGE)
            json_array_append_new(out->all, element(survey, item, item->tag));
    }
    for (size_t i = 0; list && i < list->desired_count; i++) {
        const struct keep_item *item = &list->desired[i];
        json_t *json = element(survey, item, name_of(survey, item));
        json_array_append(out->desired, json);
        json_array_append_new(
            keep_survey_is_everywhere(survey, item) ? out->available : out->missing, json);
    }
}

bool keep_compat_machine(struct keeper *keeper, const char *name, enum keep_machine_view view,
                         struct buffer *out) {
    struct keep_survey survey;
    lock_acquire(&keeper->state_lock);
    if (!keep_survey_begin(keeper, name, &survey, NULL)) {
        lock_release(&keeper->state_lock);
        return false;
    }
    struct machine_lists lists;
    cleanup_json json_t *json = NULL;
    fill_lists(&survey, &lists);
    if (view == KEEP_MACHINE_WHOLE)
        json = json_pack("{s:s, s:o, s:o, s:O, s:O, s:O, s:O}", "name", survey.kept->spec->name,
                         "labels", keep_machine_labels(survey.kept->spec), "common_cache",
                         common_cache(&survey, survey.kept->list), "all_images", lists.all,
                         "available_images", lists.available, "desired_images", lists.desired,
                         "images_to_cache", lists.missing);
    else
        json = json_pack("{s:O, s:O}", "images",
                         view == KEEP_MACHINE_AVAILABLE ? lists.available : lists.desired, "all",
                         lists.all);
    keep_survey_finish(&survey);
    lock_release(&keeper->state_lock);
    json_decref(lists.all);
    json_decref(lists.available);
    json_decref(lists.desired);
    json_decref(lists.missing);
    return bounded_json_dump(json, JSON_ENSURE_ASCII, out);
}

bool keep_compat_new_machine(const struct keep_spec *spec, struct buffer *out) {
    cleanup_json json_t *json =
        json_pack("{s:s, s:o, s:[], s:[], s:[], s:[], s:[]}", "name", spec->name, "labels",
                  keep_machine_labels(spec), "common_cache", "all_images", "available_images",
                  "desired_images", "images_to_cache");
    return bounded_json_dump(json, JSON_ENSURE_ASCII, out);
}
