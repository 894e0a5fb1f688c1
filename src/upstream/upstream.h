/*
 * A registry client: challenges, tokens, redirects, ranges, retries. It knows nothing of caching.
 *
 * An upstream is one registry under the host name by which clients know it. The upstream's
 * credentials are sent to the upstream and to no other host: not along a redirect, and not to a
 * token service elsewhere (design, promise 8 and section 5 "Where credentials may go"). A registry
 * to which a redirect leads gets a token that was asked for without a credential. A fallback on
 * another host gets the credentials that Docker's config or a helper has for that host, and no
 * others.
 *
 * Threads: any thread may make any call. A request blocks the thread that makes it. Connections,
 * tokens and rate limits are kept for each host that answers; what is kept for the hosts of
 * patterns is bounded (upstream/peer.h). A token is for one repository, and one thread at a time
 * asks for it.
 */
#ifndef UPSTREAM_UPSTREAM_H
#define UPSTREAM_UPSTREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "auth/credential.h"
#include "base/error.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/text.h"
#include "client/client.h"
#include "oci/digest.h"
#include "oci/reference.h"

enum {
    UPSTREAM_CONNECTIONS_LIMIT = 16, /* the most that upstream_settings.connections may be */
    UPSTREAM_COUNTERS = 18,
};

/* What the configuration says about one upstream or one pattern of them. */
struct upstream_settings {
    const char *host;             /* "docker.io", or a pattern "*.pkg.dev": `*` within one label */
    const char *url;              /* where it really is; NULL: https://HOST (Docker Hub: its own) */
    const char *prefix;           /* in front of each repository at `url`; NULL: none */
    const char *const *fallbacks; /* URLs of mirrors of the same registry; NULL-terminated */
    bool is_default;              /* serves names without a host */
    struct credential_source *credentials; /* for all hosts a pattern matches; NULL: anonymous */
    const char *const *repositories;       /* served ones, as globs; NULL: all; NULL-terminated */
    const char *const *token_hosts; /* further hosts a Bearer realm may name; NULL-terminated */
    /* Hosts to which redirects may lead whatever their address is; NULL-terminated */
    const char *const *redirect_hosts;
    const char *ca_file; /* PEM bundle instead of the system's */
    int64_t tag_ttl_ms;  /* 0: ask for the tag each time */
    int64_t
        link_ttl_ms; /* after this, upstream confirms that a repository holds a digest; 0: never */
    int64_t connect_timeout_ms;    /* this and the next two are never 0 */
    int64_t stall_timeout_ms;      /* silence in a transfer after which it is tried again */
    int64_t first_byte_timeout_ms; /* the client gets 504 then */
    unsigned connections;          /* range requests at once for one large blob; not 0 */
    unsigned max_connections;      /* requests at once to this upstream; not 0 */
    bool keep_deleted;             /* a real 404 does not end a cached tag */
    bool range_fill;               /* after a range, the rest of the blob is fetched too */
    bool prefetch;                 /* after a manifest, its layers are fetched too */
    bool push;                     /* clients that may push write to it */
    bool allows_delete;            /* and delete tags, manifests and blobs; needs `push` */
    int64_t push_patience_ms;      /* how long a push without progress is tried again; not 0 */
};

/* Settings with every default, and without a host. */
struct upstream_settings upstream_settings_default(void);

/* Whether both serve the same repositories, in whatever order they are listed. Of one host there
 * may be several entries, as long as no two serve the same ones. */
bool upstream_settings_same_repositories(const struct upstream_settings *a,
                                         const struct upstream_settings *b);

/* The entries of one configuration. It never changes; see current.h for how it is exchanged. */
struct upstreams;
/* One entry of the configuration: a host or all hosts that a pattern matches, or some of their
 * repositories. It lives as long as a set has it, or somebody refers to it. */
struct upstream;

/* One more reference to an upstream that the caller has from a set or by a reference. Neither call
 * waits. */
struct upstream *upstream_keep(struct upstream *upstream);
void upstream_release(struct upstream *upstream); /* NULL is allowed */

/*
 * The upstream that clients mean by `host`, in any case, and Docker Hub under each of its names.
 * NULL: none is configured for it. An exact host is preferred to a pattern, and an earlier pattern
 * to a later one. A pattern matches neither an IP address nor a name without a dot. If there are
 * several entries with this host or pattern, it is the first of them. Writes the
 * canonical host, which upstream_perform() wants. Makes nothing, allocates nothing and takes no
 * lock.
 */
struct upstream *upstreams_find(const struct upstreams *upstreams, struct text host,
                                char canonical[static HOST_LIMIT + 1]);
/* Whether `host` names a configured upstream, or a pattern matches it; ports do not count. Makes
 * nothing and takes no lock. */
bool upstreams_know(const struct upstreams *upstreams, struct text host);
/* Writes the one name by which tarn knows an upstream: lower case, without the port of https, and
 * "docker.io" for each of Docker Hub's names. False: `text` is not a host by the grammar. */
bool upstream_canonical_host(struct text text, char out[static HOST_LIMIT + 1]);
/* The first entry of the default host, which is no pattern; NULL when there is none. */
struct upstream *upstreams_default(const struct upstreams *upstreams);

/* The canonical host ("docker.io") or the pattern ("*.pkg.dev"). A pattern's hosts have their
 * metrics in common under this name, because clients can name any number of hosts. */
const char *upstream_name(const struct upstream *upstream);
const struct upstream_settings *upstream_settings(const struct upstream *upstream);
bool upstream_is_docker_hub(const struct upstream *upstream);
/* Of all entries with the host or pattern of `named`, the one that serves the repository: the one
 * with the longest glob that matches, an entry for all repositories last. Of equal ones the first.
 * NULL: none serves it. */
struct upstream *upstream_for(const struct upstreams *upstreams, const struct upstream *named,
                              const char *repository);
/* How many requests for one large blob the upstream may get at once: settings->connections, or
 * fewer after it has refused a further one. Another one is allowed every half a minute. */
unsigned upstream_connections(const struct upstream *upstream);
/* The upstream has refused a further request (429, 503): it gets so many at once, and one at least.
 */
void upstream_lower_connections(struct upstream *upstream, unsigned connections);
/* UPSTREAM_COUNTERS places, NULL at first, in which a caller keeps counters that it has made for
 * this upstream, so that it finds them again without a lock. They are registry/'s. */
_Atomic(struct metric *) *upstream_counters(struct upstream *upstream);
/* The number of locations at which the upstream may be asked: its url and its fallbacks. */
unsigned upstream_places(const struct upstream *upstream);

/* How much an upstream holds of what all upstreams share (base/pot.h), and when its failures were
 * logged. cache/ counts it. */
struct upstream_held {
    atomic_uint waiting;    /* requests of clients that wait for the upstream */
    atomic_uint flights;    /* started for clients */
    atomic_uint background; /* flights that no client has asked for */
    struct log_pause stale; /* answers from the cache because the upstream fails */
};
struct upstream_held *upstream_held(struct upstream *upstream);

/* A repository at an upstream. A value; only name_resolve() (upstream/name.h) makes one. */
struct repository {
    struct upstream *upstream;
    struct repository_name name; /* host: canonical; path: with library/ already added */
};

/* The upstreams in the order of the configuration: the one behind `before` (NULL: the first). NULL:
 * there is no further one. */
struct upstream *upstreams_next(const struct upstreams *upstreams, const struct upstream *before);

enum { UPSTREAM_REASON_SIZE = 100 };

/* Whether the upstream is asked at all of its locations. False: one is left alone for now, because
 * it does not respond, and `reason` says what it did in a few words. Never waits. */
bool upstream_is_asked(struct upstream *upstream, char reason[static UPSTREAM_REASON_SIZE]);

/* ---- requests ---- */

enum upstream_what { UPSTREAM_MANIFEST, UPSTREAM_BLOB, UPSTREAM_TAGS, UPSTREAM_REFERRERS };

/* The URL to which a blob's redirect led. A flight keeps it and asks there for further ranges,
 * without asking the registry again. It is set before on_head runs, and dropped when it no longer
 * serves. Only a URL that needs no Authorization is kept. */
struct upstream_target {
    char *url;         /* owned; NULL: not known */
    unsigned location; /* which of url and fallbacks it came from */
};
void upstream_target_finish(struct upstream_target *target);

struct upstream_request {
    enum upstream_what what;
    bool head_only;         /* HEAD instead of GET */
    const char *host;       /* which host of a pattern is asked; unused for any other upstream */
    const char *repository; /* with library/ already added */
    const char *reference;  /* tag or digest; unused for TAGS */
    const char *page;       /* TAGS, REFERRERS: the path-and-query of a next page, from `next` */
    unsigned page_size;     /* TAGS: entries of a page; 0: as many as upstream likes */
    const char *last;       /* TAGS: only those after this one, with page_size; may be NULL */
    bool has_range;
    uint64_t range_first, range_last; /* inclusive; range_last UINT64_MAX: to the end */
    uint64_t range_suffix;            /* not 0: the last `range_suffix` bytes instead */
    unsigned location;                /* 0: url, 1..: fallbacks */
    struct upstream_target *target;   /* BLOB: asked first, set after a redirect; may be NULL */
    unsigned attempts;                /* before the first byte; 0: 3 attempts; 1: no retry */
    /* Of a transfer that has begun: the caller has waited already, and asks even a location that
     * does not respond or that has asked for a pause. */
    bool insists;
    int64_t deadline_ms;     /* clock_ms() by which the head must be here; 0: first_byte_timeout */
    const atomic_bool *stop; /* set: the request ends within a second (CLOSED); NULL: never */
    /* While set, nobody waits for the response. A request that has not been sent is then dropped
     * within a second (CLOSED). One that has been sent goes on, because its response is useful to
     * the next client, until another request waits for its connection. May be NULL. */
    const atomic_bool *abandoned;
    /* While set, no client waits for the response: the request comes last in the queue for a
     * connection. May be cleared at any time. NULL: a client waits. */
    const atomic_bool *background;
    bool is_small; /* of a blob a byte at most: comes before whole blobs in that queue */
};

/* The head of upstream's final response, after challenges and redirects. It is valid in on_head. */
struct upstream_head {
    int status; /* 200 or 206; 416 where RANGE below says so */
    bool has_length;
    uint64_t length; /* of this body */
    bool has_range;  /* a 206 whose Content-Range fits the request */
    uint64_t range_first, range_last;
    bool has_total;
    uint64_t total; /* size of the whole content: from Content-Range, or the length of a 200 */
    char content_type[128];
    char etag[160];
    bool renewed; /* the Authorization that was held was refused, and a new one was accepted */
    bool has_digest;
    struct digest digest; /* Docker-Content-Digest, if it is a digest */
    char next[2048]; /* path and query of Link rel="next", to be asked at the same location; "":
                        this page is the last. A next page that cannot be asked for makes the
                        request fail (UNAVAILABLE) */
};

/* Takes a response as it comes. A function that returns false ends the request with the error that
 * it set. */
struct upstream_sink {
    void *context;
    /* Called once, before any byte. May be NULL. */
    bool (*on_head)(void *context, const struct upstream_head *head, struct error *error);
    /* Called with the bytes of the body as they come. */
    bool (*on_bytes)(void *context, const void *bytes, size_t length, struct error *error);
    /* Called when all bytes that have come were handed on and more are not here yet: a sink that
     * gathers bytes writes them now. Not called at the end of the body. May be NULL. */
    bool (*on_idle)(void *context, struct error *error);
    /* Called when the request has its connection and is sent next, with its range (inclusive),
     * which it may change. May be NULL. */
    bool (*on_turn)(void *context, uint64_t *range_first, uint64_t *range_last,
                    struct error *error);
};

/*
 * Makes one request, with its token, its redirects (at most 5, each of at most 16 KiB) and, until
 * the head is handed on, its retries. True: the whole body was handed on and was as long as
 * announced. False, by the error's kind:
 *   NOT_FOUND     404; `code` is upstream's. error->doubtful: the response does not look like a
 *                 registry's
 *   DENIED        401 or 403 after the credentials were tried; the text says which were used;
 *                 doubtful as NOT_FOUND
 *   RATE_LIMITED  429; retry_after_s is from 1 to 60. Until that time is over the same request
 *                 fails at once, without asking upstream (upstream/pauses.h); others are asked.
 *                 With `insists` it is what upstream said, and nothing is remembered
 *   RANGE         416; when upstream named the size, on_head got it (status 416, total)
 *   UNAVAILABLE   refused, reset, no such host, 5xx, malformed, or cut in mid-body. With
 *                 retry_after_s and without status: not asked, because the last requests to the
 *                 location got no response
 *   TIMEOUT       no connection or no head in time, or silence for stall_timeout in mid-body
 *   BUSY          no free connection to this upstream in time, or too many hosts asked at once
 *   CLOSED        stopped or abandoned
 * and whatever a function of the sink set. When the registry refused, error->status is its status
 * (not its token service's). error->reached: the server was reached, but cut the connection without
 * a head, or led to another server that failed or refused. Every text begins with
 * "upstream HOST: ".
 *
 * A HEAD that is refused with 401 asks for no new token in place of the held one, because some
 * registries refuse HEAD alone. The GET of the same name then decides.
 */
bool upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                      const struct upstream_sink *sink, struct error *error);

/* ---- servers that do not answer HEAD ---- */

/* What the failure of a HEAD says about a GET of the same name. */
enum head_refusal {
    HEAD_FAILED,      /* a GET would fail as well */
    HEAD_DOUBTFUL,    /* only a GET can tell */
    HEAD_NOT_OFFERED, /* it is the method that was refused: nothing is known of the name */
};
enum head_refusal upstream_judge_head(const struct error *error);

/* Whether the location of the request has refused HEAD for manifests or for blobs, whichever this
 * is, in the last ten minutes, so that it is better asked by GET. */
bool upstream_refuses_head(struct upstream *upstream, const struct upstream_request *request);
/* Remembers that a HEAD was answered (`refusal` NULL), or that it was refused although a GET of the
 * same name is answered. A refusal that may have had another reason (404, 5xx, a connection that
 * was cut) counts only when it comes twice in a row. */
void upstream_note_head(struct upstream *upstream, const struct upstream_request *request,
                        const struct error *refusal);

#endif
