/*
 * The distribution API for pulling (distribution-spec), the pages beside it, and the access log.
 * The only room that knows /v2 URLs and OCI error codes, and that turns errors into statuses.
 *
 * Threads: registry_handle() is called by many workers at once, and registry_handle_now() by every
 * event loop.
 */
#ifndef REGISTRY_REGISTRY_H
#define REGISTRY_REGISTRY_H

#include "cache/cache.h"
#include "http/http.h"
#include "login/clients.h"
#include "registry/rules.h"
#include "replica/asker.h"
#include "replica/replicas.h"
#include "store/store.h"
#include "upstream/current.h"

/* What of the settings may change while the registry runs. */
struct registry_view_settings {
    struct clients *clients; /* NULL: nobody can log in; the view holds a reference */
    const char *path_prefix; /* in front of paths, without a slash at its end; NULL: none; copied */
    const char *const *server_names; /* further names in Host on loopback; NULL: none; copied */
    bool ignore_ns;                  /* as if no request had the parameter ns */
    bool log_requests;               /* whether each request gets a line in the log */
    const struct rule *rules; /* NULL: whoever has logged in may read all, and without `clients`
                                 everybody; copied */
    size_t rule_count;
    uint64_t max_size;     /* bytes of the cache, for the page; 0: no limit */
    int64_t images_ttl_ms; /* how long a list of images is served without asking upstream */
    uint64_t max_blob;     /* bytes that a client may push as one blob; 0: no limit */
};

/* Settings with every default. */
struct registry_view_settings registry_view_settings_default(void);

struct registry_settings {
    struct cache *cache;
    struct store *store;
    struct current_upstreams *upstreams;
    struct catalog *catalog;     /* lists the images of repositories */
    bool is_tls;                 /* clients come with https; for the page */
    struct replicas *replicas;   /* that may ask this tarn, and for the pages; NULL: none */
    struct replica_asker *asker; /* asks them; NULL: none */
    /* Removes the images that the name (HOST/NAME[:TAG], HOST/NAME@DIGEST) means from this tarn
     * alone, because a replica says so. *had_any: there were some. May wait. NULL without replicas.
     */
    bool (*forget)(void *context, const char *name, bool *had_any, struct error *error);
    void *forget_context;
    struct registry_view_settings view;
};

struct registry;

/* Everything in `settings` must outlive the registry. NULL when out of memory. */
struct registry *registry_new(const struct registry_settings *settings);
void registry_free(struct registry *registry); /* stops it first */
/* Starts the thread of the page at /, after the process is confined. registry_stop() waits for its
 * end, and for questions about images; it is allowed without a start. False: a question would not
 * end in some seconds, so nothing that it uses may be freed. */
bool registry_start(struct registry *registry, struct error *error);
bool registry_stop(struct registry *registry);
/* As cache_stop(): no request waits for a list of images any more. */
void registry_end_waits(struct registry *registry);
/* From now on only replicas are served, and everybody else gets 503. Any thread. */
void registry_leave(struct registry *registry);
void registry_set_server(struct registry *registry,
                         const struct http_server *server); /* for metrics */

/*
 * The view is what of the configuration a request needs: the upstreams and the settings above. A
 * request holds the view that it found when it began (base/shared.h). registry_prepare() makes
 * another one, NULL without memory. registry_change() takes it over, with the set of upstreams that
 * is then the current one, and cannot fail. registry_sweep() frees what no request holds any more.
 * From one thread at a time.
 */
struct registry_view;
struct registry_view *registry_prepare(const struct registry_view_settings *settings);
void registry_give_up(struct registry_view *prepared); /* NULL is allowed */
void registry_change(struct registry *registry, struct registry_view *prepared);
void registry_sweep(struct registry *registry);

/* For struct http_server_settings: `context` is the registry. registry_handle_now() answers what is
 * in memory, health, metrics and errors. registry_refused() counts and logs what the server has
 * answered itself. */
void registry_handle(void *context, struct http_exchange *exchange);
bool registry_handle_now(void *context, struct http_exchange *exchange);
void registry_refused(void *context, struct http_exchange *exchange, const char *why);

#endif
