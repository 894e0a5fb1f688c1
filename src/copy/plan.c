/* Reads the manifests of an image, and lists what belongs to it. */
#include "copy/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "copy/describe.h"
#include "copy/small.h"

void copy_plan_finish(struct copy_plan *plan) {
    for (size_t i = 0; i < plan->manifest_count; i++)
        copy_manifest_finish(&plan->manifests[i].manifest);
    free(plan->manifests);
    free(plan->blobs);
    digest_set_finish(&plan->seen);
    *plan = (struct copy_plan){0};
}

/* Walks one image. */
struct walk {
    struct copy_plan *plan;
    const struct copy_plan_wanted *wanted;
    bool is_referrer; /* what is found now */
    struct error *error;
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* ---- what is found ---- */

static bool add_blob(struct walk *walk, const struct descriptor *descriptor) {
    struct copy_plan *plan = walk->plan;
    bool added;
    if (!digest_set_add(&plan->seen, &descriptor->digest, &added))
        return no_memory(walk->error);
    if (!added)
        return true;
    if (plan->blob_count == plan->blob_capacity) {
        size_t capacity = plan->blob_capacity ? 2 * plan->blob_capacity : 32;
        struct copy_planned_blob *blobs = reallocarray(plan->blobs, capacity, sizeof *blobs);
        if (!blobs)
            return no_memory(walk->error);
        plan->blobs = blobs;
        plan->blob_capacity = capacity;
    }
    plan->blobs[plan->blob_count++] =
        (struct copy_planned_blob){.digest = descriptor->digest,
                                   .size = descriptor->size,
                                   .is_config = descriptor->role == DESCRIPTOR_CONFIG};
    return true;
}

/* Takes over the manifest. */
static bool add_manifest(struct walk *walk, struct copy_manifest *manifest) {
    struct copy_plan *plan = walk->plan;
    if (plan->manifest_count == COPY_PLAN_MANIFESTS ||
        manifest->bytes.length > COPY_PLAN_BYTES - plan->bytes)
        return error_set(walk->error, ERROR_INVALID, "the image has too many manifests");
    if (plan->manifest_count == plan->manifest_capacity) {
        size_t capacity = plan->manifest_capacity ? 2 * plan->manifest_capacity : 8;
        struct copy_planned_manifest *manifests =
            reallocarray(plan->manifests, capacity, sizeof *manifests);
        if (!manifests)
            return no_memory(walk->error);
        plan->manifests = manifests;
        plan->manifest_capacity = capacity;
    }
    plan->manifests[plan->manifest_count++] =
        (struct copy_planned_manifest){.manifest = *manifest, .is_referrer = walk->is_referrer};
    plan->bytes += manifest->bytes.length;
    *manifest = (struct copy_manifest){0};
    return true;
}

/* ---- the tree ---- */

static bool walk_manifest(struct walk *walk, struct copy_manifest *manifest, unsigned depth);

/* Some indexes name layers among their manifests: caches of BuildKit. */
static bool is_manifest_type(const char *type) {
    return !type[0] || strstr(type, "manifest") || strstr(type, ".index.");
}

static bool walk_child(struct walk *walk, const struct descriptor *child, unsigned depth) {
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    char digest[DIGEST_STRING_SIZE];
    if (digest_set_has(&walk->plan->seen, &child->digest))
        return true;
    if (!is_manifest_type(child->media_type))
        return add_blob(walk, child);
    if (!copy_source_get_manifest(walk->wanted->source, digest_format(&child->digest, digest),
                                  &manifest, walk->error))
        return false;
    return walk_manifest(walk, &manifest, depth + 1);
}

/* Adds the manifest behind all that it names. Takes it over. */
static bool walk_manifest(struct walk *walk, struct copy_manifest *manifest, unsigned depth) {
    struct manifest parsed;
    bool ok = true, added;
    char digest[DIGEST_STRING_SIZE];
    if (depth > COPY_PLAN_DEPTH)
        return error_set(walk->error, ERROR_INVALID,
                         "the image has indexes in indexes, more than %d deep", COPY_PLAN_DEPTH);
    if (!digest_set_add(&walk->plan->seen, &manifest->digest, &added))
        return no_memory(walk->error);
    if (!added) /* it was found by another way */
        return true;
    if (!manifest_parse(manifest->bytes.bytes, manifest->bytes.length, &parsed, walk->error))
        return error_wrap(walk->error, "%s", digest_format(&manifest->digest, digest));
    for (size_t i = 0; ok && i < parsed.count; i++) {
        const struct descriptor *named = &parsed.descriptors[i];
        if (named->role == DESCRIPTOR_MANIFEST)
            ok = walk_child(walk, named, depth);
        else if (named->role != DESCRIPTOR_SUBJECT)
            ok = add_blob(walk, named);
    }
    manifest_finish(&parsed);
    return ok && add_manifest(walk, manifest);
}

/* ---- some platforms of it ---- */

/* Whether the entry with this digest is for one of the wanted platforms. */
static bool is_wanted(const struct copy_plan_wanted *wanted, const struct manifest *index,
                      const struct digest *digest) {
    for (size_t i = 0; i < wanted->platform_count; i++) {
        const struct descriptor *found = copy_platform_find(index, &wanted->platforms[i], NULL);
        if (found && digest_equal(&found->digest, digest))
            return true;
    }
    return false;
}

/* Replaces the index by one that has the wanted images alone, with all else that it says. */
static bool filter_index(const struct copy_plan_wanted *wanted, const struct manifest *index,
                         struct copy_manifest *root, struct error *error) {
    cleanup_json json_t *json =
        bounded_json_load_by(0, root->bytes.bytes, root->bytes.length, error);
    json_t *manifests = json_object_get(json, "manifests");
    if (!json)
        return false;
    for (size_t i = json_array_size(manifests); i-- > 0;) {
        const json_t *text = json_object_get(json_array_get(manifests, i), "digest");
        struct digest digest;
        bool keep = digest_parse((struct text){json_string_value(text), json_string_length(text)},
                                 &digest) &&
                    is_wanted(wanted, index, &digest);
        if (!keep)
            json_array_remove(manifests, i);
    }
    buffer_clear(&root->bytes);
    if (!bounded_json_dump(json, JSON_COMPACT, &root->bytes))
        return no_memory(error);
    return copy_describe(root, root->media_type, NULL, error);
}

/* An image of one platform is that platform's, or it is not there. */
static bool check_single(const struct copy_plan_wanted *wanted, const struct copy_manifest *root,
                         struct error *error) {
    cleanup_buffer struct buffer config = {0};
    if (!copy_small_get_config(wanted->source, root, &config, error))
        return false;
    for (size_t i = 0; i < wanted->platform_count; i++) {
        if (!copy_platform_check_config(&config, &wanted->platforms[i], error))
            return false;
    }
    return true;
}

/* Replaces the root by what is wanted of it. */
static bool choose(const struct copy_plan_wanted *wanted, struct copy_manifest *root,
                   struct error *error) {
    struct manifest parsed;
    char digest[DIGEST_STRING_SIZE];
    bool ok = true;
    if (!manifest_parse(root->bytes.bytes, root->bytes.length, &parsed, error))
        return false;
    const struct descriptor *found = NULL;
    for (size_t i = 0; ok && parsed.is_index && i < wanted->platform_count; i++) {
        found = copy_platform_find(&parsed, &wanted->platforms[i], error);
        ok = found != NULL;
    }
    if (ok && !parsed.is_index) {
        ok = check_single(wanted, root, error);
    } else if (ok && wanted->platform_count == 1) {
        digest_format(&found->digest, digest);
        copy_manifest_finish(root);
        ok = copy_source_get_manifest(wanted->source, digest, root, error);
    } else if (ok) {
        ok = filter_index(wanted, &parsed, root, error);
    }
    manifest_finish(&parsed);
    return ok;
}

/* ---- referrers ---- */

static bool add_referrer(struct walk *walk, const json_t *entry) {
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    const json_t *text = json_object_get(entry, "digest");
    struct digest digest;
    char formatted[DIGEST_STRING_SIZE];
    if (!digest_parse((struct text){json_string_value(text), json_string_length(text)}, &digest) ||
        digest_set_has(&walk->plan->seen, &digest))
        return true;
    return copy_source_get_manifest(walk->wanted->source, digest_format(&digest, formatted),
                                    &manifest, walk->error) &&
           walk_manifest(walk, &manifest, 0);
}

static bool add_referrers_of(struct walk *walk, const struct digest *subject) {
    cleanup_buffer struct buffer bytes = {0};
    size_t i;
    const json_t *entry;
    if (!copy_source_get_referrers(walk->wanted->source, subject, &bytes, walk->error))
        return false;
    cleanup_json json_t *index = bounded_json_load_by(0, bytes.bytes, bytes.length, walk->error);
    if (!index)
        return false;
    json_array_foreach (json_object_get(index, "manifests"), i, entry) {
        if (!add_referrer(walk, entry))
            return false;
    }
    return true;
}

/* The list grows while it is walked: referrers have referrers. */
static bool add_referrers(struct walk *walk) {
    walk->is_referrer = true;
    for (size_t i = 0; i < walk->plan->manifest_count; i++) {
        struct digest subject = walk->plan->manifests[i].manifest.digest;
        if (!add_referrers_of(walk, &subject))
            return false;
    }
    return true;
}

bool copy_plan_make(struct copy_plan *plan, const struct copy_plan_wanted *wanted,
                    struct error *error) {
    cleanup_copy_manifest struct copy_manifest root = {0};
    struct error unwanted = {0};
    struct walk walk = {.plan = plan, .wanted = wanted, .error = error ? error : &unwanted};
    if (!copy_source_get_manifest(wanted->source, wanted->reference, &root, walk.error) ||
        (wanted->platform_count && !choose(wanted, &root, walk.error)) ||
        !walk_manifest(&walk, &root, 0))
        return false;
    plan->root = plan->manifest_count - 1;
    return !wanted->referrers || add_referrers(&walk);
}
