/*
 * Lanes: libcurl handles with the connections that they keep, and the pool in which they rest.
 *
 * One transfer at a time goes over a lane. Lanes share no connection, so that parallel ranges of a
 * blob really use connections of their own. A pool serves requests that may share connections: the
 * client has one for its single requests, and each upstream has its own, because a connection that
 * was opened under one upstream's address rule must not carry another upstream's request.
 */
#ifndef CLIENT_LANE_H
#define CLIENT_LANE_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/lock.h"
#include "client/client.h"

/* Private to client/: others only hold the pointer. */
struct lane {
    struct client *client;
    CURLM *multi; /* holds the connections */
    CURL *handle;
    int64_t rested_ms; /* clock_ms() when it was given back */
    struct lane *next;
};

/* The lanes at rest. Threads: any. */
struct lanes {
    struct client *client;
    struct lock idle_lock;
    struct lane *idle GUARDED_BY(idle_lock); /* used last first: its connections are the warmest */
};

void lanes_init(struct lanes *lanes, struct client *client); /* the client outlives the pool */
void lanes_finish(struct lanes *lanes);                      /* every lane must be back */
void lanes_close(struct lanes *lanes); /* closes the connections of the lanes at rest */

/* A lane that rests, or a new one; NULL when out of memory. */
struct lane *lanes_take(struct lanes *lanes);
/* Closes the connections that the lane keeps. No transfer is under way. False: out of memory, and
 * the lane is as it was. */
bool lane_disconnect(struct lane *lane);

/* Puts the lane to rest, and closes those that have rested for too long. NULL is fine. */
void lanes_give(struct lanes *lanes, struct lane *lane);

#endif
