/* Which upstream and which of its repositories a request means (design, section 5). */
#include <stdio.h>
#include "registry/call.h"

/* The upstream that the name's first part names, cut off `name`; NULL when it names none. */
static struct upstream *named_by_path(const struct call *call, struct text *name) {
    struct text rest;
    struct text first = text_cut(*name, '/', &rest);
    struct upstream *upstream =
        rest.at ? upstreams_find(call->registry->settings.upstreams, first) : NULL;
    if (upstream)
        *name = rest;
    return upstream;
}

static bool find_upstream(struct call *call, struct text *name) {
    struct upstreams *upstreams = call->registry->settings.upstreams;
    struct text rest;
    if (call->ns[0]) {
        call->upstream = upstreams_find(upstreams, text_of(call->ns));
        if (!call->upstream)
            call_fail(call, 404, "NAME_UNKNOWN",
                      "no upstream is configured for ns=%s; add it under `upstreams:`", call->ns);
        return call->upstream != NULL;
    }
    call->upstream = named_by_path(call, name);
    if (call->upstream)
        return true;
    struct text first = text_cut(*name, '/', &rest);
    if (rest.at && reference_looks_like_host(first)) {
        call_fail(call, 404, "NAME_UNKNOWN",
                  "no upstream is configured for %.*s; add it under `upstreams:`",
                  TEXT_PRINT(first));
        return false;
    }
    call->upstream = upstreams_default(upstreams);
    if (!call->upstream)
        call_fail(call, 404, "NAME_UNKNOWN",
                  "the name %.*s has no upstream's host in front, and no upstream is the default; "
                  "set `default: true` on one",
                  TEXT_PRINT(*name));
    return call->upstream != NULL;
}

bool call_name_upstream(struct call *call) {
    struct text name = text_of(call->route.name);
    if (call->route.bad && strcmp(call->route.bad, "NAME_INVALID") == 0) {
        call_fail(call, 400, "NAME_INVALID", "the path holds no repository name");
        return false;
    }
    if (!find_upstream(call, &name))
        return false;
    if (!reference_is_repository(name)) {
        call->upstream = NULL;
        call_fail(call, 400, "NAME_INVALID",
                  "%.*s is no repository name: lower-case letters, digits, and . _ - between them, "
                  "in parts separated by /",
                  TEXT_PRINT(name));
        return false;
    }
    bool add_library =
        upstream_is_docker_hub(call->upstream) && !memchr(name.at, '/', name.length);
    int length = snprintf(call->repository, sizeof call->repository, "%s%.*s",
                          add_library ? "library/" : "", TEXT_PRINT(name));
    if (length < 0 || (size_t)length >= sizeof call->repository) {
        call_fail(call, 400, "NAME_INVALID", "the repository name is too long");
        return false;
    }
    if (call->route.bad) {
        call_fail(call, 400, call->route.bad, "the reference in the path is no valid %s",
                  strcmp(call->route.bad, "TAG_INVALID") == 0 ? "tag" : "digest");
        return false;
    }
    if (!upstream_allows(call->upstream, call->repository)) {
        call_fail(call, 403, "DENIED",
                  "upstream %s: repository %s is outside the configured `repositories:`",
                  upstream_host(call->upstream), call->repository);
        return false;
    }
    return true;
}
