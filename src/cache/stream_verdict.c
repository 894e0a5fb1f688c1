/* Whether an image or a layer can stream, as the store says it. */
#include <stdlib.h>
#include "cache/image.h"
#include "cache/stream_parts.h"
#include "oci/manifest.h"
#include "store/aside.h"
#include "store/records.h"

enum { MANIFESTS_MOST = 1000 /* of a repository that are looked through for a layer */ };

struct streams_settings streams_settings_default(void) {
    return (struct streams_settings){.enabled = false, .min_layer = 10 << 20, .threads = 1};
}

const char *stream_state_name(enum stream_state state) {
    static const char *const names[] = {"absent", "pending", "refused", "ready"};
    return names[state];
}

/* What is refused of the image or of one of its layers. */
static enum layer_refusal refusal_of(struct store *store, const struct digest *manifest,
                                     const struct stream_parts *parts) {
    static const struct digest none = {0};
    enum layer_refusal refusal = stream_refusal(store, manifest, &none);
    for (size_t i = 0; refusal == LAYER_FINE && i < parts->count; i++)
        refusal = stream_refusal(store, &parts->layers[i].digest, &parts->layers[i].diff_id);
    return refusal;
}

static bool is_ready(struct store *store, const struct digest *manifest,
                     const struct stream_parts *parts) {
    for (size_t i = 0; i < parts->count; i++)
        if (!stream_has_index(store, &parts->layers[i].digest, &parts->layers[i].diff_id))
            return false;
    return store_aside_has(store, manifest, ASIDE_IMAGE);
}

struct stream_verdict stream_of_manifest(struct store *store,
                                         const struct streams_settings *settings,
                                         const struct digest *manifest) {
    cleanup_stream_parts struct stream_parts parts = {0};
    if (!stream_parts_read(store, settings, manifest, &parts, NULL))
        return (struct stream_verdict){STREAM_REFUSED, LAYER_ERROR};
    if (parts.verdict.state != STREAM_PENDING)
        return parts.verdict;
    if (is_ready(store, manifest, &parts))
        return (struct stream_verdict){STREAM_READY, LAYER_FINE};
    enum layer_refusal refusal = refusal_of(store, manifest, &parts);
    return (struct stream_verdict){refusal ? STREAM_REFUSED : STREAM_PENDING, refusal};
}

/* The better of two: ready, pending, refused, absent. */
static struct stream_verdict better(struct stream_verdict a, struct stream_verdict b) {
    static const int ranks[] = {
        [STREAM_ABSENT] = 0, [STREAM_REFUSED] = 1, [STREAM_PENDING] = 2, [STREAM_READY] = 3};
    return ranks[b.state] > ranks[a.state] ? b : a;
}

struct stream_verdict stream_of_image(struct store *store, const struct streams_settings *settings,
                                      const struct digest *digest) {
    struct manifest manifest = {0};
    struct stream_verdict verdict = {STREAM_ABSENT, settings->enabled ? LAYER_FINE : LAYER_OFF};
    if (!settings->enabled || !image_read_manifest(store, digest, &manifest))
        return verdict;
    if (!manifest.is_index)
        verdict = stream_of_manifest(store, settings, digest);
    for (size_t i = 0; manifest.is_index && i < manifest.count; i++)
        if (manifest.descriptors[i].role == DESCRIPTOR_MANIFEST)
            verdict = better(verdict,
                             stream_of_manifest(store, settings, &manifest.descriptors[i].digest));
    manifest_finish(&manifest);
    return verdict;
}

/* ---- layers ---- */

struct search {
    struct store *store;
    const struct streams_settings *settings;
    const struct digest *layer;
    struct stream_verdict verdict;
    size_t left; /* manifests that may still be read */
    bool is_named;
};

static bool names_layer(struct store *store, const struct digest *digest,
                        const struct digest *layer) {
    struct manifest manifest = {0};
    bool found = false;
    if (!image_read_manifest(store, digest, &manifest))
        return false;
    for (size_t i = 0; i < manifest.count && !found; i++)
        found = manifest.descriptors[i].role == DESCRIPTOR_LAYER &&
                digest_equal(&manifest.descriptors[i].digest, layer);
    manifest_finish(&manifest);
    return found;
}

static bool look_at_manifest(void *context, const struct digest *digest) {
    struct search *search = context;
    if (names_layer(search->store, digest, search->layer)) {
        search->is_named = true;
        search->verdict =
            better(search->verdict, stream_of_manifest(search->store, search->settings, digest));
    }
    return --search->left > 0;
}

struct stream_verdict stream_of_layer(struct store *store, const struct streams_settings *settings,
                                      const struct repository_name *repository,
                                      const struct digest *layer) {
    struct search search = {.store = store,
                            .settings = settings,
                            .layer = layer,
                            .verdict = {STREAM_ABSENT, settings->enabled ? LAYER_FINE : LAYER_OFF},
                            .left = MANIFESTS_MOST};
    if (!settings->enabled)
        return search.verdict;
    bool has_index = store_aside_has(store, layer, ASIDE_INDEX);
    if (has_index && store_has_link_blob(store, repository, layer, NULL))
        return (struct stream_verdict){STREAM_READY, LAYER_FINE};
    store_links(store, repository, LINK_MANIFEST, look_at_manifest, &search, NULL);
    if (search.is_named && has_index)
        return (struct stream_verdict){STREAM_READY, LAYER_FINE};
    if (search.verdict.state == STREAM_READY) /* the index went a moment ago */
        search.verdict = (struct stream_verdict){STREAM_ABSENT, LAYER_FINE};
    return search.verdict;
}
