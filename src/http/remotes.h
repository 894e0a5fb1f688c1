/*
 * Private to http/. What each client address holds: connections, and requests that have a worker or
 * wait for one. The shares of a client (struct http_client_limits) are kept by these numbers.
 *
 * A client address is an IPv4 address, or the first 64 bits of an IPv6 address, because one machine
 * usually gets a whole /64. A Unix socket's clients have no address and no limit.
 *
 * An entry lives as long as a connection refers to it. So there are never more entries than open
 * connections, and a connection looks its entry up only once, when it is accepted. The hash of the
 * table is keyed, so that nobody can choose addresses that meet in one bucket.
 *
 * Threads: any.
 */
#ifndef HTTP_REMOTES_H
#define HTTP_REMOTES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include "base/error.h"
#include "base/lock.h"
#include "base/siphash.h"
#include "http/http.h"

struct remotes;

struct remote {
    struct http_address address; /* constant */
    atomic_uint connections;     /* within the limit of connections */
    atomic_uint busy;            /* those of them that carry a request, also without a worker */
    atomic_uint requests;        /* that have a worker or wait for one */
    atomic_bool has_its_share;   /* of connections, as bulkheads counted it last */

    struct remotes *table;
    struct remote *next GUARDED_BY(table_lock); /* in its bucket */
    unsigned references GUARDED_BY(table_lock);
};

struct remotes {
    struct siphash_key key;
    unsigned bucket_count; /* a power of two */
    struct lock table_lock;
    struct remote **buckets GUARDED_BY(table_lock);
    atomic_uint count; /* entries */
};

/* `most`: how many connections there may be, for the size of the table. False: remotes_finish()
 * must be called all the same. */
bool remotes_init(struct remotes *remotes, unsigned most, struct error *error);
void remotes_finish(struct remotes *remotes); /* no entry is left */

/* The entry of a client's address, with one more reference, until remote_leave(). NULL: a Unix
 * socket, or out of memory; such a client is held to no limit. */
struct remote *remotes_enter(struct remotes *remotes, const struct sockaddr_storage *address);
void remote_leave(struct remote *remote); /* NULL is allowed */

#endif
