/* All upstreams: those of the configuration, and the hosts that its patterns have matched. */
#include "upstream/upstream.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>
#include "auth/docker_config.h"
#include "oci/reference.h"
#include "upstream/upstream_private.h"

enum {
    /* Hosts that patterns have matched, because a client can name any number of them. */
    MATCHED_LIMIT = 4096,
};

#define HUB_HOST "docker.io"
#define HUB_URL  "https://registry-1.docker.io"

struct upstreams {
    struct client *client;
    const struct upstream_settings *settings;
    size_t count;
    struct upstream *default_upstream;
    struct lock hosts_lock;   /* guards by_host and matched, but not the upstreams in by_host,
                               * which stay where they are until upstreams_free() */
    struct upstream *by_host; /* exact hosts, and hosts that patterns have matched */
    unsigned matched;
};

/* ---- one upstream ---- */

static void upstream_free(struct upstream *upstream) {
    for (unsigned i = 0; i < upstream->locations_count; i++)
        authorizer_finish(&upstream->authorizers[i]);
    free(upstream->authorizers);
    lanes_finish(&upstream->lanes);
    queue_finish(&upstream->queue);
    free(upstream);
}

/*
 * The upstream's credentials go to its url. A fallback on another host gets that host's own
 * credentials, if the source has some for each host. A password or a Google token that was given
 * for the upstream is not shown to its mirrors (design, promise 8).
 */
static void give_credentials(struct upstream *upstream) {
    struct credential_source *source = upstream->settings.credentials;
    struct location *main = &upstream->authorizers[0].location;
    for (unsigned i = 0; i < upstream->locations_count; i++) {
        struct location *location = &upstream->authorizers[i].location;
        bool own = origin_equal(&location->origin, &main->origin);
        if (own) {
            memcpy(location->credential_host, upstream->host, sizeof upstream->host);
            memcpy(location->service, upstream->host, sizeof upstream->host);
        }
        if (own || credential_source_is_by_host(source))
            location->credentials = source;
    }
}

static void make_metrics(struct upstream *upstream) {
    snprintf(upstream->label, sizeof upstream->label, "upstream=\"%s\"", upstream->host);
    upstream->bytes = metric_get(METRIC_COUNTER, "tarn_upstream_bytes_total",
                                 "Bytes of bodies received from upstream.", upstream->label);
    upstream->retries = metric_get(METRIC_COUNTER, "tarn_upstream_retries_total",
                                   "Requests to upstream that were tried again.", upstream->label);
    struct metric *tokens = metric_get(METRIC_COUNTER, "tarn_token_requests_total",
                                       "Requests to token services.", upstream->label);
    for (unsigned i = 0; i < upstream->locations_count; i++)
        upstream->authorizers[i].location.token_requests = tokens;
}

static bool add_location(struct upstream *upstream, const char *url, bool configured,
                         struct error *error) {
    struct authorizer *authorizer = &upstream->authorizers[upstream->locations_count];
    struct location *location = &authorizer->location;
    location->client = upstream->client;
    location->settings = &upstream->settings;
    location->configured = configured;
    const char *prefix = upstream->locations_count == 0 ? upstream->settings.prefix : NULL;
    if (!location_init(location, url, prefix, error)) {
        location_finish(location);
        return false;
    }
    authorizer_init(authorizer);
    upstream->locations_count++;
    return true;
}

/* Adds every location: the url, which is "https://HOST" unless it is set, then the fallbacks. */
static bool add_locations(struct upstream *upstream, bool is_pattern, struct error *error) {
    const struct upstream_settings *settings = &upstream->settings;
    char own[ORIGIN_HOST_SIZE + 16];
    size_t count = 1;
    while (settings->fallbacks && settings->fallbacks[count - 1])
        count++;
    upstream->authorizers = calloc(count, sizeof *upstream->authorizers);
    if (!upstream->authorizers)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (upstream_is_docker_hub(upstream))
        snprintf(own, sizeof own, "%s", HUB_URL);
    else
        snprintf(own, sizeof own, "https://%s", upstream->host);
    if (!add_location(upstream, settings->url ? settings->url : own, settings->url || !is_pattern,
                      error))
        return false;
    for (size_t i = 0; i + 1 < count; i++) {
        if (!add_location(upstream, settings->fallbacks[i], true, error))
            return false;
    }
    return true;
}

static struct upstream *upstream_new(struct client *client, const char *host,
                                     const struct upstream_settings *settings, bool is_pattern,
                                     struct error *error) {
    struct upstream *upstream = calloc(1, sizeof *upstream);
    if (!upstream) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    upstream->client = client;
    snprintf(upstream->host, sizeof upstream->host, "%s", host);
    upstream->settings = *settings;
    queue_init(&upstream->queue, upstream->settings.max_connections);
    lanes_init(&upstream->lanes, client);
    if (!add_locations(upstream, is_pattern, error)) {
        error_wrap(error, "upstream %s", host);
        upstream_free(upstream);
        return NULL;
    }
    give_credentials(upstream);
    return upstream;
}

/* ---- names ---- */

bool upstream_canonical_host(struct text text, char out[static HOST_LIMIT + 1]) {
    if (!reference_is_host(text) || !text_copy(text, out, HOST_LIMIT + 1))
        return false;
    for (char *c = out; *c; c++)
        *c = (char)tolower((unsigned char)*c);
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

/* A `*` stands for letters within one label: labels take the place of a path's parts. A pattern
 * matches neither an address nor a name without a dot. */
static bool pattern_matches(const char *pattern, const char *host) {
    char labels[ORIGIN_HOST_SIZE], name[ORIGIN_HOST_SIZE], bare[ORIGIN_HOST_SIZE];
    snprintf(bare, sizeof bare, "%.*s", (int)strcspn(host, ":"), host);
    if (host[0] == '[' || address_is_literal(bare) || !strchr(bare, '.'))
        return false;
    snprintf(labels, sizeof labels, "%s", pattern);
    snprintf(name, sizeof name, "%s", host);
    for (char *c = labels; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    swap_dots(labels);
    swap_dots(name);
    return text_matches_glob(labels, text_of(name));
}

/* Whether the pattern is a host with stars in it: no "**", and at least one dot. */
static bool pattern_is_sound(const char *pattern) {
    char host[ORIGIN_HOST_SIZE];
    if (strlen(pattern) >= sizeof host || strstr(pattern, "**") || strchr(pattern, '?') ||
        !strchr(pattern, '.'))
        return false;
    snprintf(host, sizeof host, "%s", pattern);
    for (char *c = host; *c; c++)
        *c = *c == '*' ? 'a' : *c;
    return reference_is_host(text_of(host));
}

/* ---- all of them ---- */

static struct upstream *find_listed(const struct upstreams *upstreams, const char *host) {
    struct upstream *upstream = NULL;
    HASH_FIND_STR(upstreams->by_host, host, upstream);
    return upstream;
}

/* Adds the upstream under its host. False: out of memory; the upstream is freed. */
static bool enter(struct upstreams *upstreams, struct upstream *upstream) {
    HASH_ADD_STR(upstreams->by_host, host, upstream);
    if (upstream->hh.tbl)
        return true;
    upstream_free(upstream);
    return false;
}

static bool check_pattern(struct client *client, const struct upstream_settings *settings,
                          struct error *error) {
    if (!pattern_is_sound(settings->host))
        return error_set(error, ERROR_INVALID,
                         "upstream \"%.100s\": neither a host nor a pattern of hosts (a * stands "
                         "for letters within one label, as in *.pkg.dev)",
                         settings->host);
    if (settings->is_default)
        return error_set(error, ERROR_INVALID,
                         "upstream \"%.100s\": a pattern cannot be the default", settings->host);
    /* A wrong URL is an error now, and not at the first request. */
    struct upstream *trial = upstream_new(client, "pattern.invalid", settings, true, error);
    if (trial)
        upstream_free(trial);
    return trial != NULL;
}

static bool add_exact(struct upstreams *upstreams, const struct upstream_settings *settings,
                      struct error *error) {
    char host[ORIGIN_HOST_SIZE];
    if (!upstream_canonical_host(text_of(settings->host), host))
        return error_set(error, ERROR_INVALID,
                         "upstream \"%.100s\": neither a host name nor an address", settings->host);
    if (find_listed(upstreams, host))
        return error_set(error, ERROR_INVALID, "upstream %s is configured twice", host);
    if (settings->is_default && upstreams->default_upstream)
        return error_set(error, ERROR_INVALID, "upstreams %s and %s are both the default",
                         upstreams->default_upstream->host, host);
    struct upstream *upstream = upstream_new(upstreams->client, host, settings, false, error);
    if (!upstream)
        return false;
    make_metrics(upstream);
    if (!enter(upstreams, upstream))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (settings->is_default)
        upstreams->default_upstream = upstream;
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
    upstreams->settings = settings;
    upstreams->count = count;
    lock_init(&upstreams->hosts_lock);
    for (size_t i = 0; i < count; i++) {
        credential_source_set_client(settings[i].credentials, client);
        bool ok = is_pattern(settings[i].host) ? check_pattern(client, &settings[i], error)
                                               : add_exact(upstreams, &settings[i], error);
        if (!ok) {
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
    HASH_ITER (hh, upstreams->by_host, upstream, next) {
        HASH_DEL(upstreams->by_host, upstream);
        upstream_free(upstream);
    }
    lock_finish(&upstreams->hosts_lock);
    free(upstreams);
}

/* The upstream of a host that a pattern matches; it is made when the host is first asked for. */
static struct upstream *match(struct upstreams *upstreams, const char *host) {
    const struct upstream_settings *settings = NULL;
    for (size_t i = 0; i < upstreams->count && !settings; i++) {
        const struct upstream_settings *candidate = &upstreams->settings[i];
        if (is_pattern(candidate->host) && pattern_matches(candidate->host, host))
            settings = candidate;
    }
    if (!settings)
        return NULL;
    lock_acquire(&upstreams->hosts_lock);
    struct upstream *upstream =
        find_listed(upstreams, host); /* another thread may have made it meanwhile */
    if (!upstream && upstreams->matched < MATCHED_LIMIT) {
        upstream = upstream_new(upstreams->client, host, settings, true, NULL);
        if (upstream) {
            make_metrics(upstream);
            if (enter(upstreams, upstream))
                upstreams->matched++;
            else
                upstream = NULL;
        }
    }
    lock_release(&upstreams->hosts_lock);
    return upstream;
}

struct upstream *upstreams_find(struct upstreams *upstreams, struct text text) {
    char host[ORIGIN_HOST_SIZE];
    if (!upstream_canonical_host(text, host))
        return NULL;
    lock_acquire(&upstreams->hosts_lock);
    struct upstream *upstream = find_listed(upstreams, host);
    lock_release(&upstreams->hosts_lock);
    return upstream ? upstream : match(upstreams, host);
}

/* A canonical host without its port. */
static bool bare_host(struct text text, char out[static HOST_LIMIT + 1]) {
    if (!upstream_canonical_host(text, out))
        return false;
    char *port = out[0] == '[' ? strstr(out, "]:") : strchr(out, ':');
    if (port)
        port[out[0] == '['] = '\0';
    return true;
}

bool upstreams_know(const struct upstreams *upstreams, struct text text) {
    char host[HOST_LIMIT + 1], listed[HOST_LIMIT + 1], pattern[HOST_LIMIT + 1];
    if (!bare_host(text, host))
        return false;
    for (size_t i = 0; i < upstreams->count; i++) {
        const char *name = upstreams->settings[i].host;
        if (!is_pattern(name)) {
            if (bare_host(text_of(name), listed) && strcmp(listed, host) == 0)
                return true;
            continue;
        }
        snprintf(pattern, sizeof pattern, "%.*s", (int)strcspn(name, ":"), name);
        if (pattern_matches(pattern, host))
            return true;
    }
    return false;
}

struct upstream *upstreams_default(struct upstreams *upstreams) {
    return upstreams->default_upstream;
}

/* ---- one upstream's properties ---- */

const char *upstream_host(const struct upstream *upstream) {
    return upstream->host;
}

const struct upstream_settings *upstream_settings(const struct upstream *upstream) {
    return &upstream->settings;
}

_Atomic(struct metric *) *upstream_counters(struct upstream *upstream) {
    return upstream->counters;
}

struct upstream_held *upstream_held(struct upstream *upstream) {
    return &upstream->held;
}

bool upstream_is_docker_hub(const struct upstream *upstream) {
    return strcmp(upstream->host, HUB_HOST) == 0;
}

bool upstream_allows(const struct upstream *upstream, const char *repository) {
    const char *const *globs = upstream->settings.repositories;
    if (!globs)
        return true;
    for (; *globs; globs++) {
        if (text_matches_glob(*globs, text_of(repository)))
            return true;
    }
    return false;
}

void upstream_target_finish(struct upstream_target *target) {
    free(target->url);
    *target = (struct upstream_target){0};
}

unsigned upstream_places(const struct upstream *upstream) {
    return upstream->locations_count;
}
