/* Whether a credential file's URL may be asked. */
#include "auth/google/endpoint.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "client/origin.h"

#define METADATA_ADDRESS "169.254.169.254"

static bool is_label(struct text text) {
    if (text.length == 0 || text.length > 63 || text.at[0] == '-' ||
        text.at[text.length - 1] == '-')
        return false;
    for (size_t i = 0; i < text.length; i++) {
        if (!islower((unsigned char)text.at[i]) && !isdigit((unsigned char)text.at[i]) &&
            text.at[i] != '-')
            return false;
    }
    return true;
}

bool endpoint_label_between(struct text text, const char *prefix, const char *suffix) {
    size_t before = strlen(prefix), after = strlen(suffix);
    if (text.length <= before + after || !text_starts(text, prefix) || !text_ends(text, suffix))
        return false;
    return is_label((struct text){text.at + before, text.length - before - after});
}

/* SERVICE in front of ".UNIVERSE": "sts", "LOC.sts", "LOC-sts", "sts.LOC", "sts.LOC.rep",
 * "sts-NAME.p". */
static bool is_service(struct text prefix, const char *service) {
    char pattern[4][64];
    snprintf(pattern[0], sizeof pattern[0], ".%s", service);
    snprintf(pattern[1], sizeof pattern[1], "-%s", service);
    snprintf(pattern[2], sizeof pattern[2], "%s.", service);
    snprintf(pattern[3], sizeof pattern[3], "%s-", service);
    return text_is(prefix, service) || endpoint_label_between(prefix, "", pattern[0]) ||
           endpoint_label_between(prefix, "", pattern[1]) ||
           endpoint_label_between(prefix, pattern[2], "") ||
           endpoint_label_between(prefix, pattern[2], ".rep") ||
           endpoint_label_between(prefix, pattern[3], ".p");
}

bool endpoint_universe_ok(const char *universe) {
    struct text rest = text_of(universe);
    unsigned labels = 0;
    if (rest.length > 253)
        return false;
    while (rest.at) {
        struct text label = text_cut(rest, '.', &rest);
        if (!is_label(label))
            return false;
        labels++;
    }
    return labels >= 2;
}

static bool is_loopback(const char *host) {
    return strcmp(host, "127.0.0.1") == 0 || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0;
}

bool endpoint_is_local(const char *url) {
    struct origin origin;
    return origin_parse(url, &origin) &&
           (is_loopback(origin.host) || strcmp(origin.host, METADATA_ADDRESS) == 0);
}

static const char *const services[] = {
    [ENDPOINT_OAUTH] = "oauth2", [ENDPOINT_STS] = "sts", [ENDPOINT_IAM] = "iamcredentials"};

static bool is_host_of(const char *host, enum endpoint endpoint, const char *universe) {
    if (endpoint == ENDPOINT_SUBJECT)
        return true;
    /* Older key files name these hosts. */
    if (endpoint == ENDPOINT_OAUTH &&
        (strcmp(host, "accounts.google.com") == 0 || strcmp(host, "www.googleapis.com") == 0))
        return true;
    struct text prefix = text_of(host);
    if (!text_ends(prefix, universe) || prefix.length <= strlen(universe))
        return false;
    prefix.length -= strlen(universe) + 1;
    return prefix.at[prefix.length] == '.' && is_service(prefix, services[endpoint]);
}

/* How many bytes of a URL an error shows: scheme, host and path, because the query may hold a
 * secret. */
static int shown_length(const char *url) {
    size_t length = strcspn(url, "?#");
    return length > 160 ? 160 : (int)length;
}

bool endpoint_check(const char *url, enum endpoint endpoint, const char *universe,
                    const char *field, struct error *error) {
    struct origin origin;
    for (const char *c = url; *c; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f || *c == '\\')
            return error_set(error, ERROR_INVALID, "%s is no URL", field);
    }
    bool https = strncmp(url, "https://", 8) == 0, http = strncmp(url, "http://", 7) == 0;
    if ((!https && !http) || !origin_parse(url, &origin))
        return error_set(error, ERROR_INVALID, "%s is not an http or https URL", field);
    if (is_loopback(origin.host) ||
        (endpoint == ENDPOINT_SUBJECT && strcmp(origin.host, METADATA_ADDRESS) == 0))
        return true;
    if (!https)
        return error_set(error, ERROR_INVALID,
                         "%s %.*s: http is allowed for this machine only; write https", field,
                         shown_length(url), url);
    if (is_host_of(origin.host, endpoint, universe))
        return true;
    return error_set(
        error, ERROR_INVALID,
        "%s %.*s is not an endpoint of Google (https://%s.%s/), so nothing is sent there", field,
        shown_length(url), url, services[endpoint], universe);
}
