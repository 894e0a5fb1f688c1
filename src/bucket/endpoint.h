/*
 * Where requests for a bucket go: the origin, and whether the bucket's name stands in the host or
 * in the path. Pure. Private to bucket/.
 */
#ifndef BUCKET_ENDPOINT_H
#define BUCKET_ENDPOINT_H

#include "bucket/document.h"
#include "bucket/settings.h"
#include "client/origin.h"

struct bucket_endpoint {
    char host[BUCKET_NAME_LIMIT + 1 + ORIGIN_HOST_SIZE]; /* of the Host field: with its port */
    bool https;
    bool in_path;   /* the bucket's name is the first part of the path */
    bool is_google; /* storage.googleapis.com, whatever signs the requests */
    bool by_region; /* the host contains the region: another region is another host */
};

/* `region` is valid (bucket_region_is_valid()). */
void bucket_endpoint_make(const struct bucket_settings *settings, const char *region,
                          struct bucket_endpoint *out);

/* Writes "https://HOST". Returns `out`. */
enum { BUCKET_ENDPOINT_URL_SIZE = 8 + sizeof(((struct bucket_endpoint *)0)->host) };
const char *bucket_endpoint_url(const struct bucket_endpoint *endpoint,
                                char out[static BUCKET_ENDPOINT_URL_SIZE]);

#endif
