/*
 * A Lease (coordination.k8s.io/v1): of several processes one leads.
 *
 * The rules are those of client-go's leader election. The holder renews every 5 s; a lease that has
 * not changed for 15 s on the observer's own clock may be taken, and no time that another machine
 * wrote is compared. A holder that could not renew for 10 s leads no more, so that a request which
 * it bounds to 4 s ends before another process leads. A process that ends gives the lease back.
 *
 * The processes also tell each other by the lease that something else has changed, so that nobody
 * need ask again and again: each may leave a mark, and each sees it when it next renews or looks,
 * which is within 5 s.
 *
 * A thread of its own asks the server. lease_holds(), lease_look() and lease_mark() may be called
 * by any thread.
 */
#ifndef KUBERNETES_LEASE_H
#define KUBERNETES_LEASE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "kubernetes/kubernetes.h"

enum {
    LEASE_REQUEST_MS = 4000, /* the longest a request of the holder may take */
    LEASE_MARK_LIMIT = 255,  /* bytes */
};

struct lease;

struct lease_settings {
    const char *namespace, *name;
    const char *identity; /* unique to this process; NULL: made of the host's name and chance */
    /* We lead from now on, or no more; called by the lease's thread, which does nothing else
     * meanwhile. When the holder ends, it is told before the lease is given back. May be NULL. */
    void (*on_change)(void *context, bool leading);
    const char *mark; /* the annotation that is the mark; a literal; NULL: none is looked at */
    /* The mark is another one; called as on_change is. */
    void (*on_mark)(void *context, const char *mark);
    void *context;
};

struct lease_state {
    bool leading;
    char holder[256]; /* as last seen; "": nobody */
    char error[400];  /* of the last request; "": it succeeded */
};

/* Copies the settings. The connection outlives the lease. NULL: no memory, or no thread. */
struct lease *lease_start(struct kubernetes *kubernetes, const struct lease_settings *settings,
                          struct error *error);
/* Gives the lease back if it is ours, which takes two seconds at most. NULL is fine. */
void lease_stop(struct lease *lease);

/* Whether we lead at this moment, by the clock: a process that was stopped for a while learns here
 * first that its time is over. True for NULL: without a lease everybody leads. */
bool lease_holds(struct lease *lease);

void lease_look(struct lease *lease, struct lease_state *out);
const char *lease_identity(const struct lease *lease);

/* Leaves a mark, whoever holds the lease; what is longer than the limit is cut. Blocks for up to
 * half a minute. Nothing is done for NULL, nor while there is no such lease: whoever takes it then
 * begins with nothing known. False: the mark is not there, as the error says. */
bool lease_mark(struct lease *lease, const char *mark, struct error *error);

#endif
