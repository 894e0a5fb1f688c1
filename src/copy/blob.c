/* Copies one blob. */
#include "copy/blob.h"

enum {
    READERS_LIMIT = 16,      /* of all blobs that are copied at once */
    WINDOWS_LIMIT = 8 << 20, /* the same */
    READERS_OF_FOLDER = 1,
};

const char *copy_state_name(enum copy_state state) {
    static const char *const names[] = {[COPY_STATE_COPIED] = "copied",
                                        [COPY_STATE_MOUNTED] = "mounted",
                                        [COPY_STATE_PRESENT] = "present"};
    return names[state];
}

void copy_blob_share(const struct copy_source *source, unsigned at_once, unsigned *readers,
                     size_t *window) {
    if (at_once < 1)
        at_once = 1;
    unsigned allowed =
        source->repository ? upstream_connections(source->repository->upstream) : READERS_OF_FOLDER;
    *readers = READERS_LIMIT / at_once;
    if (*readers < 1)
        *readers = 1;
    if (*readers > allowed)
        *readers = allowed;
    *window = WINDOWS_LIMIT / at_once;
    if (*window > COPY_STREAM_WINDOW)
        *window = COPY_STREAM_WINDOW;
    if (*window < COPY_STREAM_WINDOW_LEAST)
        *window = COPY_STREAM_WINDOW_LEAST;
}

static bool send_blob(const struct copy_blob *blob, struct error *error) {
    const struct copy_stream_settings settings = {
        .source = blob->source,
        .digest = blob->digest,
        .size = blob->size,
        .readers = blob->readers,
        .window = blob->window,
        .stop = blob->stop,
        .on_progress = blob->on_progress,
        .context = blob->context,
    };
    struct digest digest;
    uint64_t size;
    struct copy_stream *stream = copy_stream_new(&settings, error);
    bool ok = stream && copy_destination_write_blob(blob->destination, copy_stream_body(stream),
                                                    &digest, &size, error);
    copy_stream_free(stream);
    return ok;
}

/* Whether the blob may be taken over from the source, because both are of one registry. */
static bool may_mount(const struct copy_blob *blob) {
    const struct repository *from = blob->source->repository, *to = blob->destination->repository;
    return from && to && strcmp(from->name.host, to->name.host) == 0;
}

bool copy_blob(const struct copy_blob *blob, enum copy_state *state, struct error *error) {
    bool there = false, mounted = may_mount(blob);
    if (!copy_destination_has_blob(blob->destination, &blob->digest, blob->size, &there, error))
        return false;
    *state = COPY_STATE_PRESENT;
    if (there)
        return true;
    if (mounted && !blob->dry_run &&
        !copy_destination_mount(blob->destination, &blob->digest, blob->source->repository,
                                &mounted, error))
        return false;
    *state = mounted ? COPY_STATE_MOUNTED : COPY_STATE_COPIED;
    return mounted || blob->dry_run || send_blob(blob, error);
}
