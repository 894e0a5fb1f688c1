/* One upstream: an entry of the configuration, its life and its properties. */
#include "upstream/upstream.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "auth/docker_config.h"
#include "base/clock.h"
#include "client/address.h"
#include "oci/reference.h"
#include "upstream/upstream_private.h"

#define HUB_HOST "docker.io"

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

bool upstream_labels_of(const char *host, char out[static HOST_LIMIT + 1]) {
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

/* ---- life ---- */

static void make_metrics(struct upstream *upstream) {
    counts_init(&upstream->counts, upstream->name);
    health_name(&upstream->health, upstream->name, upstream->counts.label);
}

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

bool upstream_name_of(const struct upstream_settings *settings, char out[static HOST_LIMIT + 1]) {
    if (!is_pattern(settings->host))
        return upstream_canonical_host(text_of(settings->host), out);
    bool fits = text_copy(text_of(settings->host), out, HOST_LIMIT + 1);
    lower(out);
    return fits;
}

/* Sets name and pattern. */
static bool name_upstream(struct upstream *upstream, struct error *error) {
    const struct upstream_settings *settings = &upstream->settings;
    bool is_named = upstream_name_of(settings, upstream->name);
    if (!is_pattern(settings->host))
        return is_named ||
               error_set(error, ERROR_INVALID,
                         "upstream \"%.100s\": neither a host name nor an address", settings->host);
    if (!check_pattern(settings, error))
        return false;
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
    credential_source_free(upstream->settings.credentials);
    free(upstream->settings_memory);
    free(upstream);
}

static bool fill(struct upstream *upstream, const struct upstream_settings *settings,
                 struct error *error) {
    upstream->settings_memory = upstream_settings_copy(settings, &upstream->settings);
    upstream->settings.credentials = credential_source_keep(settings->credentials);
    if (!upstream->settings_memory)
        return error_set(error, ERROR_MEMORY, "out of memory");
    upstream->locations_count = 1;
    while (settings->fallbacks && settings->fallbacks[upstream->locations_count - 1])
        upstream->locations_count++;
    if (!name_upstream(upstream, error))
        return false;
    make_metrics(upstream);
    credential_source_set_client(upstream->settings.credentials, upstream->client);
    return make_peer(upstream, error);
}

struct upstream *upstream_new(struct upstream_commons *commons,
                              const struct upstream_settings *settings, struct error *error) {
    struct upstream *upstream = calloc(1, sizeof *upstream);
    if (!upstream) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    atomic_init(&upstream->references, 1);
    health_init(&upstream->health);
    upstream->client = commons->client;
    upstream->commons = commons;
    upstream->peers_of_all = &commons->peers;
    if (!fill(upstream, settings, error)) {
        upstream_free(upstream);
        return NULL;
    }
    lock_acquire(&commons->peers.peers_lock);
    DL_APPEND2(commons->entries, upstream, before, after);
    lock_release(&commons->peers.peers_lock);
    return upstream;
}

struct upstream *upstream_keep(struct upstream *upstream) {
    atomic_fetch_add_explicit(&upstream->references, 1, memory_order_relaxed);
    return upstream;
}

/* The entry stays in the list of all until somebody sweeps it, who may wait. */
void upstream_release(struct upstream *upstream) {
    if (upstream)
        atomic_fetch_sub_explicit(&upstream->references, 1, memory_order_acq_rel);
}

/* Takes the entries without references out of the list. Under the lock nobody gives one a new
 * reference: peers.c does so only under the same lock, and everybody else has one already. */
static struct upstream *take_unused(struct upstream_commons *commons) {
    struct upstream *upstream, *following, *unused = NULL;
    lock_acquire(&commons->peers.peers_lock);
    DL_FOREACH_SAFE2(commons->entries, upstream, following, after) {
        if (atomic_load(&upstream->references) > 0)
            continue;
        DL_DELETE2(commons->entries, upstream, before, after);
        peers_forget(&commons->peers, upstream);
        DL_APPEND2(unused, upstream, before, after);
    }
    lock_release(&commons->peers.peers_lock);
    return unused;
}

void upstream_sweep(struct upstream_commons *commons) {
    struct upstream *upstream, *following, *unused = take_unused(commons);
    DL_FOREACH_SAFE2(unused, upstream, following, after)
    upstream_free(upstream);
}

/* ---- properties ---- */

const char *upstream_name(const struct upstream *upstream) {
    return upstream->name;
}

const struct upstream_settings *upstream_settings(const struct upstream *upstream) {
    return &upstream->settings;
}

_Atomic(struct metric *) *upstream_counters(struct upstream *upstream) {
    return upstream->counters;
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

void upstream_target_finish(struct upstream_target *target) {
    free(target->url);
    *target = (struct upstream_target){0};
}

unsigned upstream_places(const struct upstream *upstream) {
    return upstream->locations_count;
}
