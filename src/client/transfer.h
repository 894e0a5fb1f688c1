/*
 * One HTTP request and its answer over libcurl, without a judgement about either: the head's fields
 * that a registry client needs, then the body as it comes, under exact timeouts.
 *
 * A lane is a libcurl handle with the connections it keeps; one transfer at a time goes over it.
 * Lanes share nothing, so that parallel ranges really use connections of their own.
 */
#ifndef CLIENT_TRANSFER_H
#define CLIENT_TRANSFER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/text.h"
#include "client/address.h"
#include "client/challenge.h"
#include "client/origin.h"

struct lane;

/* The lanes at rest. Threads: any. */
struct lanes {
    pthread_mutex_t idle_lock; /* guards idle */
    struct lane *idle;         /* the one used last first: its connections are the warmest */
};

void lanes_init(struct lanes *lanes);
void lanes_finish(struct lanes *lanes);       /* every lane must be back */
struct lane *lanes_take(struct lanes *lanes); /* NULL when out of memory */
void lanes_give(struct lanes *lanes, struct lane *lane);

/* What the answer's head says; texts beyond their room are left out. */
struct transfer_head {
    int status; /* 0: no final head came */
    bool has_length;
    uint64_t length;
    int retry_after_s;                            /* 0: not said */
    int64_t ratelimit_limit, ratelimit_remaining; /* -1: not said */
    struct challenge challenge;
    char content_type[128];
    char content_range[128];
    char etag[160];
    char digest[160]; /* Docker-Content-Digest */
    char link[4096];
    char location[URL_LIMIT + 1];
};

enum transfer_body {
    TRANSFER_STOP,    /* the callback set the error */
    TRANSFER_COLLECT, /* a body for ourselves: the deadline goes on */
    TRANSFER_DELIVER, /* a body for the caller: only silence ends it */
};

struct transfer {
    const char *url;
    bool head_only;
    const char *authorization; /* "Authorization: ..."; NULL: none */
    const char *accept;        /* "Accept: ..."; NULL: anything */
    const char *range;         /* "bytes=0-99"; NULL: the whole */
    const char *ca_file;       /* NULL: the system's */
    struct address_rule addresses;
    int64_t connect_timeout_ms, stall_timeout_ms;
    int64_t deadline_ms;     /* clock_ms() by which the head must be here */
    const atomic_bool *stop; /* set: it ends within a second with ERROR_CLOSED; may be NULL */
    void *context;
    enum transfer_body (*on_head)(void *context, const struct transfer_head *head,
                                  struct error *error);
    bool (*on_bytes)(void *context, const void *bytes, size_t length, struct error *error);
    bool (*on_idle)(void *context, struct error *error); /* nothing more is here just now */
};

/* `head` is cleared and filled even when the transfer then fails. *was_loopback: an address of this
 * machine was connected to (left alone when an open connection served). False: TIMEOUT,
 * CLOSED, UNAVAILABLE, DENIED (an address), or what a callback set. */
bool transfer_run(struct lane *lane, const struct transfer *transfer, struct transfer_head *head,
                  bool *was_loopback, struct error *error);

/* Takes one field of a head, white space around its value cut. The pure half. */
void transfer_read_field(struct text name, struct text value, struct transfer_head *head);

#endif
