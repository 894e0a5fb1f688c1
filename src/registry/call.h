/*
 * One request: the resource, the upstream, and the outcome, for the handlers, the error responses
 * and the access log. Private to registry/. A call belongs to one thread at a time.
 */
#ifndef REGISTRY_CALL_H
#define REGISTRY_CALL_H

#include "base/metric.h"
#include "base/shared.h"
#include "base/trace.h"
#include "registry/page/page.h"
#include "registry/registry.h"
#include "registry/route.h"

enum proxied { PROXIED_MANIFEST, PROXIED_BLOB, PROXIED_TYPES };

/* How requests are counted: "get", "head", "other". */
enum counted_method { COUNTED_GET, COUNTED_HEAD, COUNTED_OTHER, COUNTED_METHODS };
enum { COUNTED_STATUSES = 20 }; /* the statuses of responses that have a place below */

/* What of the configuration a request needs. It never changes. */
struct registry_view {
    struct shared_value value;              /* the first member */
    const struct upstreams *upstreams;      /* held */
    struct rules *rules;                    /* owned; NULL: see the settings */
    struct registry_view_settings settings; /* what it points to is owned */
};

struct registry {
    struct registry_settings settings; /* without those of the view */
    struct shared view;                /* of struct registry_view */
    const struct http_server *server;
    /* Counters of responses, each made when it is first needed; see access.c. */
    _Atomic(struct metric *) answered[ROUTE_KINDS][COUNTED_METHODS][COUNTED_STATUSES];
    struct {
        struct metric *requests, *hits, *misses, *pulled, *pushed;
    } proxied[PROXIED_TYPES];            /* the CNCF registry's names */
    struct metric *seconds[ROUTE_KINDS]; /* histograms of whole requests; NULL: not measured */
    struct metric *first_byte[PROXIED_TYPES][CACHE_OUTCOMES]; /* histograms */
    atomic_bool is_leaving;                                   /* registry_leave() */
    struct page *page;
    struct image_lists *image_lists;
    struct sessions *sessions; /* of uploads */
};

struct catalog_question;
struct image_lists_result;

struct call {
    struct registry *registry;
    struct http_exchange *exchange;
    const struct http_request *request;
    bool must_not_wait;     /* the call is on an event loop */
    struct cancel cancel;   /* of all that waits for the client */
    int64_t gone_since_ms;  /* when the client was first seen to have closed its side; 0: never */
    bool is_of_replica;     /* it has a signature, good or not; it is counted apart */
    enum replica_ask asked; /* what it asks for, whatever its signature is */
    enum replica_ask ask;   /* the same if the signature is good; else NONE */
    enum replica_answer answer;       /* what the replica was told */
    struct clients_identity who;      /* who asks; anonymous before call_admit() */
    const struct registry_view *view; /* held until call_end() */
    struct route route;
    const char *prefix;           /* that was cut off the path; "": none */
    char ns[HOST_LIMIT + 1];      /* the ns parameter, "" when there is none */
    struct repository repository; /* its upstream is NULL before call_name_upstream() */
    bool asks_cache;              /* nothing refused the request before the cache was asked */
    bool has_outcome;
    enum cache_outcome outcome;
    char reference[DIGEST_STRING_SIZE]; /* tag or digest as asked, for the log */
    struct digest digest;               /* of the content, for the log; algorithm 0: not known */
    struct trace trace;                 /* the client's */
    char error[160]; /* the beginning of an error response's message, for the log */
    bool is_failing; /* the next error response is for a failure of the upstream or of tarn */
    int64_t began_us, first_byte_us, ended_us; /* clock_us(); 0: not yet */
    bool is_push;                              /* nothing refused the write before it was begun */
    bool is_mounted;                           /* what was pushed is another repository's blob */
    bool is_handed_on; /* a copy of the call goes on, and call_end() is for that copy */
};

/* ---- registry.c ---- */

/* Whether the request would change something. */
bool call_is_writing(const struct call *call);

/* Counts the call and writes its line of the access log, when its response has ended. The call no
 * longer has a view after that. */
void call_end(struct call *call);

/* ---- view.c ---- */

/* Makes the registry's first view. False: no memory. */
bool view_init(struct registry *registry);
void view_finish(struct registry *registry); /* no call is left */
const struct registry_view *view_hold(struct registry *registry);
/* One more hold on a view that the caller holds. */
const struct registry_view *view_keep(const struct registry_view *view);
void view_release(const struct registry_view *view);

/* ---- access.c ---- */

void access_prepare(struct registry *registry); /* before the first request */
/* Before the first request to one of the upstreams. */
void access_prepare_upstreams(const struct upstreams *upstreams);
/* Each is called once for each request, after its response. */
void access_count(const struct call *call);
void access_log(const struct call *call); /* one line of the access log */

/* Who asks the cache, for a call that may wait. Valid as long as the call. */
struct cache_caller call_caller(const struct call *call);

/* ---- response.c ---- */

/* Adds the fields of every response of the API; before http_respond() or http_begin(). */
void call_add_fields(struct call *call);
/* Adds Docker-Content-Digest, ETag (unless `digest` is NULL), Accept-Ranges and Cache-Status to a
 * response that has content. */
void call_add_content_fields(struct call *call, const struct digest *digest);
const char *call_cache_status(enum cache_outcome outcome); /* the value of Cache-Status */
/* Whether If-None-Match names this digest. */
bool call_would_be_304(const struct call *call, const struct digest *digest);
/* The same. True: 304 was sent. */
bool call_not_modified(struct call *call, const struct digest *digest);
/* Sends an OCI error body. */
void call_fail(struct call *call, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Sends the response to an error of a room below, as "Statuses" in docs/operations.md says. */
void call_fail_error(struct call *call, const struct error *error);
/* The client has left: cuts its connection, instead of a response. */
void call_drop(struct call *call);
/* Tells the page of a body that is cut because of this error. */
void call_note_cut(struct call *call, const struct error *error);
void call_record_outcome(struct call *call, enum cache_outcome outcome);

/* ---- media.c ---- */

enum { MEDIA_TYPE_SIZE = 128 };

/* The type under which a manifest is sent: upstream's, if it is one of manifests. Any other type
 * ("text/html") could make a browser run what upstream sends; then the type is read from the
 * document itself, and is application/octet-stream if that is no manifest. NULL: only the head of
 * the document is known, and its type is unknown. May point into `document` or to `out`. */
const char *media_type_of(const struct document *document, char out[static MEDIA_TYPE_SIZE]);

/* Whether media_type_of() takes too long for an event loop. */
bool media_type_is_costly(const struct document *document);

/* ---- host.c ---- */

/* Whether the name in Host can be meant for this tarn. False: 421 was sent. Never waits. */
bool call_check_host(struct call *call);

/* ---- asked.c ---- */

/* Finds out whether a replica asks. False: its signature is not good, and 401 was sent. Never
 * waits. */
bool call_check_signature(struct call *call);
/* Whether a replica may ask this at all. False: a refusal was sent. */
bool call_may_ask(struct call *call);
/* Whether the request is served although tarn leaves. False: 503 was sent. */
bool call_check_leaving(struct call *call);
/* Adds what a replica is told (Tarn-Answer), and how old a document is and may become (Age,
 * Cache-Control). Nothing is added for clients. Before the response. */
void call_set_answer(struct call *call, enum replica_answer answer);
void call_set_error_answer(struct call *call, const struct error *error);
void call_set_life(struct call *call, int64_t age_ms, int64_t max_age_ms);
/* The same of a blob that is held, if upstream is to confirm its link from time to time. */
void call_set_link_life(struct call *call);
/* Sends the answer to a replica that asks whether something is arriving, which it is not. */
void call_answer_no(struct call *call);
/* The order of another replica's `tarn rm`. Returns as the handlers below. */
bool call_handle_forget(struct call *call);
/* What another replica says that was written to upstream (renewal.c). Returns as those. */
bool call_handle_renew(struct call *call);
/* Counts a request of a replica, after its response. */
void call_count_ask(const struct call *call);

/* ---- admit.c ---- */

enum admission {
    ADMISSION_GIVEN,
    ADMISSION_REFUSED,   /* the refusal was sent */
    ADMISSION_MUST_WAIT, /* only a worker can tell; nothing has been sent */
};

/* Finds out who asks. A client that has not logged in goes on where the rules may allow it. */
enum admission call_admit(struct call *call);

/* Whether the client may read the repository: what it may not read must not be listed either. Never
 * waits. */
bool call_may_read(const struct call *call, const struct repository_name *repository);
/* Whether call_may_read() allows everything. */
bool call_sees_all(const struct call *call);

/* Whether the client may read the repository that the request names. False: 401 or 403 was sent. */
bool call_check_rules(struct call *call);

/* The same for a list of a whole Artifact Registry repository, of whose images the client may read
 * some. Before upstream is asked: whether there may be any. False: a login was asked for. */
bool call_may_list_some(struct call *call);
/* When the client may read none of them: whether it may read the repository itself, so that the
 * list is empty. False: 401 or 403 was sent. */
bool call_check_rules_of_list(struct call *call);

/* Whether the client may write to the repository, and the upstream takes pushes. Never waits. */
bool call_may_push(const struct call *call);
/* Whether the client may do what it asks for. False: 401 or 403 was sent. */
bool call_check_push(struct call *call);

/* ---- push.c, push_manifest.c ---- */

/* Answers a request that writes. False: it must wait. */
bool call_handle_push(struct call *call);
/* PUT and DELETE of what a repository holds; they wait. */
void call_put_manifest(struct call *call);
void call_delete(struct call *call);

/* ---- push_answer.c ---- */

/* Whether the status of a response to a write is upstream's word about what the client wants. The
 * others are about tarn's own request: its credential, its time, its range. */
bool call_is_refusal(int status);
/* Sends the error of a write: upstream's own refusals as they are. */
void call_fail_write(struct call *call, const struct error *error);
/* Adds a Location below the repository, named as the client names it: "blobs/DIGEST". `query` may
 * be
 * "". */
void call_add_location(struct call *call, const char *rest, const char *query);

/* ---- hand_on.c ---- */

/* Hands the request to an upload on to the replica that holds it, and answers. False: the replica
 * is gone, and nothing of the body was taken. */
bool call_hand_on_upload(struct call *call, const struct member *holder);

/* ---- name.c ---- */

/* Finds the repository that the route's name means. False: an error was sent. */
bool call_name_upstream(struct call *call);

/* Sends the error of a name that means no repository. */
void call_fail_name(struct call *call, const struct error *error);

/* ---- handlers ---- */

/* Each returns true when it has answered. False: the answer must wait and call->must_not_wait is
 * set; nothing has been sent. */
bool call_handle_manifest(struct call *call);
bool call_handle_blob(struct call *call);
bool call_handle_tags(struct call *call);
bool call_handle_referrers(struct call *call);
bool call_handle_catalog(struct call *call); /* it always waits for the disk */

/* The list of images of the repository that `question` names, by its source. */
bool call_find_images(struct call *call, const struct catalog_question *question,
                      struct image_lists_result *result, struct error *error);
bool call_handle_images(struct call *call);

/* Whether the name begins with a host, as those of indexes must. False: an error was sent. The
 * host that a parameter names is ignored. */
bool call_check_streaming_name(struct call *call);
/* Indexes of a repository's layers and images, copies and traces. */
bool call_handle_streaming(struct call *call);
bool call_handle_chain(struct call *call);

/* /?images=HOST/NAME */
bool call_handle_images_page(struct call *call, const struct page_visitor *visitor);

bool call_handle_page(struct call *call);
/* Sends a page with the fields that each has. */
void call_respond_page(struct call *call, int status, const struct buffer *body);

struct page *page_make(struct registry *registry); /* NULL: out of memory */

/* These never wait. */
void call_handle_page_file(struct call *call);
void call_handle_flights(struct call *call);
void call_handle_replicas(struct call *call);
void call_handle_metrics(struct call *call);
void call_handle_ready(struct call *call);

#endif
