/* What the manifest of an image tells. */
#include "keep/inspect.h"

#include <stdio.h>
#include <string.h>
#include "oci/manifest.h"
#include "upstream/asking.h"

/* Gets the manifest with this digest. Its bytes are not trusted further than for what is shown and
 * planned, so that their digest is not computed: the kubelet checks what it pulls. */
static bool get(const struct repository *repository, const char *digest,
                const struct cancel *cancel, struct manifest *out, uint64_t *bytes,
                struct error *error) {
    cleanup_asking struct asking asking = {
        .request = {.what = UPSTREAM_MANIFEST,
                    .reference = digest,
                    .stop = cancel ? cancel->stop : NULL},
        .limit = MANIFEST_SIZE_LIMIT,
    };
    if (!asking_get(repository, &asking, error))
        return false;
    *bytes = asking.body.length;
    return manifest_parse(asking.body.bytes, asking.body.length, out, error);
}

/* Config and layers. */
static uint64_t size_of(const struct manifest *manifest) {
    uint64_t size = 0;
    for (size_t i = 0; i < manifest->count; i++) {
        const struct descriptor *part = &manifest->descriptors[i];
        if ((part->role == DESCRIPTOR_CONFIG || part->role == DESCRIPTOR_LAYER) &&
            part->size < UINT64_MAX / 2 - size)
            size += part->size;
    }
    return size;
}

/* A platform that nodes have; attestations are for "unknown/unknown". */
static bool is_platform(const struct descriptor *child) {
    return child->role == DESCRIPTOR_MANIFEST && child->os[0] && child->architecture[0] &&
           strcmp(child->os, "unknown") != 0;
}

static void read_children(const struct manifest *index, struct keep_inspection *out) {
    for (size_t i = 0; i < index->count && out->count < KEEP_INSPECT_CHILDREN; i++) {
        const struct descriptor *child = &index->descriptors[i];
        if (!is_platform(child))
            continue;
        struct keep_child *to = &out->children[out->count];
        snprintf(out->platforms[out->count], sizeof out->platforms[out->count], "%s/%s%s%s",
                 child->os, child->architecture, child->variant[0] ? "/" : "", child->variant);
        snprintf(to->architecture, sizeof to->architecture, "%s",
                 strcmp(child->os, "linux") == 0 ? child->architecture : "");
        digest_format(&child->digest, to->digest);
        out->count++;
    }
}

bool keep_inspect(const struct repository *repository, const char *digest,
                  const struct cancel *cancel, struct keep_inspection *out, struct error *error) {
    struct manifest manifest;
    uint64_t bytes;
    *out = (struct keep_inspection){0};
    if (!get(repository, digest, cancel, &manifest, &bytes, error))
        return false;
    bool is_index = manifest.is_index;
    if (is_index)
        read_children(&manifest, out);
    else
        out->size = size_of(&manifest) + bytes;
    manifest_finish(&manifest);
    for (size_t i = 0; is_index && i < out->count; i++) {
        if (!*out->children[i].architecture)
            continue;
        if (!get(repository, out->children[i].digest, cancel, &manifest, &bytes, error))
            return false;
        if (!manifest.is_index)
            out->size = size_of(&manifest) + bytes;
        manifest_finish(&manifest);
        break;
    }
    return true;
}
