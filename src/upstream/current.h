/*
 * The upstreams of the configuration in use, which may be exchanged for those of another one while
 * requests run.
 *
 * A request holds the set that it found when it began, and ends with it. What outlives a request (a
 * flight, a question) refers to its one upstream by upstream_keep(). An upstream whose settings did
 * not change is the same in both sets, with its connections, tokens and health.
 *
 * Threads: any for current_upstreams_hold() and upstreams_release(), which never wait; one at a
 * time for the others.
 */
#ifndef UPSTREAM_CURRENT_H
#define UPSTREAM_CURRENT_H

#include "upstream/upstream.h"

struct current_upstreams;

/* Copies the settings. The sources of credentials are kept (auth/credential.h). `client` must
 * outlive the upstreams. NULL: ERROR_INVALID or ERROR_MEMORY. */
struct current_upstreams *current_upstreams_new(struct client *client,
                                                const struct upstream_settings *settings,
                                                size_t count, struct error *error);
void current_upstreams_free(struct current_upstreams *current); /* nobody holds a set any more */

/* The set in use, until upstreams_release(). */
const struct upstreams *current_upstreams_hold(struct current_upstreams *current);
void upstreams_release(const struct upstreams *upstreams); /* NULL is allowed */

/* Makes a set that follows the one in use, and is not used yet. */
struct upstreams *current_upstreams_prepare(struct current_upstreams *current,
                                            const struct upstream_settings *settings, size_t count,
                                            struct error *error);
/* How many entries of a prepared set are not in the one in use, and the other way round. */
void current_upstreams_compare(struct current_upstreams *current, const struct upstreams *prepared,
                               size_t *added, size_t *removed);
/* Gives up a prepared set, which never was in use. NULL is allowed. */
void current_upstreams_give_up(struct upstreams *prepared);
/* Uses a prepared set from now on. */
void current_upstreams_exchange(struct current_upstreams *current, struct upstreams *prepared);

/* Frees what nobody uses any more of earlier sets. May wait for a second. */
void current_upstreams_sweep(struct current_upstreams *current);

#endif
