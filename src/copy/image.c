/* Copies an image. */
#include "copy/image.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/lock.h"
#include "catalog/jobs.h"
#include "copy/describe.h"
#include "copy/plan.h"

/* A copy under way. */
struct run {
    const struct copy_image *image;
    struct copy_plan plan;
    unsigned readers;
    size_t window;
    struct lock event_lock; /* guards the result and the caller's events */
    struct copy_image_result *result GUARDED_BY(event_lock);
};

/* ---- events ---- */

static void tell(struct run *run, const struct copy_event *event) {
    lock_acquire(&run->event_lock);
    if (event->kind == COPY_EVENT_BLOB) {
        uint64_t *const sums[] = {[COPY_STATE_COPIED] = &run->result->bytes_sent,
                                  [COPY_STATE_MOUNTED] = &run->result->bytes_mounted,
                                  [COPY_STATE_PRESENT] = &run->result->bytes_present};
        *sums[event->state] += event->size;
    }
    if (run->image->on_event)
        run->image->on_event(run->image->context, event);
    lock_release(&run->event_lock);
}

/* ---- blobs ---- */

struct blob_progress {
    struct run *run;
    const struct copy_planned_blob *planned;
};

static void tell_progress(void *context, uint64_t bytes) {
    const struct blob_progress *progress = context;
    const struct copy_event event = {.kind = COPY_EVENT_PROGRESS,
                                     .digest = progress->planned->digest,
                                     .size = progress->planned->size,
                                     .is_config = progress->planned->is_config,
                                     .bytes = bytes};
    tell(progress->run, &event);
}

static bool copy_one(struct jobs *jobs, size_t number, struct error *error) {
    struct run *run = jobs->context;
    const struct copy_image *image = run->image;
    const struct copy_planned_blob *planned = &run->plan.blobs[number];
    struct blob_progress progress = {run, planned};
    const struct copy_blob blob = {
        .source = image->source,
        .destination = image->destination,
        .digest = planned->digest,
        .size = planned->size,
        .readers = run->readers,
        .window = run->window,
        .dry_run = image->dry_run,
        .stop = image->stop,
        .on_progress = tell_progress,
        .context = &progress,
    };
    struct copy_event event = {.kind = COPY_EVENT_BLOB,
                               .digest = planned->digest,
                               .size = planned->size,
                               .bytes = planned->size,
                               .is_config = planned->is_config};
    if (!copy_blob(&blob, &event.state, error)) {
        atomic_store(image->stop, true); /* the others end their uploads */
        return false;
    }
    tell(run, &event);
    return true;
}

static bool copy_blobs(struct run *run, struct error *error) {
    const struct copy_image *image = run->image;
    const struct cancel cancel = {.stop = image->stop};
    unsigned at_once = image->jobs ? image->jobs : COPY_JOBS;
    if (at_once > run->plan.blob_count)
        at_once = (unsigned)run->plan.blob_count;
    if (image->destination->is_sequential || at_once < 1)
        at_once = 1;
    copy_blob_share(image->source, at_once, &run->readers, &run->window);
    struct jobs jobs = {.count = run->plan.blob_count,
                        .at_once = at_once,
                        .cancel = &cancel,
                        .work = copy_one,
                        .context = run};
    return jobs_run(&jobs, error);
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
    tell(run, &event);
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
        tell(run, &event);
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
    lock_init(&run.event_lock);
    bool ok = make_plan(&run, error) && copy_blobs(&run, error) && copy_manifests(&run, error) &&
              copy_root(&run, error);
    copy_plan_finish(&run.plan);
    lock_finish(&run.event_lock);
    return ok;
}
