/* What answers to writes have in common: the statuses of what goes wrong, and addresses. */
#include "registry/call.h"

/* ---- errors ---- */

/* The code of a refusal that has none of its own. */
static const char *code_of(const struct call *call, int status) {
    switch (status) {
    case 404:
    case 410:
        return call->route.kind == ROUTE_MANIFEST ? "MANIFEST_UNKNOWN"
               : call->route.kind == ROUTE_BLOB   ? "BLOB_UNKNOWN"
                                                  : "NAME_UNKNOWN";
    case 405:
        return "UNSUPPORTED";
    case 402:
    case 409:
    case 412:
    case 451:
        return "DENIED";
    case 411:
    case 413:
        return "SIZE_INVALID";
    default:
        return call->route.kind == ROUTE_MANIFEST ? "MANIFEST_INVALID" : "BLOB_UPLOAD_INVALID";
    }
}

bool call_is_refusal(int status) {
    switch (status) {
    case 401:
    case 403:
    case 407:
    case 408:
    case 416:
    case 417:
    case 421:
    case 425:
    case 426:
    case 429:
    case 431:
        return false;
    default:
        return status / 100 == 4;
    }
}

void call_fail_write(struct call *call, const struct error *error) {
    if (error->kind == ERROR_NO_SPACE) {
        http_add_field(call->exchange, "Retry-After", "%d", 10);
        call_fail(call, 503, "UNAVAILABLE", "%s", error->text);
    } else if (call_is_refusal(error->status)) {
        call_fail(call, error->status, error->code[0] ? error->code : code_of(call, error->status),
                  "%s", error->text);
    } else if (error->kind == ERROR_NOT_FOUND && call->route.kind == ROUTE_UPLOAD) {
        call_fail(call, 404, "BLOB_UPLOAD_UNKNOWN", "%s", error->text);
    } else if (error->kind == ERROR_CORRUPT) {
        call_fail(call, 400, "DIGEST_INVALID", "%s", error->text);
    } else {
        call_fail_error(call, error);
    }
}

/* ---- addresses ---- */

void call_add_location(struct call *call, const char *rest, const char *query) {
    const char *host = call->route.host, *ns = call->ns;
    http_add_field(call->exchange, "Location", "%s%s%s/v2/%s/%s%s%s%s%s", call->prefix,
                   host[0] ? "/" : "", host, call->route.name, rest, query[0] || ns[0] ? "?" : "",
                   query,
                   query[0] && ns[0] ? "&ns="
                   : ns[0]           ? "ns="
                                     : "",
                   ns);
}
