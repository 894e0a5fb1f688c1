/* Walks the manifests of an image, and lists its parts for the wanted platforms. */
#include "admin/warm_image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "oci/manifest.h"

enum { DEPTH_LIMIT = 4 }; /* indexes inside indexes */

void warm_parts_finish(struct warm_parts *parts) {
    for (size_t i = 0; i < parts->count; i++)
        free(parts->parts[i].error);
    free(parts->parts);
    *parts = (struct warm_parts){0};
}

static bool is_listed(const struct warm_parts *parts, const struct digest *digest) {
    for (size_t i = 0; i < parts->count; i++) {
        if (digest_equal(&parts->parts[i].digest, digest))
            return true;
    }
    return false;
}

/* Adds a part and gives it to be filled in; NULL: the error is set. */
static struct warm_part *add_part(struct warm_parts *parts, const struct digest *digest,
                                  const char *role, struct error *error) {
    if (parts->count == WARM_PARTS_LIMIT) {
        error_set(error, ERROR_INVALID, "the image has more than %d manifests and blobs",
                  WARM_PARTS_LIMIT);
        return NULL;
    }
    if (parts->count == parts->capacity) {
        size_t capacity = parts->capacity ? parts->capacity * 2 : 16;
        struct warm_part *grown = realloc(parts->parts, capacity * sizeof *grown);
        if (!grown) {
            error_set(error, ERROR_MEMORY, "out of memory");
            return NULL;
        }
        parts->parts = grown;
        parts->capacity = capacity;
    }
    struct warm_part *part = &parts->parts[parts->count++];
    *part = (struct warm_part){.digest = *digest, .role = role, .moved = true};
    return part;
}

/* ---- platforms ---- */

/* "linux/arm" means each of its variants; linux/arm64 is linux/arm64/v8. */
static bool is_platform(const struct descriptor *entry, struct text wanted) {
    struct text os = text_cut(wanted, '/', &wanted);
    struct text architecture = text_cut(wanted, '/', &wanted);
    const char *variant = entry->variant;
    if (!*variant && strcmp(entry->architecture, "arm64") == 0)
        variant = "v8";
    return text_is(os, entry->os) && text_is(architecture, entry->architecture) &&
           (!wanted.at || text_is(wanted, variant));
}

/* Whether the entry of an index is to be fetched. Records which of the wanted platforms it is for.
 * An entry without a platform is fetched, because it may be an index with these platforms inside.
 */
static bool is_wanted(struct warm_walk *walk, const struct descriptor *entry) {
    const char *const *platforms = walk->platforms;
    if (!platforms || !platforms[0])
        return true;
    if (!entry->os[0] && !entry->architecture[0])
        return strcmp(entry->media_type, MEDIA_OCI_INDEX) == 0 ||
               strcmp(entry->media_type, MEDIA_DOCKER_LIST) == 0;
    bool wanted = false;
    for (size_t i = 0; platforms[i] && i < WARM_PLATFORM_LIMIT; i++) {
        if (!is_platform(entry, text_of(platforms[i])))
            continue;
        walk->platforms_found |= UINT64_C(1) << i;
        wanted = true;
    }
    return wanted;
}

static void append_platforms(const struct manifest *index, char *out, size_t size) {
    size_t length = 0;
    out[0] = '\0';
    for (size_t i = 0; i < index->count; i++) {
        const struct descriptor *entry = &index->descriptors[i];
        if (entry->role != DESCRIPTOR_MANIFEST || !entry->os[0] ||
            strcmp(entry->os, "unknown") == 0) /* of an attestation */
            continue;
        int more =
            snprintf(out + length, size - length, "%s%s/%s%s%s", length ? ", " : "", entry->os,
                     entry->architecture, entry->variant[0] ? "/" : "", entry->variant);
        if (more < 0 || (size_t)more >= size - length)
            break;
        length += (size_t)more;
    }
}

static bool check_platforms(const struct warm_walk *walk, const struct manifest *index,
                            struct error *error) {
    const char *const *platforms = walk->platforms;
    for (size_t i = 0; platforms && platforms[i] && i < WARM_PLATFORM_LIMIT; i++) {
        char there[320];
        if (walk->platforms_found & UINT64_C(1) << i)
            continue;
        append_platforms(index, there, sizeof there);
        return error_set(error, ERROR_NOT_FOUND, "the image has no platform %s; it has: %s",
                         platforms[i], there[0] ? there : "none that it names");
    }
    return true;
}

/* ---- the walk ---- */

static bool list_blob(struct warm_walk *walk, const struct descriptor *blob, struct error *error) {
    const char *role = blob->role == DESCRIPTOR_CONFIG ? "config" : "layer";
    if (is_listed(walk->parts, &blob->digest))
        return true;
    struct warm_part *part = add_part(walk->parts, &blob->digest, role, error);
    if (part)
        part->size = blob->size;
    return part != NULL;
}

static bool visit(struct warm_walk *walk, const struct reference *reference, unsigned depth,
                  struct error *error);

/* Whether the image's other parts are worth fetching after this failure. */
static bool ends_walk(struct warm_walk *walk, const struct error *error) {
    return error->kind == ERROR_CLOSED || error->kind == ERROR_MEMORY ||
           walk->parts->count == WARM_PARTS_LIMIT || !cancel_check(&walk->cancel, NULL);
}

/* Lists a child of an index that could not be had, unless it is listed because only what it names
 * failed. */
static bool list_failure(struct warm_walk *walk, const struct descriptor *entry,
                         const struct error *failure, struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    struct warm_parts *parts = walk->parts;
    struct warm_part *part = NULL;
    for (size_t i = 0; i < parts->count && !part; i++) {
        if (digest_equal(&parts->parts[i].digest, &entry->digest))
            part = &parts->parts[i];
    }
    if (!part && !(part = add_part(parts, &entry->digest, "manifest", error)))
        return false;
    free(part->error);
    part->state = WARM_FAILED;
    part->size = entry->size;
    part->error = strdup(failure->text);
    part->moved = true;
    if (walk->failure.kind == ERROR_NONE) {
        walk->failure = *failure;
        error_wrap(&walk->failure, "manifest %s", digest_format(&entry->digest, digest));
    }
    return true;
}

static bool visit_entries(struct warm_walk *walk, const struct manifest *index, unsigned depth,
                          struct error *error) {
    for (size_t i = 0; i < index->count; i++) {
        const struct descriptor *entry = &index->descriptors[i];
        if (entry->role != DESCRIPTOR_MANIFEST || !is_wanted(walk, entry) ||
            is_listed(walk->parts, &entry->digest))
            continue;
        const struct reference reference = {.is_digest = true, .digest = entry->digest};
        struct error failure = {0};
        if (visit(walk, &reference, depth + 1, &failure))
            continue;
        if (ends_walk(walk, &failure)) {
            *error = failure;
            return false;
        }
        if (!list_failure(walk, entry, &failure, error))
            return false;
    }
    return depth > 0 || check_platforms(walk, index, error);
}

static bool list_blobs(struct warm_walk *walk, const struct manifest *manifest,
                       struct error *error) {
    for (size_t i = 0; i < manifest->count; i++) {
        const struct descriptor *blob = &manifest->descriptors[i];
        if ((blob->role == DESCRIPTOR_CONFIG || blob->role == DESCRIPTOR_LAYER) &&
            !list_blob(walk, blob, error))
            return false;
    }
    return true;
}

static bool list_manifest(struct warm_walk *walk, const struct cache_result *found,
                          const struct manifest *manifest, struct error *error) {
    const struct document *document = found->document;
    struct warm_part *part =
        add_part(walk->parts, &document->digest, manifest->is_index ? "index" : "manifest", error);
    if (!part)
        return false;
    part->state = WARM_CACHED;
    part->was_cached = found->outcome != CACHE_MISS && found->outcome != CACHE_JOINED;
    part->moved = false;
    part->size = part->bytes = document->length;
    if (walk->on_part)
        walk->on_part(walk->context, part);
    return true;
}

static bool visit(struct warm_walk *walk, const struct reference *reference, unsigned depth,
                  struct error *error) {
    const struct cache_caller caller = {&walk->repository, &walk->cancel};
    struct cache_result found;
    struct manifest manifest = {0};
    if (depth > DEPTH_LIMIT)
        return error_set(error, ERROR_INVALID, "indexes are nested more than %d deep", DEPTH_LIMIT);
    if (!cancel_check(&walk->cancel, error) ||
        !cache_manifest(walk->cache, &caller, reference, false, &found, error))
        return false;
    bool ok = manifest_parse(found.document->bytes, found.document->length, &manifest, error) &&
              list_manifest(walk, &found, &manifest, error);
    document_release(found.document);
    if (ok)
        ok = manifest.is_index ? visit_entries(walk, &manifest, depth, error)
                               : list_blobs(walk, &manifest, error);
    manifest_finish(&manifest);
    return ok;
}

bool warm_walk(struct warm_walk *walk, const struct reference *reference, struct error *error) {
    return visit(walk, reference, 0, error);
}
