/* Turns the path of a request into the resource that is requested. Pure. */
#ifndef REGISTRY_ROUTE_H
#define REGISTRY_ROUTE_H

#include <stdbool.h>
#include "base/text.h"
#include "oci/digest.h"
#include "oci/reference.h"

enum route_kind {
    ROUTE_NONE,    /* no such path */
    ROUTE_PAGE,    /* / */
    ROUTE_LIVE,    /* /livez */
    ROUTE_READY,   /* /readyz */
    ROUTE_METRICS, /* /metrics */
    ROUTE_FLIGHTS, /* /tarn/v1/flights */
    ROUTE_API,     /* /v2/ */
    ROUTE_CATALOG, /* /v2/_catalog */
    ROUTE_MANIFEST,
    ROUTE_BLOB,
    ROUTE_TAGS,
    ROUTE_REFERRERS,
    ROUTE_UPLOAD, /* writing: /v2/NAME/blobs/uploads/… */
    ROUTE_KINDS
};

struct route {
    enum route_kind kind;
    char name[HOST_LIMIT + 1 + NAME_LIMIT + 1]; /* as asked, a host in front included; unchecked */
    struct reference reference; /* MANIFEST, BLOB, REFERRERS (the last two: a digest) */
    const char *bad; /* not NULL: the OCI error code, because the name or reference is malformed */
};

/* Reads a path (still percent-encoded). */
void route_parse(struct text path, struct route *route);

/* The short name of a kind for metrics: "manifest", "blob", "tags", … */
const char *route_name(enum route_kind kind);

#endif
