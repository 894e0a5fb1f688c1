/* Resolves the targets of Location and Link. */
#include "client/redirect.h"

#include <stdio.h>
#include "base/cleanup.h"
#include "client/url.h"

/* As browsers and libcurl's own redirects do: raw blanks and bytes beyond ASCII are accepted. */
enum { LENIENT = CURLU_URLENCODE | CURLU_ALLOW_SPACE };

char *redirect_resolve(const char *base, const char *reference, struct error *error) {
    cleanup_curl_url CURLU *url = curl_url();
    cleanup_curl_part char *resolved = NULL;
    struct origin origin;
    if (!url || curl_url_set(url, CURLUPART_URL, base, LENIENT) != CURLUE_OK) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    if (strlen(reference) > URL_LIMIT) {
        error_set(error, ERROR_UNAVAILABLE, "a redirect of more than %d bytes", URL_LIMIT);
        return NULL;
    }
    if (curl_url_set(url, CURLUPART_URL, reference, LENIENT) != CURLUE_OK ||
        curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_URL, &resolved, 0) != CURLUE_OK ||
        !origin_parse(resolved, &origin)) {
        error_set(error, ERROR_UNAVAILABLE,
                  "a redirect to something else than a plain http or https URL (%.60s)", reference);
        return NULL;
    }
    char *copy = text_dup(text_of(resolved));
    if (!copy)
        error_set(error, ERROR_MEMORY, "out of memory");
    return copy;
}

static char *path_of(const char *text) {
    cleanup_curl_url CURLU *url = curl_url();
    char *path = NULL;
    if (!url || curl_url_set(url, CURLUPART_URL, text, LENIENT) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_PATH, &path, CURLU_URLDECODE) != CURLUE_OK)
        return NULL;
    return path;
}

bool redirect_keeps_authorization(const struct origin *origin, const char *url) {
    struct origin there;
    cleanup_curl_part char *path = path_of(url);
    if (!path || !origin_parse(url, &there) || !origin_equal(origin, &there))
        return false;
    return strstr(path, "/artifacts-downloads/") == NULL;
}

/* ---- Link ---- */

static bool parameters_say_next(struct text parameters) {
    while (parameters.at) {
        struct text value, name = text_cut(text_cut(parameters, ';', &parameters), '=', &value);
        value = text_trim(value);
        if (value.length >= 2 && text_starts(value, "\"") && text_ends(value, "\""))
            value = (struct text){value.at + 1, value.length - 2};
        while (text_is_nocase(text_trim(name), "rel") && value.at) { /* words between spaces */
            if (text_is_nocase(text_cut(value, ' ', &value), "next"))
                return true;
        }
    }
    return false;
}

static bool mentions_next(struct text text) {
    for (size_t i = 0; i + 4 <= text.length; i++) {
        if (strncasecmp(text.at + i, "next", 4) == 0)
            return true;
    }
    return false;
}

/* Finds the first link with rel=next; target->at is NULL when there is none. False: there is none,
 * but the word stands there, in a field that is malformed or that this function does not
 * understand. */
static bool find_next(struct text link, struct text *target) {
    bool mentioned = false;
    while (link.length > 0) {
        struct text after, before = text_cut(link, '<', &after);
        mentioned = mentioned || mentions_next(before);
        if (!after.at)
            break;
        *target = text_cut(after, '>', &link);
        if (!link.at) {
            mentioned = mentioned || mentions_next(*target);
            break;
        }
        size_t length = 0; /* of the parameters, which end at the comma before the next link */
        while (length < link.length && link.at[length] != '<')
            length++;
        struct text parameters = {link.at, length};
        if (length < link.length) {
            const char *comma = memrchr(link.at, ',', length);
            parameters.length = comma ? (size_t)(comma - link.at) : length;
        } else if (text_ends(parameters, ",")) {
            parameters.length--;
        }
        if (parameters_say_next(parameters))
            return true;
        mentioned = mentioned || mentions_next(parameters);
        link = text_from(link, length);
    }
    *target = (struct text){NULL, 0};
    return !mentioned;
}

bool redirect_next_page(const char *base, struct text link, char *out, size_t size) {
    struct text target = {NULL, 0};
    *out = '\0';
    if (!find_next(link, &target))
        return false;
    if (!target.at)
        return true;
    cleanup_free char *reference = target.length <= URL_LIMIT ? text_dup(target) : NULL;
    cleanup_free char *url = reference ? redirect_resolve(base, reference, NULL) : NULL;
    const char *path = url ? strchr(strstr(url, "://") + 3, '/') : NULL;
    return path && text_copy(text_of(path), out, size);
}
