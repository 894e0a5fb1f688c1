/*
 * Asks a tarn for what is needed to read files out of an image: manifests, indexes, and ranges of
 * blobs. One thread.
 */
#ifndef CMD_STREAM_SOURCE_H
#define CMD_STREAM_SOURCE_H

#include "auth/credential.h"
#include "base/buffer.h"
#include "client/client.h"
#include "oci/reference.h"

#define STREAM_DEFAULT_URL "http://127.0.0.1:5000"

struct stream_source { /* zeroed is closed */
    const char *url;   /* of the tarn, without a slash at its end; owned */
    struct image_name image;
    struct client *client;
    char *authorization; /* "Authorization: Basic …"; owned; NULL: nobody logs in */
};

/* `url` NULL: STREAM_DEFAULT_URL. The login is the one that Docker's config.json has for the URL's
 * host. ERROR_INVALID: the URL or the image's name is none. */
bool stream_source_open(struct stream_source *source, const char *url, const char *image,
                        struct error *error);
void stream_source_close(struct stream_source *source);

/* The manifest that `reference` names; checked, if it is a digest. *digest is that of the bytes. */
bool stream_source_manifest(struct stream_source *source, const char *reference, struct buffer *out,
                            struct digest *digest, struct error *error);
/* The index of a layer or an image ("layer", "image"). Waits while it is being made. The error of
 * one that is refused says why. */
bool stream_source_index(struct stream_source *source, const char *what,
                         const struct digest *digest, struct buffer *out, struct error *error);
/* A range of a layer's blob, or of its copy in frames. */
bool stream_source_range(struct stream_source *source, bool is_copy, const struct digest *layer,
                         uint64_t first, uint64_t length, struct buffer *out, struct error *error);

#endif
