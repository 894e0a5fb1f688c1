/* Copies an image. */
#include "copy/image.h"

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "copy/describe.h"
#include "copy/plan.h"

/* A copy under way. */
struct run {
    const struct copy_image *image;
    struct copy_plan plan;
    struct copy_events events;
    struct copy_image_result *result;
};

static bool copy_its_blobs(struct run *run, struct error *error) {
    const struct copy_image *image = run->image;
    const struct copy_blobs blobs = {
        .source = image->source,
        .destination = image->destination,
        .blobs = run->plan.blobs,
        .count = run->plan.blob_count,
        .jobs = image->jobs,
        .dry_run = image->dry_run,
        .stop = image->stop,
        .events = &run->events,
    };
    return copy_blobs(&blobs, error);
}

/* ---- manifests ---- */

/* Tells the destination's fallback tag of a referrer that its registry does not list by itself. */
static bool list_referrer(struct run *run, const struct copy_manifest *manifest,
                          struct error *error) {
    struct digest subject;
    if (!copy_describe_subject(manifest, &subject))
        return true;
    cleanup_json json_t *descriptor = copy_describe_descriptor(manifest, true);
    if (!descriptor)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return copy_destination_add_referrer(run->image->destination, &subject, descriptor, error);
}

/* Writes a manifest that is not there yet. */
static bool put_manifest(struct run *run, const struct copy_planned_manifest *planned,
                         enum copy_state *state, struct error *error) {
    const struct copy_image *image = run->image;
    const struct copy_manifest *manifest = &planned->manifest;
    struct digest there;
    char digest[DIGEST_STRING_SIZE];
    bool has_referrers = true;
    if (!copy_destination_find_manifest(image->destination,
                                        digest_format(&manifest->digest, digest), &there, error))
        return false;
    *state = there.algorithm ? COPY_STATE_PRESENT : COPY_STATE_COPIED;
    if (image->dry_run)
        return true;
    if (!there.algorithm &&
        !copy_destination_put_manifest(image->destination, manifest,
                                       planned->is_referrer ? "" : NULL, &has_referrers, error))
        return false;
    /* One that is there may be missing in the list, because an earlier copy was cut. */
    bool is_listed = there.algorithm ? !planned->is_referrer : has_referrers;
    return is_listed || list_referrer(run, manifest, error);
}

static void tell_manifest(struct run *run, const struct copy_manifest *manifest,
                          enum copy_state state) {
    const struct copy_event event = {.kind = COPY_EVENT_MANIFEST,
                                     .digest = manifest->digest,
                                     .size = manifest->bytes.length,
                                     .media_type = manifest->media_type,
                                     .state = state};
    copy_events_tell(&run->events, &event);
}

/* All manifests but the image's own. */
static bool copy_manifests(struct run *run, struct error *error) {
    const struct cancel cancel = {.stop = run->image->stop};
    for (size_t i = 0; i < run->plan.manifest_count; i++) {
        enum copy_state state;
        if (i == run->plan.root)
            continue;
        if (!cancel_check(&cancel, error) ||
            !put_manifest(run, &run->plan.manifests[i], &state, error))
            return false;
        tell_manifest(run, &run->plan.manifests[i].manifest, state);
    }
    return true;
}

/* The image itself, by which it is found from now on. */
static bool copy_root(struct run *run, struct error *error) {
    const struct copy_image *image = run->image;
    const struct copy_manifest *root = &run->plan.manifests[run->plan.root].manifest;
    struct digest by_digest, by_tag = {0};
    char digest[DIGEST_STRING_SIZE];
    bool has_referrers = true;
    const struct cancel cancel = {.stop = image->stop};
    if (!cancel_check(&cancel, error) ||
        !copy_destination_find_manifest(image->destination, digest_format(&root->digest, digest),
                                        &by_digest, error) ||
        (image->tag[0] &&
         !copy_destination_find_manifest(image->destination, image->tag, &by_tag, error)))
        return false;
    bool is_there = by_digest.algorithm != 0;
    bool is_tagged = image->tag[0] ? digest_equal(&by_tag, &root->digest)
                                   : is_there && image->destination->repository;
    if (!is_tagged && !image->dry_run &&
        (!copy_destination_put_manifest(image->destination, root, image->tag, &has_referrers,
                                        error) ||
         (!has_referrers && !list_referrer(run, root, error))))
        return false;
    tell_manifest(run, root, is_there ? COPY_STATE_PRESENT : COPY_STATE_COPIED);
    const struct copy_event event = {.kind = COPY_EVENT_TAG,
                                     .digest = root->digest,
                                     .tag = image->tag,
                                     .state = is_tagged ? COPY_STATE_PRESENT : COPY_STATE_COPIED};
    if (image->tag[0])
        copy_events_tell(&run->events, &event);
    return true;
}

/* ---- all of it ---- */

static bool make_plan(struct run *run, struct error *error) {
    const struct copy_image *image = run->image;
    const struct copy_platform own = copy_platform_own();
    bool only_own = !image->destination->takes_index && image->platform_count == 0;
    struct copy_plan_wanted wanted = {
        .source = image->source,
        .reference = image->reference,
        .platforms = image->platforms,
        .platform_count = image->platform_count,
        .referrers = image->referrers,
    };
    if (!image->destination->takes_index && image->platform_count > 1)
        return error_set(error, ERROR_UNSUPPORTED,
                         "an archive holds an image of one platform: name one with --platform");
    if (!image->destination->takes_index && image->referrers)
        return error_set(
            error, ERROR_UNSUPPORTED,
            "an archive holds nothing that refers to its image: leave --referrers out");
    if (only_own) {
        cleanup_copy_manifest struct copy_manifest root = {0};
        if (!copy_source_get_manifest(image->source, image->reference, &root, error))
            return false;
        cleanup_json json_t *json =
            bounded_json_load_by(0, root.bytes.bytes, root.bytes.length, NULL);
        wanted.platforms = &own;
        wanted.platform_count = json_object_get(json, "manifests") != NULL;
    }
    if (!copy_plan_make(&run->plan, &wanted, error))
        return false;
    const struct digest *digest = &run->plan.manifests[run->plan.root].manifest.digest;
    run->result->digest = *digest;
    return !image->digest.algorithm || digest_equal(&image->digest, digest) ||
           error_set(error, ERROR_INVALID,
                     "the image has another digest than the destination names");
}

bool copy_image(const struct copy_image *image, struct copy_image_result *result,
                struct error *error) {
    struct run run = {.image = image, .result = result};
    *result = (struct copy_image_result){0};
    copy_events_init(&run.events, result, image->on_event, image->context);
    bool ok = make_plan(&run, error) && copy_its_blobs(&run, error) &&
              copy_manifests(&run, error) && copy_root(&run, error);
    copy_plan_finish(&run.plan);
    copy_events_finish(&run.events);
    return ok;
}
