/* Turns the path of a request into the resource that is requested. Pure. */
#ifndef REGISTRY_ROUTE_H
#define REGISTRY_ROUTE_H

#include <stdbool.h>
#include "base/text.h"
#include "oci/digest.h"
#include "oci/reference.h"

enum route_kind {
    ROUTE_NONE,         /* no such path */
    ROUTE_PAGE,         /* / */
    ROUTE_PAGE_FILE,    /* /tarn/page.css and its like */
    ROUTE_LIVE,         /* /livez */
    ROUTE_READY,        /* /readyz */
    ROUTE_METRICS,      /* /metrics */
    ROUTE_FLIGHTS,      /* /tarn/v1/flights */
    ROUTE_REPLICAS,     /* /tarn/v1/replicas */
    ROUTE_FORGET,       /* /tarn/v1/forget */
    ROUTE_RENEW,        /* /tarn/v1/renew */
    ROUTE_IMAGES,       /* /tarn/v1/images/HOST/NAME */
    ROUTE_STREAM_LAYER, /* /tarn/v1/streaming/layer/HOST/NAME@DIGEST */
    ROUTE_STREAM_IMAGE, /* /tarn/v1/streaming/image/HOST/NAME@DIGEST */
    ROUTE_STREAM_COPY,  /* /tarn/v1/streaming/frames/HOST/NAME@DIGEST */
    ROUTE_STREAM_TRACE, /* /tarn/v1/streaming/trace/HOST/NAME@DIGEST */
    ROUTE_STREAM_CHAIN, /* /tarn/v1/streaming/chain/DIGEST */
    ROUTE_API,          /* /v2/ */
    ROUTE_CATALOG,      /* /v2/_catalog */
    ROUTE_MANIFEST,
    ROUTE_BLOB,
    ROUTE_TAGS,
    ROUTE_REFERRERS,
    ROUTE_UPLOAD, /* writing: /v2/NAME/blobs/uploads/… */
    ROUTE_KINDS
};

struct route {
    enum route_kind kind;
    char host[HOST_LIMIT + 1];                  /* of /HOST/v2/… and /v2/HOST/_catalog; else "" */
    char name[HOST_LIMIT + 1 + NAME_LIMIT + 1]; /* as asked, a host in front included; unchecked */
    char upload[64];            /* UPLOAD: what follows uploads/; "" for a new one */
    struct reference reference; /* MANIFEST, BLOB, REFERRERS, STREAM_… (a digest, but MANIFEST) */
    enum route_fault { ROUTE_FINE, ROUTE_BAD_NAME, ROUTE_BAD_TAG, ROUTE_BAD_DIGEST } fault;
    char
        malformed[DIGEST_STRING_SIZE]; /* BAD_TAG, BAD_DIGEST: the reference's beginning as given */
};

/* Reads a path (still percent-encoded). The API is found below /v2/ and below /HOST/v2/. */
void route_parse(struct text path, struct route *route);

/* The short name of a kind for metrics: "manifest", "blob", "tags", … */
const char *route_name(enum route_kind kind);

/* Whether it is health or metrics: what probes ask for, and what needs no login. */
bool route_is_for_probes(enum route_kind kind);

/* Whether only other replicas ask for it. */
bool route_is_for_replicas(enum route_kind kind);

#endif
