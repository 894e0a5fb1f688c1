/* Finds the upstream and the repository that a request names. */
#include "upstream/name.h"
#include <string.h>
#include "registry/call.h"

static int status_of(enum error_kind kind) {
    return kind == ERROR_NOT_FOUND ? 404 : kind == ERROR_DENIED ? 403 : 400;
}

bool call_name_upstream(struct call *call) {
    const char *bad = call->route.bad;
    struct error error = {0};
    if (bad && strcmp(bad, "NAME_INVALID") == 0) {
        call_fail(call, 400, "NAME_INVALID", "the path holds no repository name");
        return false;
    }
    if (!name_resolve(call->registry->settings.upstreams, call->ns, text_of(call->route.name),
                      &call->repository, &error)) {
        call_fail(call, status_of(error.kind), error.code, "%s", error.text);
        return false;
    }
    if (bad) {
        call_fail(call, 400, bad, "the reference in the path is no valid %s",
                  strcmp(bad, "TAG_INVALID") == 0 ? "tag" : "digest");
        return false;
    }
    return true;
}
