/*
 * A registry client: challenge, token, redirect, range, retry. It knows nothing of caching.
 *
 * An upstream is one registry under the host name that clients know it by. Requests to it carry its
 * credentials to it and to no other host: not along a redirect, not to a token service elsewhere
 * (design, promise 8 and section 5 "Where credentials may go"). A fallback on another host gets the
 * credentials that Docker's config or a helper has for that host, and no others.
 *
 * Threads: all calls from any thread. Each request runs on the caller's thread, blocking; libcurl
 * handles with their open connections are pooled per upstream. Tokens are kept per scope, and
 * one request at a time fetches each.
 */
#ifndef UPSTREAM_UPSTREAM_H
#define UPSTREAM_UPSTREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "auth/credential.h"
#include "base/error.h"
#include "base/text.h"
#include "client/client.h"
#include "oci/digest.h"
#include "oci/reference.h"

enum { UPSTREAM_CONNECTIONS_LIMIT = 16 }; /* the most that upstream_settings.connections may be */

/* What the configuration says about one upstream or one pattern of them. Strings are owned by the
 * configuration, which outlives every upstream. */
struct upstream_settings {
    const char *host;             /* "docker.io", or a pattern "*.pkg.dev": `*` within one label */
    const char *url;              /* where it really is; NULL: https://HOST (Docker Hub: its own) */
    const char *const *fallbacks; /* URLs of mirrors of the same registry; NULL-terminated */
    bool is_default;              /* serves names without a host */
    struct credential_source *credentials; /* for all hosts a pattern matches; NULL: anonymous */
    const char *const *repositories;       /* allow list of globs; NULL: all; NULL-terminated */
    const char *const *token_hosts; /* further hosts a Bearer realm may name; NULL-terminated */
    const char *ca_file;            /* PEM bundle instead of the system's */
    int64_t tag_ttl_ms;             /* 0: ask for the tag each time */
    int64_t connect_timeout_ms;     /* this and the next two are never 0 */
    int64_t stall_timeout_ms;       /* silence in a transfer after which it is tried again */
    int64_t first_byte_timeout_ms;  /* the client gets 504 then */
    unsigned connections;           /* range requests at once for one large blob; not 0 */
    unsigned max_connections;       /* requests at once to this upstream; not 0 */
    bool keep_deleted;              /* a real 404 does not end a cached tag */
    bool range_fill;                /* after a range, the rest of the blob is fetched too */
    bool prefetch;                  /* after a manifest, its layers are fetched too */
};

/* Settings with every default, and without a host. */
struct upstream_settings upstream_settings_default(void);

struct upstreams; /* all of them: the configured list and the hosts its patterns have matched */
struct upstream;

/* Copies nothing out of `settings`, which must outlive it, and gives `client` to the settings'
 * credential sources. The client outlives both. */
struct upstreams *upstreams_new(struct client *client, const struct upstream_settings *settings,
                                size_t count, struct error *error);
void upstreams_free(struct upstreams *upstreams);

/*
 * The upstream that clients mean by `host` (any case; Docker Hub under each of its names), or NULL
 * when none is configured for it. An exact host wins over a pattern, an earlier pattern over a
 * later. IP addresses and single-label names match exact hosts only. Valid until upstreams_free().
 */
struct upstream *upstreams_find(struct upstreams *upstreams, struct text host);
/* The host by which an upstream is known whatever clients call it: lower case, without https' own
 * port, Docker Hub under one name. False: no host by the grammar. */
bool upstream_canonical_host(struct text text, char out[static HOST_LIMIT + 1]);
struct upstream *upstreams_default(struct upstreams *upstreams); /* NULL when there is none */

const char *upstream_host(const struct upstream *upstream); /* canonical: "docker.io" */
const struct upstream_settings *upstream_settings(const struct upstream *upstream);
bool upstream_is_docker_hub(const struct upstream *upstream);
bool upstream_allows(const struct upstream *upstream, const char *repository);
/* In how many locations an upstream may be asked: its url and its fallbacks. */
unsigned upstream_places(const struct upstream *upstream);

/* A repository at an upstream. A value; only name_resolve() (upstream/name.h) makes one. */
struct repository {
    struct upstream *upstream;
    struct repository_name name; /* host: upstream_host(); path: with library/ already added */
};

/* ---- requests ---- */

enum upstream_what { UPSTREAM_MANIFEST, UPSTREAM_BLOB, UPSTREAM_TAGS, UPSTREAM_REFERRERS };

/* Where a blob's redirect led, kept by a flight so that its further ranges go there at once: set
 * before on_head runs, dropped when it no longer serves. Only places that need no Authorization. */
struct upstream_target {
    char *url;         /* owned; NULL: not known */
    unsigned location; /* which of url and fallbacks it came from */
};
void upstream_target_free(struct upstream_target *target);

struct upstream_request {
    enum upstream_what what;
    bool head_only;         /* HEAD instead of GET */
    const char *repository; /* with library/ already added */
    const char *reference;  /* tag or digest; unused for TAGS */
    const char *page;       /* TAGS, REFERRERS: the path-and-query of a next page, from `next` */
    bool has_range;
    uint64_t range_first, range_last; /* inclusive; range_last UINT64_MAX: to the end */
    uint64_t range_suffix;            /* not 0: the last so many bytes instead */
    unsigned location;                /* 0: url, 1..: fallbacks */
    struct upstream_target *target;   /* BLOB: tried first, filled after a redirect; may be NULL */
    unsigned attempts;                /* tries before the first byte; 0: 3; 1: no retry */
    int64_t deadline_ms;     /* clock_ms() by which the head must be here; 0: first_byte_timeout */
    const atomic_bool *stop; /* set: the request soon ends with ERROR_CLOSED; may be NULL */
    bool background;         /* yields to others in the queue for a connection (blobs ahead) */
};

/* The head of upstream's final answer (after challenge and redirects). Texts end with the call. */
struct upstream_head {
    int status; /* 200 or 206 (or 404 and so on: then the call fails instead) */
    bool has_length;
    uint64_t length; /* of this body */
    bool has_range;  /* 206 with a sound Content-Range */
    uint64_t range_first, range_last;
    bool has_total;
    uint64_t total; /* size of the whole content: Content-Range's, or length of a 200 */
    char content_type[128];
    char etag[160];
    bool has_digest;
    struct digest digest; /* Docker-Content-Digest, if it parses */
    char next[2048];      /* path and query of Link rel="next" on the same host, or "" */
};

struct upstream_sink {
    void *context;
    /* Once, before any byte; false stops the request (with the error it set). May be NULL. */
    bool (*on_head)(void *context, const struct upstream_head *head, struct error *error);
    /* Bytes of the body as they come; false stops the request (with the error it set). */
    bool (*on_bytes)(void *context, const void *bytes, size_t length, struct error *error);
    /* All that has come was handed on, and more is not here yet; a sink that gathers bytes lets go
     * of them. Not called at the end. False stops the request (with the error it set). May be NULL.
     */
    bool (*on_idle)(void *context, struct error *error);
};

/*
 * One request, with token, redirects (at most 5, 16 KiB each) and, as long as no byte has been
 * handed on, retries. True: the whole body was handed on and was as long as announced.
 * False, by kind:
 *   NOT_FOUND     404; `code` is upstream's (REFERRERS: 405 and 501, too: no such endpoint)
 *   DENIED        401 or 403 after our credentials were tried; text says which were used
 *   RATE_LIMITED  429, retry_after_s at least 1 (30 when upstream gave none); until that time is
 *                 over every further request fails so at once, without asking upstream
 *   RANGE         416; when upstream said the size, head->total through on_head with status 416
 *   UNAVAILABLE   refused, reset, no such host, 5xx, malformed, or cut in mid-body
 *   TIMEOUT       no connection or first byte in time, or silent for stall_timeout in mid-body
 *   BUSY          no free connection to this upstream in time
 * and whatever a sink's callback set. Every text begins with "upstream HOST: ".
 */
bool upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                      const struct upstream_sink *sink, struct error *error);

#endif
