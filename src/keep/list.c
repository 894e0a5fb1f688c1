/* What the repositories of a keep hold, and what of it is to be kept. */
#include "keep/list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "keep/choice.h"
#include "keep/inspect.h"
#include "keep/version.h"
#include "oci/manifest.h"

static void item_finish(struct keep_item *item) {
    char *strings[] = {item->pull, item->tag,        item->digest,   item->url,
                       item->name, item->short_name, item->flat_name};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        free(strings[i]);
    for (size_t i = 0; i < item->platform_count; i++)
        free(item->platforms[i]);
    free(item->platforms);
    free(item->children);
}

void keep_list_free(struct keep_list *list) {
    if (!list)
        return;
    for (size_t i = 0; i < list->desired_count; i++)
        item_finish(&list->desired[i]);
    for (size_t i = 0; i < list->all_count; i++)
        item_finish(&list->all[i]);
    free(list->desired);
    free(list->all);
    free(list->sources);
    free(list);
}

/* ---- adding ---- */

static struct keep_item *add_item(struct keep_item **list, size_t *count) {
    if (*count % 64 == 0) {
        struct keep_item *more = reallocarray(*list, *count + 64, sizeof *more);
        if (!more)
            return NULL;
        *list = more;
    }
    (*list)[*count] = (struct keep_item){0};
    return &(*list)[(*count)++];
}

static bool copy(const char *from, char **to) {
    *to = from ? strdup(from) : NULL;
    return *to || !from;
}

static bool copy_platforms(const char *const *platforms, size_t count, struct keep_item *out) {
    free(out->platforms);
    out->platforms = calloc(count + 1, sizeof(char *));
    for (size_t i = 0; out->platforms && i < count; i++) {
        if (!copy(platforms[i], &out->platforms[i]))
            return false;
        out->platform_count++;
    }
    return out->platforms != NULL;
}

/* Takes over what the manifest of the same image has told. */
static bool copy_inspection(const struct keep_item *from, struct keep_item *out) {
    if (!from->is_inspected)
        return true;
    struct keep_child *children = calloc(from->child_count + 1, sizeof *children);
    if (!children)
        return false;
    if (from->child_count)
        memcpy(children, from->children, from->child_count * sizeof *children);
    free(out->children);
    out->children = children;
    out->child_count = from->child_count;
    out->size = from->size;
    out->is_inspected = true;
    return out->platform_count > 0 ||
           copy_platforms((const char *const *)from->platforms, from->platform_count, out);
}

/* A copy with its own strings. */
static bool copy_item(const struct keep_item *from, struct keep_item *out) {
    out->entry = from->entry;
    out->kind = from->kind;
    out->size = from->size;
    out->may_be_index = from->may_be_index;
    return copy(from->pull, &out->pull) && copy(from->tag, &out->tag) &&
           copy(from->digest, &out->digest) && copy(from->url, &out->url) &&
           copy(from->name, &out->name) && copy(from->short_name, &out->short_name) &&
           copy(from->flat_name, &out->flat_name) &&
           copy_platforms((const char *const *)from->platforms, from->platform_count, out) &&
           copy_inspection(from, out);
}

static const char *pull_name(const struct keep_entry *entry) {
    return entry->pull_as ? entry->pull_as : entry->repository;
}

/* ---- repositories ---- */

/* The images of a catalog's list as the choice takes them. */
struct listed {
    struct keep_listed *images;
    char (*digests)[DIGEST_STRING_SIZE];
    size_t count;
};

static bool may_be_index(const struct catalog_image *image) {
    return !image->media_type || strcmp(image->media_type, MEDIA_OCI_INDEX) == 0 ||
           strcmp(image->media_type, MEDIA_DOCKER_LIST) == 0;
}

static bool listed_of(const struct catalog_list *list, struct listed *out) {
    out->images = calloc(list->count + 1, sizeof *out->images);
    out->digests = calloc(list->count + 1, sizeof *out->digests);
    if (!out->images || !out->digests)
        return false;
    for (size_t i = 0; i < list->count; i++) {
        const struct catalog_image *image = &list->images[i];
        digest_format(&image->digest, out->digests[i]);
        out->images[i] = (struct keep_listed){
            .digest = *out->digests[i] ? out->digests[i] : NULL,
            .tags = image->tags,
            .tag_count = image->tag_count,
            .uploaded_s = image->uploaded_us > 0 ? image->uploaded_us / 1000000 : 0,
            .size = image->size > 0 ? (uint64_t)image->size : 0,
            .platforms = image->platforms,
            .platform_count = image->platform_count,
            .may_be_index = may_be_index(image),
        };
    }
    out->count = list->count;
    return true;
}

static void listed_finish(struct listed *listed) {
    free(listed->images);
    free(listed->digests);
}

static bool add_chosen(const struct keep_spec *spec, size_t entry, const struct keep_chosen *chosen,
                       const struct keep_listed *image, struct keep_item *out) {
    char url[1024];
    if (!out)
        return false;
    out->entry = entry;
    out->kind = chosen->kind;
    out->size = image->size;
    out->may_be_index = image->may_be_index;
    snprintf(url, sizeof url, "%s:%s", pull_name(&spec->entries[entry]), chosen->tag);
    return copy(pull_name(&spec->entries[entry]), &out->pull) && copy(chosen->tag, &out->tag) &&
           copy(image->digest, &out->digest) && copy(url, &out->url) &&
           copy(chosen->name, &out->name) && copy(chosen->short_name, &out->short_name) &&
           copy(chosen->flat_name, &out->flat_name) &&
           copy_platforms(image->platforms, image->platform_count, out);
}

static bool add_choice(struct keep_list *list, const struct keep_spec *spec, size_t entry,
                       const struct keep_choice *choice, const struct listed *listed) {
    for (size_t i = 0; i < choice->desired_count; i++) {
        const struct keep_chosen *chosen = &choice->desired[i];
        if (!add_chosen(spec, entry, chosen, &listed->images[chosen->image],
                        add_item(&list->desired, &list->desired_count)))
            return false;
    }
    for (size_t i = 0; i < choice->all_count; i++) {
        const struct keep_chosen *chosen = &choice->all[i];
        if (!add_chosen(spec, entry, chosen, &listed->images[chosen->image],
                        add_item(&list->all, &list->all_count)))
            return false;
    }
    return true;
}

/* What the digests of one repository are found by. */
struct finding {
    const struct keep_list_asker *asker;
    const struct keep_list *before;
    size_t entry;
};

static bool is_kept(const struct finding *finding, const char *tag) {
    for (size_t i = 0; i < finding->before->desired_count; i++) {
        const struct keep_item *item = &finding->before->desired[i];
        if (item->entry == finding->entry && item->tag && strcmp(item->tag, tag) == 0)
            return true;
    }
    return false;
}

/* The items of an entry stand together, by tag, descending. */
static const struct keep_item *find_listed_tag(const struct finding *finding, const char *tag) {
    const struct keep_list *list = finding->before;
    size_t low = 0, high = list->all_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct keep_item *item = &list->all[middle];
        int order = item->entry != finding->entry ? (item->entry < finding->entry ? -1 : 1)
                                                  : strcmp(tag, item->tag);
        if (order == 0)
            return item;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* A catalog_digest_of. */
static bool find_digest(void *context, const struct repository *repository, const char *tag,
                        struct digest *out, struct error *error) {
    const struct finding *finding = context;
    const struct keep_item *known =
        finding->before && finding->asker->reuses_digests ? find_listed_tag(finding, tag) : NULL;
    bool is_version = known && (keep_version_is(text_of(tag)) ||
                                (known->kind != KEEP_TAG_ALIAS && known->kind != KEEP_TAG_UNKNOWN));
    if (is_version && known->digest && !is_kept(finding, tag) &&
        digest_parse(text_of(known->digest), out))
        return true;
    return finding->asker->digest_of(finding->asker->digest_context, repository, tag, out, error);
}

/* Lists the repository of an entry. False: the error says why; the list is as it was. */
static bool list_repository(const struct finding *finding, const struct keep_spec *spec,
                            struct keep_list *out, struct error *error) {
    cleanup_catalog_list struct catalog_list list = {0};
    const struct keep_list_asker *asker = finding->asker;
    const size_t entry = finding->entry;
    struct catalog_question question = {
        .digest_of = find_digest, .digest_context = (void *)finding, .cancel = asker->cancel};
    struct catalog_answer answer = {0};
    const char *repository = spec->entries[entry].repository;
    if (!catalog_resolve(asker->upstreams, text_of(repository), &question, error))
        return error_wrap(error, "%s", repository);
    if (question.whole)
        return error_set(error, ERROR_INVALID,
                         "%s: is a repository of Artifact Registry; write the name of an image "
                         "behind it",
                         repository);
    enum catalog_outcome outcome =
        catalog_list_images(asker->catalog, &question, &list, &answer, error);
    out->sources[entry].source = answer.source;
    if (outcome != CATALOG_COMPLETE)
        return error_wrap(error, "%s", repository);
    struct listed listed = {0};
    struct keep_choice choice = {0};
    bool done = listed_of(&list, &listed);
    if (!done)
        error_set(error, ERROR_MEMORY, "out of memory");
    done = done && keep_choose(&spec->entries[entry], listed.images, listed.count,
                               out->sources[entry].listed_s, &choice, error);
    if (done && !add_choice(out, spec, entry, &choice, &listed))
        done = error_set(error, ERROR_MEMORY, "out of memory");
    if (done && choice.without_times && choice.desired_count == 0)
        snprintf(out->sources[entry].error, sizeof out->sources[entry].error,
                 "%s: newer_than keeps nothing, because the registry tells no times of upload",
                 repository);
    keep_choice_finish(&choice);
    listed_finish(&listed);
    return done;
}

/* ---- single images ---- */

static bool add_image(const struct keep_list_asker *asker, const struct keep_spec *spec,
                      size_t entry, struct keep_list *out, struct error *error) {
    const struct keep_entry *image = &spec->entries[entry];
    struct keep_item *item = add_item(&out->desired, &out->desired_count);
    char digest[DIGEST_STRING_SIZE] = "", url[1024];
    struct catalog_question question = {0};
    struct digest found = {0};
    bool done = true;
    if (!image->digest && asker->digest_of) {
        done = catalog_resolve(asker->upstreams, text_of(image->repository), &question, error) &&
               asker->digest_of(asker->digest_context, &question.repository, image->tag, &found,
                                error);
        digest_format(&found, digest);
    }
    const char *known = image->digest ? image->digest : *digest ? digest : NULL;
    snprintf(url, sizeof url, "%s%s%s", pull_name(image), image->tag ? ":" : "@",
             image->tag ? image->tag : image->digest);
    const char *name = image->name ? image->name : image->tag ? image->tag : image->digest;
    if (!item || !copy(pull_name(image), &item->pull) || !copy(image->tag, &item->tag) ||
        !copy(known, &item->digest) || !copy(image->url ? image->url : url, &item->url) ||
        !copy(name, &item->name) || !copy(name, &item->short_name) ||
        !copy(name, &item->flat_name) || !copy_platforms(NULL, 0, item))
        return error_set(error, ERROR_MEMORY, "out of memory");
    item->entry = entry;
    item->kind = KEEP_TAG_UNKNOWN;
    return done || error_wrap(error, "%s", url);
}

/* ---- lists ---- */

/* What an entry had in the list before stays. */
static bool take_over(struct keep_list *list, const struct keep_list *before, size_t entry) {
    for (size_t i = 0; before && i < before->desired_count; i++) {
        struct keep_item *item = NULL;
        if (before->desired[i].entry == entry &&
            (!(item = add_item(&list->desired, &list->desired_count)) ||
             !copy_item(&before->desired[i], item)))
            return false;
    }
    for (size_t i = 0; before && i < before->all_count; i++) {
        struct keep_item *item = NULL;
        if (before->all[i].entry == entry &&
            (!(item = add_item(&list->all, &list->all_count)) || !copy_item(&before->all[i], item)))
            return false;
    }
    return true;
}

static bool fill_entry(const struct keep_list_asker *asker, const struct keep_spec *spec,
                       size_t entry, const struct keep_list *before, struct keep_list *list) {
    struct keep_list_source *source = &list->sources[entry];
    struct error error = {0};
    bool is_image = spec->entries[entry].kind == KEEP_ENTRY_IMAGE;
    const struct finding finding = {asker, before, entry};
    bool done = is_image ? add_image(asker, spec, entry, list, &error)
                         : list_repository(&finding, spec, list, &error);
    if (done || error.kind == ERROR_MEMORY)
        return error.kind != ERROR_MEMORY;
    snprintf(source->error, sizeof source->error, "%.390s", error.text);
    source->listed_s = before && entry < before->source_count ? before->sources[entry].listed_s : 0;
    list->failed = true;
    if (!is_image)
        return take_over(list, before, entry);
    /* An image whose digest nobody tells is still pulled by its tag. */
    struct keep_item *item = &list->desired[list->desired_count - 1];
    for (size_t i = 0; before && i < before->desired_count && !item->digest; i++) {
        if (before->desired[i].entry == entry && !copy(before->desired[i].digest, &item->digest))
            return false;
    }
    return true;
}

/* ---- manifests ---- */

static const struct keep_item *find_inspected(const struct keep_item *items, size_t count,
                                              const char *digest) {
    for (size_t i = 0; i < count; i++) {
        if (items[i].is_inspected && strcmp(items[i].digest, digest) == 0)
            return &items[i];
    }
    return NULL;
}

static bool take_inspection(const struct keep_inspection *told, struct keep_item *item) {
    const char *platforms[KEEP_INSPECT_CHILDREN];
    item->children = calloc(told->count + 1, sizeof *item->children);
    if (!item->children)
        return false;
    memcpy(item->children, told->children, told->count * sizeof *item->children);
    item->child_count = told->count;
    if (told->size > 0)
        item->size = told->size;
    item->is_inspected = true;
    for (size_t i = 0; i < told->count; i++)
        platforms[i] = told->platforms[i];
    return item->platform_count > 0 || copy_platforms(platforms, told->count, item);
}

/* Asks for the manifest of an item, unless the image was inspected already. *ask becomes false when
 * the registry fails, so that the other images of the entry do not wait for it as well. */
static bool inspect(const struct keep_list_asker *asker, const struct keep_spec *spec,
                    const struct keep_list *before, struct keep_list *list, size_t index,
                    bool *ask) {
    struct keep_item *item = &list->desired[index];
    const struct keep_item *known = find_inspected(list->desired, index, item->digest);
    struct catalog_question question = {0};
    struct error error = {0};
    if (!known && before)
        known = find_inspected(before->desired, before->desired_count, item->digest);
    if (known)
        return copy_inspection(known, item);
    if (!*ask)
        return true;
    cleanup_free struct keep_inspection *told = malloc(sizeof *told);
    if (!told)
        return false;
    *ask = catalog_resolve(asker->upstreams, text_of(spec->entries[item->entry].repository),
                           &question, &error) &&
           keep_inspect(&question.repository, item->digest, asker->cancel, told, &error);
    return !*ask || take_inspection(told, item);
}

/* Whether the manifest of the item can tell more than the list. Artifact Registry's has sizes and
 * platforms, but not the digests by which a node may have an image of an index. */
static bool is_to_be_inspected(const struct keep_list *list, const struct keep_item *item) {
    return item->digest && !item->is_inspected &&
           (item->may_be_index || list->sources[item->entry].source != CATALOG_ARTIFACT_REGISTRY);
}

static bool inspect_all(const struct keep_list_asker *asker, const struct keep_spec *spec,
                        const struct keep_list *before, struct keep_list *list) {
    bool ask = true;
    for (size_t i = 0; i < list->desired_count; i++) {
        const struct keep_item *item = &list->desired[i];
        if (i > 0 && item->entry != list->desired[i - 1].entry)
            ask = true;
        if (is_to_be_inspected(list, item) && !inspect(asker, spec, before, list, i, &ask))
            return false;
    }
    return true;
}

/* A keep has so many images at most; the page tells which repository has more. */
static void cut(const struct keep_spec *spec, struct keep_list *list) {
    if (list->desired_count <= KEEP_IMAGE_LIMIT)
        return;
    size_t entry = list->desired[KEEP_IMAGE_LIMIT].entry;
    snprintf(list->sources[entry].error, sizeof list->sources[entry].error,
             "%.250s: the keep has more than %d images; those after them are not kept",
             spec->entries[entry].repository, KEEP_IMAGE_LIMIT);
    while (list->desired_count > KEEP_IMAGE_LIMIT)
        item_finish(&list->desired[--list->desired_count]);
}

struct keep_list *keep_list_make(const struct keep_list_asker *asker, const struct keep_spec *spec,
                                 const struct keep_list *before, int64_t now_s) {
    struct keep_list *list = calloc(1, sizeof *list);
    if (!list)
        return NULL;
    list->sources = calloc(spec->entry_count + 1, sizeof *list->sources);
    list->source_count = spec->entry_count;
    bool done = list->sources != NULL;
    for (size_t i = 0; done && i < spec->entry_count; i++) {
        list->sources[i].listed_s = now_s;
        done = fill_entry(asker, spec, i, before, list);
    }
    cut(spec, list);
    if (done && inspect_all(asker, spec, before, list))
        return list;
    keep_list_free(list);
    return NULL;
}

bool keep_list_plan(const struct keep_list *list, const char *keep, struct keep_plan *plan,
                    struct keep_now now) {
    size_t count = list->desired_count < KEEP_IMAGE_LIMIT ? list->desired_count : KEEP_IMAGE_LIMIT;
    cleanup_free struct keep_image *images = calloc(count + 1, sizeof *images);
    for (size_t i = 0; images && i < count; i++) {
        const struct keep_item *item = &list->desired[i];
        images[i] = (struct keep_image){.name = item->pull,
                                        .tag = item->tag,
                                        .digest = item->digest,
                                        .size = item->size,
                                        .platforms = (const char *const *)item->platforms,
                                        .platform_count = item->platform_count,
                                        .children = item->children,
                                        .child_count = item->child_count};
    }
    return images && keep_plan_set_images(plan, keep, images, count, now);
}
