/* The host of a URL, and what is known about a host by its name. */
#include "config/hosts.h"

#include <string.h>
#include <strings.h>
#include "oci/reference.h"

bool config_url_split(const char *url, struct text *host, struct text *path) {
    struct text rest = text_of(url);
    if (strncasecmp(url, "http://", 7) == 0)
        rest = text_from(rest, 7);
    else if (strncasecmp(url, "https://", 8) == 0)
        rest = text_from(rest, 8);
    else
        return false;
    const char *slash = rest.length ? memchr(rest.at, '/', rest.length) : NULL;
    size_t length = slash ? (size_t)(slash - rest.at) : rest.length;
    *host = (struct text){rest.at, length};
    *path = text_from(rest, length);
    return true;
}

bool config_url_host(const char *url, char *out, size_t size) {
    struct text host, path;
    if (!config_url_split(url, &host, &path) || !host.length)
        return false;
    const char *end = host.at + host.length;
    const char *colon = memrchr(host.at, ':', host.length);
    if (colon && !memchr(colon, ']', (size_t)(end - colon))) /* no colon inside [::1] */
        host.length = (size_t)(colon - host.at);
    return text_copy(host, out, size);
}

bool config_host_is_loopback(const char *host) {
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
           (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host));
}

bool config_host_is_google(const char *host) {
    struct text text = text_of(host);
    return text_is(text, "gcr.io") || text_ends(text, ".gcr.io") || text_ends(text, ".pkg.dev");
}

bool config_host_matches(const char *pattern, const char *host) {
    char names[2][HOST_LIMIT + 1]; /* with / for each dot, so that * stays within one label */
    if (!text_copy(text_of(pattern), names[0], sizeof names[0]) ||
        !text_copy(text_of(host), names[1], sizeof names[1]))
        return false;
    for (int i = 0; i < 2; i++) {
        for (char *dot = names[i]; (dot = strchr(dot, '.'));)
            *dot = '/';
    }
    return text_matches_glob(names[0], text_of(names[1]));
}
