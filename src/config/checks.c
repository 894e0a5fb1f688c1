/* What a string in the configuration may be. */
#include "config/checks.h"

#include <ctype.h>
#include <errno.h>
#include <libpsl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config/files.h"
#include "config/hosts.h"
#include "config/words.h"
#include "login/clients.h"
#include "oci/reference.h"

enum { PREFIX_LIMIT = 100, FIELD_LIMIT = 1000 };

static bool refuse(const char *value, const char *rest, char *why, size_t size) {
    char quoted[QUOTE_SIZE];
    snprintf(why, size, "%s %s", config_quote(value, quoted), rest);
    return false;
}

bool config_check_any(const char *value, char *why, size_t size) {
    return *value || refuse(value, "is empty", why, size);
}

/* ---- hosts ---- */

bool config_check_address(const char *value, char *why, size_t size) {
    static const char rest[] = "is not an address to listen on; write for example 0.0.0.0:5000, "
                               "[::]:5000 or :5000";
    const char *colon = strrchr(value, ':');
    uint64_t port;
    if (!colon || !text_to_u64(text_of(colon + 1), &port) || port > 65535)
        return refuse(value, rest, why, size);
    struct text host = {value, (size_t)(colon - value)};
    bool open = host.length && *host.at == '[';
    if (host.length && !reference_is_host(host))
        return refuse(value, rest, why, size);
    if (!open && host.length && memchr(host.at, ':', host.length)) /* IPv6 needs its brackets */
        return refuse(value, rest, why, size);
    return true;
}

bool config_check_host(const char *value, char *why, size_t size) {
    if (strncasecmp(value, "http://", 7) == 0 || strncasecmp(value, "https://", 8) == 0)
        return refuse(value,
                      "is a URL, but a host is expected; write for example ghcr.io, and put the "
                      "URL under url",
                      why, size);
    if (strchr(value, '*'))
        return refuse(value, "is a pattern, but one host is expected", why, size);
    return reference_is_host(text_of(value)) ||
           refuse(value, "is not a host; write for example ghcr.io or registry.example:5000", why,
                  size);
}

/* Whether anybody can register a name that the pattern matches: the labels behind the last star are
 * a public suffix. `plain` is the pattern with a letter for each star. A domain that is not in the
 * list ("internal") is a private one. */
static bool is_open_to_anybody(const char *pattern, const char *plain,
                               char suffix[static HOST_LIMIT + 1]) {
    const psl_ctx_t *list = psl_builtin();
    const char *behind = strchr(strrchr(pattern, '*'), '.');
    if (!list || !behind)
        return false;
    text_copy(text_of(plain + (behind + 1 - pattern)), suffix, HOST_LIMIT + 1);
    suffix[strcspn(suffix, ":")] = '\0';
    for (char *c = suffix; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return psl_is_public_suffix2(list, suffix, PSL_TYPE_ANY | PSL_TYPE_NO_STAR_RULE);
}

bool config_check_host_pattern(const char *value, char *why, size_t size) {
    if (!strchr(value, '*'))
        return config_check_host(value, why, size);
    char plain[HOST_LIMIT + 1]; /* once each star is replaced by a letter, it must be a host */
    bool fits = text_copy(text_of(value), plain, sizeof plain);
    for (char *star = plain; fits && (star = strchr(star, '*'));)
        *star = 'x';
    const char *last_dot = strrchr(value, '.');
    /* A pattern that matches every host would make tarn an open proxy. */
    bool anchored = last_dot && !strchr(last_dot, '*');
    if (!fits || !anchored || strstr(value, "**") || !reference_is_host(text_of(plain)))
        return refuse(value,
                      "is not a pattern of hosts; write for example *.pkg.dev (* stands for part "
                      "of one label, but not of the last one)",
                      why, size);
    char suffix[HOST_LIMIT + 1], rest[HOST_LIMIT + 200];
    if (!is_open_to_anybody(value, plain, suffix))
        return true;
    snprintf(rest, sizeof rest,
             "matches hosts of everybody, because anybody can register a name below %s "
             "(publicsuffix.org); write the registry's own domain behind the star, as in *.pkg.dev",
             suffix);
    return refuse(value, rest, why, size);
}

bool config_check_url(const char *value, char *why, size_t size) {
    struct text host, path;
    if (strchr(value, '@')) { /* the URL may contain a password: the message leaves it out */
        snprintf(why, size, "the URL contains a user name or password; put them under credentials");
        return false;
    }
    if (!config_url_split(value, &host, &path))
        return refuse(value,
                      "is not the URL of a registry; write for example https://registry.example "
                      "or http://127.0.0.1:5001",
                      why, size);
    for (size_t i = 0; i < path.length; i++) {
        if (path.at[i] <= ' ' || path.at[i] == 0x7F || path.at[i] == '?' || path.at[i] == '#')
            return refuse(value, "has more parts than scheme, host and path", why, size);
    }
    return reference_is_host(host) ||
           refuse(value, "has no host; write for example https://registry.example", why, size);
}

bool config_check_host_and_url(const char *value, char *why, size_t size) {
    struct text url, host = text_cut(text_of(value), '=', &url);
    char name[HOST_LIMIT + 1];
    if (!text_copy(host, name, sizeof name))
        return refuse(value, "has a host that is too long", why, size);
    return config_check_host_pattern(name, why, size) &&
           (!url.at || config_check_url(url.at, why, size));
}

/* ---- other strings ---- */

bool config_check_file(const char *value, char *why, size_t size) {
    char quoted[QUOTE_SIZE];
    struct stat status;
    struct error error = {0};
    if (!config_look(value, &status, &error)) {
        snprintf(why, size, "%s cannot be read: %s", config_quote(value, quoted), error.text);
        return false;
    }
    return !S_ISDIR(status.st_mode) ||
           refuse(value, "is a folder, but a file is expected", why, size);
}

bool config_check_prefix(const char *value, char *why, size_t size) {
    return reference_is_repository(text_of(value)) ||
           refuse(value,
                  "is no beginning of repository names; write for example my-project/docker-remote",
                  why, size);
}

bool config_check_glob(const char *value, char *why, size_t size) {
    for (const char *c = value; *c; c++) {
        if (*c <= ' ' || *c >= 0x7F)
            return refuse(value,
                          "is not a pattern of repositories; write for example "
                          "my-project/** or library/alpine",
                          why, size);
    }
    return (*value && *value != '/') ||
           refuse(value, "cannot begin with a slash; write for example my-project/**", why, size);
}

bool config_check_host_glob(const char *value, char *why, size_t size) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_*?[]";
    size_t length = strlen(value);
    return (length && length <= HOST_LIMIT && strspn(value, allowed) == length) ||
           refuse(value, "is not a pattern of hosts; write for example ghcr.io or *.pkg.dev", why,
                  size);
}

bool config_check_quotable(const char *value, char *why, size_t size) {
    bool fine = *value && strlen(value) <= 255;
    for (const char *c = value; *c && fine; c++)
        fine = *c >= ' ' && *c < 0x7F && *c != '"' && *c != '\\';
    return fine || refuse(value,
                          "cannot stand in a field; write 1 to 255 printable ASCII characters "
                          "without quotes and backslashes, for example tarn.example",
                          why, size);
}

bool config_check_realm(const char *value, char *why, size_t size) {
    struct text host, path;
    bool is_url = strlen(value) <= 500 && config_url_split(value, &host, &path) && host.length;
    for (const char *c = value; *c && is_url; c++)
        is_url = *c > ' ' && *c < 0x7F && *c != '"' && *c != '\\';
    return is_url || refuse(value,
                            "is not the URL of a token service; write for example "
                            "https://auth.example/token",
                            why, size);
}

bool config_check_user(const char *value, char *why, size_t size) {
    size_t length = strlen(value);
    bool fine = length && length < CLIENTS_USER_SIZE;
    for (const char *c = value; *c && fine; c++)
        fine = (unsigned char)*c >= ' ' && *c != 0x7F;
    return fine || refuse(value,
                          "is not the name of a user; write 1 to 255 bytes without control "
                          "characters, for example alice",
                          why, size);
}

bool config_check_image(const char *value, char *why, size_t size) {
    struct image_name name;
    struct error error;
    return image_name_parse(text_of(value), &name, &error) ||
           refuse(value, "is not an image; write for example docker.io/library/alpine:3.20", why,
                  size);
}

bool config_check_platform(const char *value, char *why, size_t size) {
    unsigned slashes = 0;
    bool fine = *value != '/';
    for (const char *c = value; *c && fine; c++) {
        slashes += *c == '/';
        fine = *c == '/' ? c[1] && c[1] != '/'
                         : (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '_' ||
                               *c == '-' || *c == '.';
    }
    return (fine && slashes >= 1 && slashes <= 2 && strlen(value) < 64) ||
           refuse(value, "is not a platform; write for example linux/amd64 or linux/arm/v7", why,
                  size);
}

bool config_check_path(const char *value, char *why, size_t size) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "/-._~";
    size_t length = strlen(value);
    bool fine = *value == '/' && length > 1 && length <= PREFIX_LIMIT && value[length - 1] != '/' &&
                strspn(value, allowed) == length && !strstr(value, "//") && !strstr(value, "/.");
    return fine ||
           refuse(value, "is not the beginning of a path; write for example /images", why, size);
}

bool config_is_own_field(struct text name) {
    static const char *const reserved[] = {
        "accept-ranges",
        "allow",
        "cache-status",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "docker-content-digest",
        "docker-distribution-api-version",
        "etag",
        "keep-alive",
        "last-modified",
        "link",
        "location",
        "oci-filters-applied",
        "oci-namespace",
        "oci-subject",
        "retry-after",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
        "x-content-type-options",
        "x-request-id",
    };
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (text_is_nocase(name, reserved[i]))
            return true;
    }
    return false;
}

bool config_check_field(const char *value, char *why, size_t size) {
    static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "!#$%&'*+-.^_`|~"; /* RFC 9110 §5.6.2 */
    struct text content, name = text_cut(text_of(value), ':', &content);
    content = text_trim(content);
    bool fine = name.length && content.at && content.length && strlen(value) <= FIELD_LIMIT &&
                strspn(value, token) == name.length;
    for (size_t i = 0; fine && i < content.length; i++)
        fine = (unsigned char)content.at[i] >= ' ' && content.at[i] != 0x7F;
    if (!fine)
        return refuse(value,
                      "is not a field of a response; write for example "
                      "\"Strict-Transport-Security: max-age=63072000\"",
                      why, size);
    return !config_is_own_field(name) ||
           refuse(value, "is a field that tarn sets itself", why, size);
}

static bool check_program(const char *value, char *why, size_t size) {
    char quoted[QUOTE_SIZE];
    struct stat status;
    if (stat(value, &status) == 0 && S_ISDIR(status.st_mode))
        return refuse(value, "is a folder, but a program is expected", why, size);
    if (access(value, X_OK) == 0)
        return true;
    snprintf(why, size, "%s cannot be executed: %s", config_quote(value, quoted), strerror(errno));
    return false;
}

bool config_check_helper(const char *value, char *why, size_t size) {
    if (*value == '/')
        return check_program(value, why, size);
    for (const char *c = value; *c; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
        if (!letter && !(*c >= '0' && *c <= '9') && !strchr("._-", *c))
            return refuse(value,
                          "is not a credential helper; write the NAME of a program "
                          "docker-credential-NAME, or the absolute path of a program",
                          why, size);
    }
    return true;
}
