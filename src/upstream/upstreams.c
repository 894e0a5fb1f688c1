/* All upstreams: the entries of the configuration, and which of them a host means. */
#include "upstream/upstream.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>
#include "auth/docker_config.h"
#include "base/clock.h"
#include "oci/reference.h"
#include "upstream/upstream_private.h"

#define HUB_HOST "docker.io"

struct upstreams {
    struct client *client;
    /* Made once: a host is looked up without a lock. */
    struct upstream *by_name;
    struct upstream *default_upstream;
    struct peers peers;
};

/* ---- one upstream ---- */

static void upstream_free(struct upstream *upstream) {
    struct peer *peer, *next;
    if (!upstream)
        return;
    HASH_ITER (hh, upstream->peers, peer, next) {
        HASH_DEL(upstream->peers, peer);
        peer_free(peer);
    }
    peer_free(upstream->own);
    health_finish(&upstream->health);
    free(upstream);
}

/* Frees an entry and the others of its name. */
static void free_all(struct upstream *upstream) {
    while (upstream) {
        struct upstream *next = upstream->next;
        upstream_free(upstream);
        upstream = next;
    }
}

static void make_metrics(struct upstream *upstream) {
    counts_init(&upstream->counts, upstream->name);
    health_name(&upstream->health, upstream->name, upstream->counts.label);
}

/* ---- names ---- */

static void lower(char *text) {
    for (; *text; text++)
        *text = (char)tolower((unsigned char)*text);
}

bool upstream_canonical_host(struct text text, char out[static HOST_LIMIT + 1]) {
    if (!reference_is_host(text) || !text_copy(text, out, HOST_LIMIT + 1))
        return false;
    lower(out);
    if (text_ends(text_of(out), ":443"))
        out[strlen(out) - 4] = '\0';
    if (docker_config_is_hub(out))
        memcpy(out, HUB_HOST, sizeof HUB_HOST);
    return true;
}

static bool is_pattern(const char *host) {
    return strchr(host, '*') != NULL;
}

static void swap_dots(char *name) {
    for (; *name; name++) {
        if (*name == '.')
            *name = '/';
    }
}

/* A host as patterns are compared with it: labels take the place of a path's parts, because a `*`
 * stands for letters within one label. False: no pattern matches it, because it is an address or a
 * name without a dot. */
static bool labels_of(const char *host, char out[static HOST_LIMIT + 1]) {
    snprintf(out, HOST_LIMIT + 1, "%.*s", (int)strcspn(host, ":"), host);
    if (host[0] == '[' || address_is_literal(out) || !strchr(out, '.'))
        return false;
    snprintf(out, HOST_LIMIT + 1, "%s", host);
    swap_dots(out);
    return true;
}

/* Whether the pattern is a host with stars in it: no "**", and at least one dot. */
static bool pattern_is_sound(const char *pattern) {
    char host[HOST_LIMIT + 1];
    if (strlen(pattern) >= sizeof host || strstr(pattern, "**") || strchr(pattern, '?') ||
        !strchr(pattern, '.'))
        return false;
    snprintf(host, sizeof host, "%s", pattern);
    for (char *c = host; *c; c++)
        *c = *c == '*' ? 'a' : *c;
    return reference_is_host(text_of(host));
}

/* ---- all of them ---- */

static bool check_pattern(const struct upstream_settings *settings, struct error *error) {
    if (!pattern_is_sound(settings->host))
        return error_set(error, ERROR_INVALID,
                         "upstream \"%.100s\": neither a host nor a pattern of hosts (a * stands "
                         "for letters within one label, as in *.pkg.dev)",
                         settings->host);
    return !settings->is_default ||
           error_set(error, ERROR_INVALID, "upstream \"%.100s\": a pattern cannot be the default",
                     settings->host);
}

/* Sets name and pattern. */
static bool name_upstream(struct upstream *upstream, struct error *error) {
    const struct upstream_settings *settings = &upstream->settings;
    if (!is_pattern(settings->host))
        return upstream_canonical_host(text_of(settings->host), upstream->name) ||
               error_set(error, ERROR_INVALID,
                         "upstream \"%.100s\": neither a host name nor an address", settings->host);
    if (!check_pattern(settings, error))
        return false;
    snprintf(upstream->name, sizeof upstream->name, "%s", settings->host);
    lower(upstream->name);
    memcpy(upstream->pattern, upstream->name, sizeof upstream->name);
    swap_dots(upstream->pattern);
    return true;
}

/* Makes the one peer of a host, or tries a pattern's settings, so that a wrong URL is an error now
 * and not at the first request. */
static bool make_peer(struct upstream *upstream, struct error *error) {
    const char *host = upstream->pattern[0] ? "pattern.invalid" : upstream->name;
    struct peer *peer = peer_new(upstream, host, error);
    if (!peer)
        return false;
    if (upstream->pattern[0])
        peer_free(peer);
    else
        upstream->own = peer;
    return true;
}

static struct upstream *upstream_new(struct upstreams *upstreams,
                                     const struct upstream_settings *settings,
                                     struct error *error) {
    struct upstream *upstream = calloc(1, sizeof *upstream);
    if (!upstream) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    health_init(&upstream->health);
    upstream->client = upstreams->client;
    upstream->peers_of_all = &upstreams->peers;
    upstream->settings = *settings;
    upstream->locations_count = 1;
    while (settings->fallbacks && settings->fallbacks[upstream->locations_count - 1])
        upstream->locations_count++;
    if (name_upstream(upstream, error)) {
        make_metrics(upstream);
        if (make_peer(upstream, error))
            return upstream;
    }
    upstream_free(upstream);
    return NULL;
}

/* Adds an entry behind the others of its name. */
static bool append(struct upstream *first, struct upstream *upstream, struct error *error) {
    struct upstream *last = first;
    for (struct upstream *earlier = first; earlier; earlier = earlier->next) {
        if (upstream_settings_same_repositories(&earlier->settings, &upstream->settings))
            return error_set(error, ERROR_INVALID,
                             "upstream %s is configured twice for the same repositories",
                             upstream->name);
        last = earlier;
    }
    last->next = upstream;
    return true;
}

static bool enter(struct upstreams *upstreams, struct upstream *upstream, struct error *error) {
    struct upstream *first = NULL;
    const struct upstream *chosen = upstreams->default_upstream;
    HASH_FIND_STR(upstreams->by_name, upstream->name, first);
    if (upstream->settings.is_default && chosen && chosen != first)
        return error_set(error, ERROR_INVALID, "upstreams %s and %s are both the default",
                         chosen->name, upstream->name);
    if (first) {
        if (!append(first, upstream, error))
            return false;
    } else {
        HASH_ADD_STR(upstreams->by_name, name, upstream);
        if (!upstream->hh.tbl)
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    if (upstream->settings.is_default)
        upstreams->default_upstream = first ? first : upstream;
    return true;
}

struct upstreams *upstreams_new(struct client *client, const struct upstream_settings *settings,
                                size_t count, struct error *error) {
    struct upstreams *upstreams = calloc(1, sizeof *upstreams);
    if (!upstreams) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    upstreams->client = client;
    peers_init(&upstreams->peers);
    for (size_t i = 0; i < count; i++) {
        credential_source_set_client(settings[i].credentials, client);
        struct upstream *upstream = upstream_new(upstreams, &settings[i], error);
        if (!upstream || !enter(upstreams, upstream, error)) {
            upstream_free(upstream);
            upstreams_free(upstreams);
            return NULL;
        }
    }
    return upstreams;
}

void upstreams_free(struct upstreams *upstreams) {
    if (!upstreams)
        return;
    struct upstream *upstream, *next;
    HASH_ITER (hh, upstreams->by_name, upstream, next) {
        HASH_DEL(upstreams->by_name, upstream);
        free_all(upstream);
    }
    peers_finish(&upstreams->peers);
    free(upstreams);
}

/* The first pattern that matches. uthash iterates in the order of the configuration. */
static struct upstream *match(const struct upstreams *upstreams, const char *host) {
    char labels[HOST_LIMIT + 1];
    if (!labels_of(host, labels))
        return NULL;
    for (struct upstream *upstream = upstreams->by_name; upstream; upstream = upstream->hh.next) {
        if (upstream->pattern[0] && text_matches_glob(upstream->pattern, text_of(labels)))
            return upstream;
    }
    return NULL;
}

struct upstream *upstreams_find(const struct upstreams *upstreams, struct text host,
                                char canonical[static HOST_LIMIT + 1]) {
    struct upstream *upstream = NULL;
    if (!upstream_canonical_host(host, canonical))
        return NULL;
    HASH_FIND_STR(upstreams->by_name, canonical, upstream);
    return upstream ? upstream : match(upstreams, canonical);
}

/* A name or a pattern without its port. */
static void cut_port(char *host) {
    char *port = host[0] == '[' ? strstr(host, "]:") : strchr(host, ':');
    if (port)
        port[host[0] == '['] = '\0';
}

bool upstreams_know(const struct upstreams *upstreams, struct text text) {
    char host[HOST_LIMIT + 1], labels[HOST_LIMIT + 1], name[HOST_LIMIT + 1];
    if (!upstream_canonical_host(text, host))
        return false;
    cut_port(host);
    bool may_match = labels_of(host, labels);
    for (const struct upstream *upstream = upstreams->by_name; upstream;
         upstream = upstream->hh.next) {
        bool is_host = upstream->pattern[0] == '\0';
        memcpy(name, is_host ? upstream->name : upstream->pattern, sizeof name);
        cut_port(name);
        if (is_host ? strcmp(name, host) == 0
                    : may_match && text_matches_glob(name, text_of(labels)))
            return true;
    }
    return false;
}

struct upstream *upstreams_default(const struct upstreams *upstreams) {
    return upstreams->default_upstream;
}

/* ---- one upstream's properties ---- */

const char *upstream_name(const struct upstream *upstream) {
    return upstream->name;
}

const struct upstream_settings *upstream_settings(const struct upstream *upstream) {
    return &upstream->settings;
}

_Atomic(struct metric *) *upstream_counters(struct upstream *upstream) {
    return upstream->counters;
}

struct upstream *upstreams_next(const struct upstreams *upstreams, const struct upstream *before) {
    if (!before)
        return upstreams->by_name;
    if (before->next)
        return before->next;
    struct upstream *first = NULL; /* with the same name; only that one is in the table */
    HASH_FIND_STR(upstreams->by_name, before->name, first);
    return first->hh.next;
}

bool upstream_is_asked(struct upstream *upstream, char reason[static UPSTREAM_REASON_SIZE]) {
    return health_is_good(&upstream->health, reason);
}

struct upstream_held *upstream_held(struct upstream *upstream) {
    return &upstream->held;
}

enum { RECOVER_MS = 30000 }; /* after which one more request at once is allowed again */

unsigned upstream_connections(const struct upstream *upstream) {
    const unsigned most = upstream->settings.connections;
    const unsigned lowered = atomic_load(&upstream->connections);
    if (lowered == 0)
        return most;
    int64_t recovered = (clock_ms() - atomic_load(&upstream->lowered_ms)) / RECOVER_MS;
    return recovered < (int64_t)most - lowered ? lowered + (unsigned)recovered : most;
}

void upstream_lower_connections(struct upstream *upstream, unsigned connections) {
    atomic_store(&upstream->lowered_ms, clock_ms());
    atomic_store(&upstream->connections, connections > 0 ? connections : 1);
}

bool upstream_is_docker_hub(const struct upstream *upstream) {
    return strcmp(upstream->name, HUB_HOST) == 0;
}

/* The length of the longest glob that matches; 0: the entry serves all; -1: it does not serve this
 * repository. */
static int match_repository(const struct upstream *upstream, const char *repository) {
    const char *const *globs = upstream->settings.repositories;
    int longest = globs ? -1 : 0;
    for (; globs && *globs; globs++) {
        int length = (int)strlen(*globs);
        if (length > longest && text_matches_glob(*globs, text_of(repository)))
            longest = length;
    }
    return longest;
}

struct upstream *upstream_for(struct upstream *upstream, const char *repository) {
    struct upstream *best = NULL;
    int longest = -1;
    for (; upstream; upstream = upstream->next) {
        int length = match_repository(upstream, repository);
        if (length > longest) {
            longest = length;
            best = upstream;
        }
    }
    return best;
}

void upstream_target_finish(struct upstream_target *target) {
    free(target->url);
    *target = (struct upstream_target){0};
}

unsigned upstream_places(const struct upstream *upstream) {
    return upstream->locations_count;
}
