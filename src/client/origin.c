/* Takes URLs apart, by libcurl's parser. */
#include "client/origin.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/text.h"
#include "client/url.h"

static bool has_part(CURLU *url, CURLUPart which) {
    cleanup_curl_part char *part = NULL;
    return curl_url_get(url, which, &part, 0) == CURLUE_OK;
}

static bool copy_host(const char *host, char *out, size_t size) {
    struct text name = text_of(host);
    if (text_starts(name, "[") && text_ends(name, "]"))
        name = (struct text){name.at + 1, name.length - 2};
    else if (text_ends(name, "."))
        name.length--;
    if (name.length == 0 || !text_copy(name, out, size))
        return false;
    for (char *c = out; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return true;
}

bool origin_parse(const char *text, struct origin *out) {
    cleanup_curl_url CURLU *url = curl_url();
    cleanup_curl_part char *scheme = NULL, *host = NULL, *port = NULL;
    uint64_t number;
    if (!url || strlen(text) > URL_LIMIT ||
        curl_url_set(url, CURLUPART_URL, text, CURLU_URLENCODE | CURLU_ALLOW_SPACE) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
        return false;
    if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        return false;
    *out = (struct origin){.https = strcmp(scheme, "https") == 0};
    if ((!out->https && strcmp(scheme, "http") != 0) ||
        !copy_host(host, out->host, sizeof out->host) || !text_to_u64(text_of(port), &number) ||
        number == 0 || number > 65535)
        return false;
    out->port = (unsigned)number;
    return true;
}

bool origin_equal(const struct origin *a, const struct origin *b) {
    return a->https == b->https && a->port == b->port && strcmp(a->host, b->host) == 0;
}

static enum origin_listing is_named(const struct origin *origin, const char *listed) {
    struct origin exact;
    char url[ORIGIN_HOST_SIZE + 16];
    bool has_port = strchr(listed, ':') && (listed[0] != '[' || strstr(listed, "]:"));
    if (strcasecmp(listed, origin->host) == 0)
        return ORIGIN_LISTED;
    /* Ports are compared as numbers, because "host:443" is the same as "host" over https. */
    if (strlen(listed) >= ORIGIN_HOST_SIZE || !strchr(listed, ':'))
        return ORIGIN_UNLISTED;
    snprintf(url, sizeof url, "%s://%s", origin->https ? "https" : "http", listed);
    if (!origin_parse(url, &exact) || !origin_equal(&exact, origin))
        return ORIGIN_UNLISTED;
    return has_port ? ORIGIN_LISTED_WITH_PORT : ORIGIN_LISTED;
}

enum origin_listing origin_is_listed(const struct origin *origin, const char *const *list) {
    enum origin_listing best = ORIGIN_UNLISTED;
    for (; list && *list; list++) {
        enum origin_listing listing = is_named(origin, *list);
        if (listing > best)
            best = listing;
    }
    return best;
}

const char *origin_host(const struct origin *origin, char out[static ORIGIN_HOST_SIZE]) {
    bool v6 = strchr(origin->host, ':');
    int length =
        snprintf(out, ORIGIN_HOST_SIZE, "%s%s%s", v6 ? "[" : "", origin->host, v6 ? "]" : "");
    if (origin->port != (origin->https ? 443u : 80u))
        snprintf(out + length, ORIGIN_HOST_SIZE - (size_t)length, ":%u", origin->port);
    return out;
}
