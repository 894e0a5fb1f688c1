/*
 * Asks a tarn about the inside of images: manifests, indexes, ranges of blobs, traces. The commands
 * that read single files (cmd/stream_image.h) and the bytes of mounted images (spans.h) share it.
 *
 * Threads: any, once the source is open; a request blocks the thread that makes it.
 */
#ifndef SPANS_STREAM_SOURCE_H
#define SPANS_STREAM_SOURCE_H

#include "auth/credential.h"
#include "base/buffer.h"
#include "client/request.h"
#include "oci/reference.h"

#define STREAM_DEFAULT_URL "http://127.0.0.1:5000"

struct stream_source { /* zeroed is closed */
    char *url;         /* of the tarn, without a slash at its end; owned */
    char host[HOST_LIMIT + 1];
    struct client *client;            /* the caller's */
    struct credential_source *logins; /* Docker's config.json; owned */
};

/* `url` NULL: STREAM_DEFAULT_URL. The login is the one that Docker's config.json has for the URL's
 * host at each request. ERROR_INVALID: it is no URL. The client outlives the source. */
bool stream_source_open(struct stream_source *source, const char *url, struct client *client,
                        struct error *error);
void stream_source_close(struct stream_source *source);

/* Whether nobody between can change what the tarn says: https, or this machine. */
bool stream_source_is_safe(const struct stream_source *source);

/* The name of an image with its registry's host, which every request needs. ERROR_INVALID. */
bool stream_source_parse_name(const char *text, struct image_name *out, struct error *error);

/* Whom to ask, about which image, and for how long. */
struct stream_asking {
    const struct stream_source *source;
    const struct image_name *image;
    int64_t silence_ms;          /* that the other side may say nothing */
    int64_t pending_ms;          /* that an index may still take; 0: it must be there */
    const struct cancel *cancel; /* NULL: never */
};

/*
 * Each of these is false with the error that client_response_error_kind() makes of the status, or
 * with that of client_stream(). When the tarn says why something has no index, error->code is the
 * word ("small"; "absent", "pending").
 */

/* The manifest that `reference` names; checked, if it is a digest. *digest is that of the bytes. */
bool stream_source_manifest(const struct stream_asking *asking, const char *reference,
                            struct buffer *out, struct digest *digest, struct error *error);
/* A whole blob of at most `limit` bytes; its digest is not checked. */
bool stream_source_blob(const struct stream_asking *asking, const struct digest *digest,
                        size_t limit, struct buffer *out, struct error *error);
/* The index of a layer or an image ("layer", "image"). */
bool stream_source_index(const struct stream_asking *asking, const char *what,
                         const struct digest *digest, struct buffer *out, struct error *error);
/* What a start of the image reads. ERROR_NOT_FOUND: nobody has told the tarn yet. */
bool stream_source_trace(const struct stream_asking *asking, const struct digest *manifest,
                         struct buffer *out, struct error *error);
bool stream_source_post_trace(const struct stream_asking *asking, const struct digest *manifest,
                              const struct buffer *json, struct error *error);

/* A stretch of a layer's blob, or of its copy in frames. */
struct stream_range {
    const struct digest *layer;
    bool is_copy;
    uint64_t first, length; /* length 0: all of the blob */
};
/* Takes the bytes in their order. False: no more, with the error set. */
typedef bool stream_taker(void *context, const void *bytes, size_t length, struct error *error);

/* Hands the bytes on as they come. False: also ERROR_UNAVAILABLE, when they are not as many. */
bool stream_source_stream(const struct stream_asking *asking, const struct stream_range *range,
                          stream_taker *take, void *context, struct error *error);
/* The same, whole. */
bool stream_source_range(const struct stream_asking *asking, const struct stream_range *range,
                         struct buffer *out, struct error *error);

#endif
