/* Finds the upstream and the repository that a request names. */
#include "upstream/name.h"
#include <string.h>
#include "registry/call.h"

void call_fail_name(struct call *call, const struct error *error) {
    int status = error->kind == ERROR_NOT_FOUND ? 404 : error->kind == ERROR_DENIED ? 403 : 400;
    call_fail(call, status, error->code, "%s", error->text);
}

static bool refuse_reference(struct call *call) {
    /* The conformance tests of distribution-spec ask for a manifest by a malformed tag and want
     * 404: no repository can have such a tag. */
    if (call->route.fault == ROUTE_BAD_TAG)
        call_fail(call, 404, "MANIFEST_UNKNOWN",
                  "the reference in the path is no valid tag, so no manifest has it: a tag is at "
                  "most %d letters, digits, _ . and -, and begins with a letter, a digit or _",
                  TAG_LIMIT);
    else
        call_fail(call, 400, "DIGEST_INVALID",
                  "the reference in the path is no valid digest: write sha256: and 64, or sha512: "
                  "and 128 lower-case hex digits");
    return false;
}

/* A name that begins with a domain ("example.com/project/app", as gcr.io has them), and not with an
 * upstream's host, is a repository of the default upstream. Docker Hub's names have no dots, so
 * there the domain can only be a registry that is not configured. */
static bool is_domain_scoped(const struct upstreams *upstreams, const char *name) {
    const struct upstream *upstream = upstreams_default(upstreams);
    char host[HOST_LIMIT + 1];
    struct text rest, first = text_cut(text_of(name), '/', &rest);
    const char *dot = memrchr(first.at, '.', first.length);
    bool is_domain = dot && dot[1] >= 'a' && dot[1] <= 'z'; /* else it is an address */
    return upstream && rest.at && is_domain && reference_is_repository(first) &&
           !upstream_is_docker_hub(upstream) && !upstreams_find(upstreams, first, host);
}

bool call_name_upstream(struct call *call) {
    const struct upstreams *upstreams = call->view->upstreams;
    struct route *route = &call->route;
    const char *ns = route->host[0] ? route->host : call->ns;
    struct error error = {0};
    if (!ns[0] && call->ask == REPLICA_ASK_NONE && is_domain_scoped(upstreams, route->name))
        ns = upstream_name(upstreams_default(upstreams));
    if (route->fault == ROUTE_BAD_NAME) {
        call_fail(call, 400, "NAME_INVALID", "the path holds no repository name");
        return false;
    }
    if (!name_resolve(upstreams, ns, text_of(route->name), &call->repository, &error)) {
        call_fail_name(call, &error);
        return false;
    }
    return route->fault == ROUTE_FINE || refuse_reference(call);
}
