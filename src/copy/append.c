/* A new image from a base and folders: the course of it. */
#include "copy/append.h"

#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "copy/describe.h"
#include "copy/held.h"
#include "copy/small.h"
#include "oci/digest_set.h"

struct work {
    const struct append_image *image;
    struct copy_events events;
    struct copy_image_result *result;
    struct append_base base;
    json_t *config;
    struct append_layer *layers;
};

static bool out_of_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* ---- the base ---- */

static bool read_base(struct work *work, struct error *error) {
    const struct append_image *image = work->image;
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    cleanup_buffer struct buffer config = {0};
    if (!copy_small_get_image(image->base, image->reference, &image->platform, &manifest, error) ||
        !append_base_read(&manifest, &work->base, error) ||
        !copy_small_get_config(image->base, &manifest, &config, error))
        return false;
    if (image->is_platform_wanted && !copy_platform_check_config(&config, &image->platform, error))
        return false;
    work->config = append_config_read(&config, json_array_size(work->base.layers), error);
    return work->config != NULL;
}

static bool begin(struct work *work, struct error *error) {
    for (size_t i = 0; i < work->image->layer_count; i++)
        if (work->image->layers[i].folder && !pack_find(work->image->layers[i].folder, error))
            return false;
    if (work->image->base)
        return read_base(work, error);
    work->config = append_config_scratch(&work->image->platform);
    return work->config || out_of_memory(error);
}

/* The blobs of the base's layers, each one once. False: out of memory. */
static bool list_blobs(const struct work *work, struct copy_planned_blob *blobs, size_t *count) {
    struct digest_set seen = {0};
    bool ok = true;
    *count = 0;
    for (size_t i = 0; ok && i < json_array_size(work->base.layers); i++) {
        struct copy_planned_blob *blob = &blobs[*count];
        bool added = false;
        if (!append_base_layer(json_array_get(work->base.layers, i), &blob->digest, &blob->size))
            continue; /* its bytes are elsewhere */
        ok = digest_set_add(&seen, &blob->digest, &added);
        *count += added;
    }
    digest_set_finish(&seen);
    return ok;
}

static bool copy_base(struct work *work, struct error *error) {
    const struct append_image *image = work->image;
    cleanup_free struct copy_planned_blob *planned =
        calloc(json_array_size(work->base.layers) + 1, sizeof *planned);
    struct copy_blobs blobs = {
        .source = image->base,
        .destination = image->destination,
        .blobs = planned,
        .stop = image->stop,
        .events = &work->events,
    };
    if (!planned || !list_blobs(work, planned, &blobs.count))
        return out_of_memory(error);
    return blobs.count == 0 || copy_blobs(&blobs, error);
}

/* ---- new layers ---- */

struct sending {
    struct work *work;
    struct copy_event event;
};

static void on_progress(void *context, uint64_t bytes) {
    struct sending *sending = context;
    sending->event.bytes = bytes;
    copy_events_tell(&sending->work->events, &sending->event);
}

static bool write_history(const struct layer_content *content, char **history) {
    struct buffer text = {0};
    if (content->folder)
        buffer_printf(&text, "tarn append --add /%s", content->inside);
    else
        buffer_append_string(&text, "tarn append --remove");
    for (size_t i = 0; !content->folder && i < content->removal_count; i++)
        buffer_printf(&text, " /%s", content->removals[i]);
    *history = text.bytes;
    return !text.failed;
}

static bool send_layer(struct work *work, size_t at, struct error *error) {
    const struct append_image *image = work->image;
    struct append_layer *made = &work->layers[at];
    struct sending sending = {work, {COPY_EVENT_PROGRESS}};
    const struct layer_settings settings = {
        .content = image->layers[at],
        .pack = image->pack,
        .compression = image->compression,
        .stop = image->stop,
        .on_progress = on_progress,
        .context = &sending,
    };
    struct digest digest;
    uint64_t size;
    struct layer *layer = layer_new(&settings, error);
    const bool ok = layer && copy_destination_write_blob(image->destination, layer_body(layer),
                                                         &digest, &size, error);
    if (ok)
        made->result = *layer_result(layer);
    layer_free(layer);
    if (!ok)
        return false;
    copy_events_count(&work->events, COPY_STATE_COPIED, made->result.size);
    if (image->on_layer)
        image->on_layer(image->context, &image->layers[at], &made->result);
    return write_history(&image->layers[at], &made->history) || out_of_memory(error);
}

static bool send_layers(struct work *work, struct error *error) {
    work->layers = calloc(work->image->layer_count + 1, sizeof *work->layers);
    if (!work->layers)
        return out_of_memory(error);
    for (size_t i = 0; i < work->image->layer_count; i++)
        if (!send_layer(work, i, error))
            return false;
    return true;
}

/* ---- config and manifest ---- */

static bool send_config(struct work *work, const struct buffer *bytes, struct digest *digest,
                        struct error *error) {
    struct copy_destination *destination = work->image->destination;
    struct held held;
    uint64_t size = bytes->length;
    bool is_there;
    if (!digest_of(DIGEST_SHA256, bytes->bytes, bytes->length, digest))
        return out_of_memory(error);
    if (!copy_destination_has_blob(destination, digest, size, &is_there, error))
        return false;
    struct copy_body body = held_body(&held, bytes, digest, work->image->stop);
    struct digest written;
    if (!is_there && !copy_destination_write_blob(destination, &body, &written, &size, error))
        return false;
    const struct copy_event event = {
        .kind = COPY_EVENT_BLOB,
        .digest = *digest,
        .size = bytes->length,
        .bytes = bytes->length,
        .is_config = true,
        .state = is_there ? COPY_STATE_PRESENT : COPY_STATE_COPIED,
    };
    copy_events_tell(&work->events, &event);
    return true;
}

/* What is found under the tag, or under the digest alone, is the manifest already. */
static bool is_put(const struct work *work, const struct copy_manifest *manifest, bool *is_there,
                   struct error *error) {
    char text[DIGEST_STRING_SIZE];
    struct digest digest;
    const char *tag = work->image->tag;
    const char *reference = tag[0] ? tag : digest_format(&manifest->digest, text);
    *is_there = false;
    if (!copy_destination_find_manifest(work->image->destination, reference, &digest, error))
        return false;
    *is_there = tag[0] && digest_equal(&digest, &manifest->digest);
    return true;
}

static bool put_manifest(struct work *work, struct copy_manifest *manifest, struct error *error) {
    const struct append_image *image = work->image;
    bool is_there;
    if (!copy_describe(manifest, NULL, NULL, error) || !is_put(work, manifest, &is_there, error))
        return false;
    if (!is_there &&
        !copy_destination_put_manifest(image->destination, manifest, image->tag, NULL, error))
        return false;
    struct copy_event event = {
        .kind = COPY_EVENT_MANIFEST,
        .digest = manifest->digest,
        .size = manifest->bytes.length,
        .media_type = manifest->media_type,
        .state = is_there ? COPY_STATE_PRESENT : COPY_STATE_COPIED,
    };
    copy_events_tell(&work->events, &event);
    event.kind = COPY_EVENT_TAG;
    event.tag = image->tag;
    if (image->tag[0])
        copy_events_tell(&work->events, &event);
    work->result->digest = manifest->digest;
    return true;
}

static bool finish_image(struct work *work, struct error *error) {
    const struct append_image *image = work->image;
    cleanup_buffer struct buffer config = {0};
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    struct digest digest;
    const char *media_type;
    if (!append_config_change(work->config, &image->changes, work->layers, image->layer_count,
                              image->pack.time) ||
        !bounded_json_dump(work->config, JSON_COMPACT, &config))
        return out_of_memory(error);
    if (!send_config(work, &config, &digest, error))
        return false;
    if (!append_manifest(&work->base, work->layers, image->layer_count, image->compression, &digest,
                         config.length, &manifest.bytes, &media_type))
        return out_of_memory(error);
    return put_manifest(work, &manifest, error) &&
           copy_destination_finish(image->destination, error);
}

bool append_image(const struct append_image *image, struct copy_image_result *result,
                  struct error *error) {
    struct work work = {.image = image, .result = result};
    copy_events_init(&work.events, result, image->on_event, image->context);
    const bool ok = begin(&work, error) && copy_base(&work, error) && send_layers(&work, error) &&
                    finish_image(&work, error);
    for (size_t i = 0; work.layers && i < image->layer_count; i++)
        free(work.layers[i].history);
    free(work.layers);
    json_decref(work.config);
    append_base_finish(&work.base);
    copy_events_finish(&work.events);
    return ok;
}
