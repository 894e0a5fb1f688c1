/* The cache as a whole: its start, its end, its gauges, and the list of its flights. */
#include "cache/cache.h"

#include <stdlib.h>
#include "base/clock.h"
#include "cache/cache_private.h"
#include "cache/document.h"
#include "cache/question.h"

enum { LEAVE_MS = 5000 }; /* that questions get to end before the process exits */

struct cache_settings cache_settings_default(void) {
    return (struct cache_settings){
        .document_memory = 8 << 20,
        .negative_ttl_ms = 5000,
        .stale_after_ms = 5000,
        .patience_ms = 120000,
        .max_flights = 512,
        .max_connections = 64,
        .streaming = streams_settings_default(),
        .waiting_per_upstream = 256,
        .flights_per_upstream = 128,
    };
}

static void on_kept(void *context, const struct digest *digest) {
    struct cache *cache = context;
    streams_note_blob(cache->streams, digest);
}

static struct flights_settings flights_settings_of(const struct cache_settings *settings) {
    return (struct flights_settings){
        .max_flights = settings->max_flights,
        .max_connections = settings->max_connections,
        .flights_per_upstream = settings->flights_per_upstream,
        .patience_ms = settings->patience_ms,
    };
}

/* The flights, and the bucket that they ask first. */
static bool make_flights(struct cache *cache, const struct cache_settings *settings) {
    struct flights_settings flights = flights_settings_of(settings);
    if (settings->bucket && !(cache->tier = tier_new(settings->bucket, cache->store)))
        return false;
    flights.on_kept = on_kept;
    flights.context = cache;
    flights.tier = cache->tier ? &cache->tier->flights : NULL;
    flights.replicas = cache->replicas = settings->replicas;
    cache->flights = flights_new(cache->upkeep, &flights);
    if (cache->tier)
        tier_set_flights(cache->tier, cache->flights);
    return cache->flights != NULL;
}

struct cache *cache_new(const struct cache_settings *settings, struct upkeep *upkeep) {
    struct cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return NULL;
    cache->upkeep = upkeep;
    cache->store = upkeep->store;
    cache->streams = streams_new(&settings->streaming, upkeep);
    if (!cache->streams || !make_flights(cache, settings) || !named_init(&cache->named)) {
        flights_free(cache->flights);
        tier_free(cache->tier);
        streams_free(cache->streams);
        free(cache->named.facts);
        free(cache);
        return NULL;
    }
    cache->document_memory = settings->document_memory;
    cache->negative_ttl_ms = settings->negative_ttl_ms;
    cache->stale_after_ms = settings->stale_after_ms;
    cache->waiting_per_upstream = settings->waiting_per_upstream;
    cache->refused = metric_get(METRIC_COUNTER, METRIC_REFUSED, METRIC_REFUSED_HELP,
                                "reason=\"upstream_waiting\"");
    cache->uses_round = 1; /* a new document's round is 0: its use is not noted */
    siphash_key_fill(&cache->slots_secret);
    lock_init(&cache->uses_lock);
    lock_init(&cache->slots_lock);
    lock_init(&cache->questions_lock);
    refresh_init(&cache->refresh);
    condition_init(&cache->questions_changed);
    return cache;
}

void cache_change(struct cache *cache, const struct cache_settings *settings) {
    const struct flights_settings flights_settings = flights_settings_of(settings);
    cache->document_memory = settings->document_memory;
    cache->negative_ttl_ms = settings->negative_ttl_ms;
    cache->waiting_per_upstream = settings->waiting_per_upstream;
    flights_change(cache->flights, &flights_settings);
    streams_change(cache->streams, &settings->streaming);
}

void cache_declare_metrics(void) {
    metric_declare(METRIC_COUNTER, METRIC_WRONG, METRIC_WRONG_HELP);
    metric_declare(METRIC_COUNTER, METRIC_UPLOADS, METRIC_UPLOADS_HELP);
    metric_declare(METRIC_GAUGE, METRIC_PENDING, METRIC_PENDING_HELP);
    metric_declare(METRIC_COUNTER, METRIC_TAKEOVERS, METRIC_TAKEOVERS_HELP);
    streams_declare_metrics();
}

/* What goes to the bucket; NULL: nothing does. */
static struct uploads *uploads_of(const struct cache *cache) {
    return cache->tier ? cache->tier->uploads : NULL;
}

void cache_stop(struct cache *cache) {
    lock_acquire(&cache->questions_lock);
    atomic_store(&cache->stopping, true);
    for (struct question *question = cache->questions; question; question = question->hh.next)
        condition_broadcast(&question->answered);
    lock_release(&cache->questions_lock);
    refresh_stop(&cache->refresh);
    flights_stop(cache->flights);
    streams_stop(cache->streams);
    if (uploads_of(cache))
        uploads_stop(uploads_of(cache));
}

void cache_start(struct cache *cache) {
    refresh_start(cache);
    streams_start(cache->streams);
    if (cache->tier)
        tier_start(cache->tier);
}

void cache_drain(struct cache *cache, int64_t until_ms) {
    if (!uploads_of(cache))
        return;
    cache_settle(cache); /* what was answered a moment ago has to be pending first */
    uploads_drain(uploads_of(cache), until_ms);
}

bool cache_free(struct cache *cache) {
    if (!cache)
        return true;
    int64_t deadline_ms = clock_ms() + LEAVE_MS;
    bool in_time = true;
    cache_stop(cache);
    lock_acquire(&cache->questions_lock);
    while ((cache->questions || cache->outdated || cache->storing) && in_time)
        in_time =
            condition_wait_until(&cache->questions_changed, &cache->questions_lock, deadline_ms);
    bool idle = !cache->questions && !cache->outdated && !cache->storing;
    lock_release(&cache->questions_lock);
    if (!idle || !tier_end(cache->tier, deadline_ms) || !flights_free(cache->flights))
        return false;
    cache_record_uses(cache);
    streams_free(cache->streams);
    tier_free(cache->tier);
    cache->tier = NULL;
    cache_forget(cache);
    named_finish(&cache->named);
    lock_finish(&cache->uses_lock);
    lock_finish(&cache->slots_lock);
    lock_finish(&cache->questions_lock);
    refresh_finish(&cache->refresh);
    condition_finish(&cache->questions_changed);
    free(cache);
    return true;
}

void cache_settle(struct cache *cache) {
    int64_t deadline_ms = clock_ms() + LEAVE_MS;
    lock_acquire(&cache->questions_lock);
    const uint64_t last = cache->stores;
    while (cache->storing && cache->storing->number <= last &&
           condition_wait_until(&cache->questions_changed, &cache->questions_lock, deadline_ms))
        ;
    lock_release(&cache->questions_lock);
}

void cache_set_workers(struct cache *cache, const struct pot *workers) {
    cache->workers = workers;
}

bool cache_is_degraded(const struct cache *cache) {
    return metric_value(cache->upkeep->space.degraded) != 0;
}

void cache_update_metrics(struct cache *cache) {
    metric_set(metric_get(METRIC_GAUGE, "tarn_requests_waiting",
                          "Requests of clients that wait for an upstream.", ""),
               atomic_load(&cache->waiting));
    space_update_metrics(&cache->upkeep->space);
    streams_update_metrics(cache->streams);
    if (uploads_of(cache))
        uploads_update_metrics(uploads_of(cache));
}

struct streams *cache_streams(struct cache *cache) {
    return cache->streams;
}

struct store *cache_store(struct cache *cache) {
    return cache->store;
}

size_t cache_flights(struct cache *cache, struct flight_figures *out, size_t limit) {
    return flights_describe(cache->flights, out, limit);
}
