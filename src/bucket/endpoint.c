/* Chooses host and style of the requests. */
#include "bucket/endpoint.h"

#include <stdio.h>
#include <string.h>

#define GOOGLE_HOST "storage.googleapis.com"

/* A bucket whose name has a dot does not fit the certificate for *.s3.REGION.amazonaws.com. */
static bool is_in_path(const struct bucket_settings *settings) {
    if (settings->path_style != BUCKET_STYLE_AUTO)
        return settings->path_style == BUCKET_STYLE_PATH;
    return settings->endpoint || settings->address.kind == BUCKET_GOOGLE ||
           strchr(settings->address.name, '.');
}

void bucket_endpoint_make(const struct bucket_settings *settings, const char *region,
                          struct bucket_endpoint *out) {
    struct origin origin = {.https = true, .port = 443};
    char host[ORIGIN_HOST_SIZE];
    *out = (struct bucket_endpoint){.in_path = is_in_path(settings)};
    if (settings->endpoint) {
        origin_parse(settings->endpoint, &origin); /* bucket_settings_check() did it before */
    } else if (settings->address.kind == BUCKET_GOOGLE) {
        snprintf(origin.host, sizeof origin.host, "%s", GOOGLE_HOST);
    } else {
        snprintf(origin.host, sizeof origin.host, "s3.%s.amazonaws.com%s", region,
                 strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
        out->by_region = true;
    }
    out->https = origin.https;
    out->is_google =
        settings->address.kind == BUCKET_GOOGLE || strcmp(origin.host, GOOGLE_HOST) == 0;
    origin_host(&origin, host);
    if (out->in_path)
        snprintf(out->host, sizeof out->host, "%s", host);
    else
        snprintf(out->host, sizeof out->host, "%s.%s", settings->address.name, host);
}

const char *bucket_endpoint_url(const struct bucket_endpoint *endpoint,
                                char out[static BUCKET_ENDPOINT_URL_SIZE]) {
    snprintf(out, BUCKET_ENDPOINT_URL_SIZE, "%s://%s", endpoint->https ? "https" : "http",
             endpoint->host);
    return out;
}
