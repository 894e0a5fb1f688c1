/* Resolves the names that clients and operators use. */
#include "upstream/name.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "auth/docker_config.h"

static bool refuse(struct error *error, enum error_kind kind, const char *code, const char *format,
                   ...) __attribute__((format(printf, 4, 5)));

static bool refuse(struct error *error, enum error_kind kind, const char *code, const char *format,
                   ...) {
    char why[sizeof error->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    error_set(error, kind, "%s", why);
    snprintf(error->code, sizeof error->code, "%s", code);
    return false;
}

/* The upstream whose host is the first part of the name, which is then cut off; NULL: there is
 * none. */
static struct upstream *named_by_path(const struct upstreams *upstreams, struct text *name,
                                      char host[static HOST_LIMIT + 1]) {
    struct text rest;
    struct text first = text_cut(*name, '/', &rest);
    struct upstream *upstream = rest.at ? upstreams_find(upstreams, first, host) : NULL;
    if (upstream)
        *name = rest;
    return upstream;
}

/* Cuts the upstream's host off the name, under any of the host's spellings: a mirror with a path
 * (/v2/HOST) names the host in the path and in `ns`. */
static void cut_own_host(const char *host, struct text *name) {
    char canonical[HOST_LIMIT + 1];
    struct text rest;
    struct text first = text_cut(*name, '/', &rest);
    if (rest.at && upstream_canonical_host(first, canonical) && strcmp(canonical, host) == 0)
        *name = rest;
}

static bool find_upstream(const struct upstreams *upstreams, const char *ns, struct text *name,
                          struct upstream **upstream, char host[static HOST_LIMIT + 1],
                          struct error *error) {
    struct text rest;
    if (ns[0]) {
        *upstream = upstreams_find(upstreams, text_of(ns), host);
        if (!*upstream)
            return refuse(error, ERROR_NOT_FOUND, "NAME_UNKNOWN",
                          "no upstream is configured for %s; add it under `upstreams:`", ns);
        cut_own_host(host, name);
        return true;
    }
    *upstream = named_by_path(upstreams, name, host);
    if (*upstream)
        return true;
    struct text first = text_cut(*name, '/', &rest);
    if (rest.at && reference_looks_like_host(first))
        return refuse(error, ERROR_NOT_FOUND, "NAME_UNKNOWN",
                      "no upstream is configured for %.*s; add it under `upstreams:`",
                      TEXT_PRINT(first));
    *upstream = upstreams_default(upstreams);
    if (!*upstream)
        return refuse(error, ERROR_NOT_FOUND, "NAME_UNKNOWN",
                      "the name %.*s has no upstream's host in front, and no upstream is "
                      "the default; set `default: true` on one",
                      TEXT_PRINT(*name));
    return text_copy(text_of(upstream_name(*upstream)), host, HOST_LIMIT + 1);
}

/* Docker Hub's official images are typed without their library/. */
static bool add_library(const char *host, struct text name, char path[static NAME_LIMIT + 1],
                        struct error *error) {
    bool is_short = docker_config_is_hub(host) && !memchr(name.at, '/', name.length);
    int length =
        snprintf(path, NAME_LIMIT + 1, "%s%.*s", is_short ? "library/" : "", TEXT_PRINT(name));
    return (length > 0 && length <= NAME_LIMIT) ||
           refuse(error, ERROR_INVALID, "NAME_INVALID", "the repository name is too long");
}

bool name_resolve(const struct upstreams *upstreams, const char *ns, struct text name,
                  struct repository *repository, struct error *error) {
    struct upstream *upstream;
    char host[HOST_LIMIT + 1], path[NAME_LIMIT + 1];
    *repository = (struct repository){0};
    if (!find_upstream(upstreams, ns, &name, &upstream, host, error))
        return false;
    repository->upstream = upstream;
    memcpy(repository->name.host, host, sizeof host);
    if (!reference_is_repository(name))
        return refuse(error, ERROR_INVALID, "NAME_INVALID",
                      "%.*s is not a repository name: it consists of lower-case letters, digits, "
                      "and . _ - between them, in parts separated by /",
                      TEXT_PRINT(name));
    if (!add_library(host, name, path, error))
        return false;
    struct repository_name whole;
    if (!repository_name_parse(text_of(host), text_of(path), &whole))
        return refuse(error, ERROR_INVALID, "NAME_INVALID", "%s is not a repository of %s", path,
                      host);
    repository->name = whole;
    struct upstream *serving = upstream_for(upstreams, upstream, path);
    if (serving)
        repository->upstream = serving;
    return serving || refuse(error, ERROR_DENIED, "DENIED",
                             "upstream %s: repository %s is outside the configured `repositories:`",
                             host, path);
}
