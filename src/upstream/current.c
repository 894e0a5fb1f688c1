/* Exchanges the set of upstreams in use. */
#include "upstream/current.h"

#include <stdlib.h>
#include "base/shared.h"
#include "upstream/set.h"
#include "upstream/upstream_private.h"

struct current_upstreams {
    struct upstream_commons commons;
    struct shared set; /* of struct upstreams */
};

static void drop(struct shared_value *value) {
    upstreams_drop((struct upstreams *)value);
}

struct current_upstreams *current_upstreams_new(struct client *client,
                                                const struct upstream_settings *settings,
                                                size_t count, struct error *error) {
    struct current_upstreams *current = calloc(1, sizeof *current);
    if (!current) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    current->commons.client = client;
    peers_init(&current->commons.peers);
    struct upstreams *first = upstreams_make(&current->commons, NULL, settings, count, error);
    shared_init(&current->set, first ? &first->value : NULL);
    if (first)
        return current;
    current_upstreams_free(current);
    return NULL;
}

void current_upstreams_free(struct current_upstreams *current) {
    if (!current)
        return;
    shared_finish(&current->set, drop);
    upstream_sweep(&current->commons);
    peers_finish(&current->commons.peers);
    free(current);
}

const struct upstreams *current_upstreams_hold(struct current_upstreams *current) {
    return (const struct upstreams *)shared_hold(&current->set);
}

void upstreams_release(const struct upstreams *upstreams) {
    if (upstreams)
        shared_release(&((struct upstreams *)upstreams)->value);
}

struct upstreams *current_upstreams_prepare(struct current_upstreams *current,
                                            const struct upstream_settings *settings, size_t count,
                                            struct error *error) {
    const struct upstreams *before = current_upstreams_hold(current);
    struct upstreams *prepared = upstreams_make(&current->commons, before, settings, count, error);
    upstreams_release(before);
    return prepared;
}

void current_upstreams_compare(struct current_upstreams *current, const struct upstreams *prepared,
                               size_t *added, size_t *removed) {
    const struct upstreams *now = current_upstreams_hold(current);
    *added = upstreams_count_missing(now, prepared);
    *removed = upstreams_count_missing(prepared, now);
    upstreams_release(now);
}

void current_upstreams_give_up(struct upstreams *prepared) {
    upstreams_drop(prepared);
}

void current_upstreams_exchange(struct current_upstreams *current, struct upstreams *prepared) {
    shared_exchange(&current->set, &prepared->value);
}

void current_upstreams_sweep(struct current_upstreams *current) {
    shared_sweep(&current->set, drop);
    upstream_sweep(&current->commons);
}
