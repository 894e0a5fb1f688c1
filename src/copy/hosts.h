/*
 * How a HOST of the command line becomes an upstream that can be asked: one of the configuration,
 * or, for any other host, https with the credentials that Docker's config or Google's sources have
 * for it; or everything through one tarn.
 *
 * Threads: any.
 */
#ifndef COPY_HOSTS_H
#define COPY_HOSTS_H

#include <stdatomic.h>
#include "client/client.h"
#include "upstream/upstream.h"

enum { COPY_REFUSED_PATIENCE_MS = 5000 };

/* Borrowed while copy_hosts_new() runs, but for the texts of `others`, which outlive the hosts. */
struct copy_hosts_settings {
    const struct upstream_settings *configured; /* the configuration's */
    size_t count;
    const struct upstream_settings *others; /* of hosts that are not configured; NULL: defaults */
    /* The URL of a tarn through which every registry is asked, as URL/v2/HOST/NAME, with Docker's
     * credentials for the host of the URL. NULL: each registry is asked itself. */
    const char *via;
    bool plain_http; /* http, not https, for hosts that are not configured */
    /* Outlives the hosts. Set: whatever asks a registry ends (CLOSED). NULL: never. */
    const atomic_bool *stop;
};

struct copy_hosts;

/* `client` outlives it. NULL: the settings are impossible (ERROR_INVALID), or ERROR_MEMORY. */
struct copy_hosts *copy_hosts_new(struct client *client, const struct copy_hosts_settings *settings,
                                  struct error *error);
void copy_hosts_free(struct copy_hosts *hosts); /* NULL is allowed */

/* The repository at its upstream, which lives as long as `hosts`. False: ERROR_INVALID (the host is
 * none), or ERROR_MEMORY. Asks nobody. */
bool copy_hosts_find(struct copy_hosts *hosts, const struct repository_name *name,
                     struct repository *out, struct error *error);

/* As copy_hosts_settings.stop. */
const atomic_bool *copy_hosts_stop(const struct copy_hosts *hosts);

/* How long work on the repository is tried again without progress: its upstream's push_patience. */
int64_t copy_hosts_patience_ms(const struct repository *repository);

/* Whether both are asked at the same registry, so that one can take blobs over from the other. */
bool copy_hosts_are_one(const struct repository *a, const struct repository *b);

#endif
