/* What the list and the watch of a follow share. Private to kubernetes/. */
#ifndef KUBERNETES_FOLLOW_PRIVATE_H
#define KUBERNETES_FOLLOW_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>
#include "base/lock.h"
#include "kubernetes/follow.h"

enum { FOLLOW_PAGE = 50 }; /* 26 KiB for a node of 50 images: some 1.3 MiB */

/* An object that the sink knows. */
struct follow_known {
    uint64_t list; /* the number of the last list that had it */
    UT_hash_handle hh;
    char uid[];
};

struct follow {
    struct kubernetes *kubernetes;
    struct follow_settings settings; /* path and query owned */
    pthread_t thread;
    atomic_bool stopping;
    atomic_bool refreshing; /* a list is asked for: the request under way ends */
    struct cancel cancel;

    /* For the thread. */
    struct follow_known *known;
    uint64_t lists; /* how many were begun */
    char *version;  /* of what is known; opaque. NULL: list first */
    bool broken;    /* what came cannot be right */
    bool watched;   /* a watch has been open */
    bool forbidden_told;

    struct lock state_lock;
    struct follow_state state GUARDED_BY(state_lock);
    int64_t word_ms GUARDED_BY(state_lock); /* clock_ms() of the last word of the server; 0: none */
};

/* The uid of an object; NULL with the error set, and broken: it has none. */
const char *follow_uid(struct follow *follow, const json_t *object, struct error *error);

/* Hands an object over, and remembers that it is there. */
bool follow_set(struct follow *follow, const json_t *object, struct error *error);
void follow_remove(struct follow *follow, const char *uid);

/* Replaces the version. False: it is none (broken), or out of memory. */
bool follow_set_version(struct follow *follow, const json_t *meta, struct error *error);

/* The server said something just now. */
void follow_heard(struct follow *follow);
/* The same, and what is known is kept up from now on. */
void follow_connect(struct follow *follow);

/* follow_list.c: lists all objects. False: the error says why; follow->broken may be set. */
bool follow_list(struct follow *follow, struct error *error);

/* follow_watch.c: watches from the version on, until the watch ends. */
enum follow_end {
    FOLLOW_ENDED,     /* as every watch does after some minutes */
    FOLLOW_EXPIRED,   /* the version is too old: list anew */
    FOLLOW_BROKEN,    /* what came cannot be right: list anew */
    FOLLOW_FORBIDDEN, /* no right to watch */
    FOLLOW_FAILED,
};
enum follow_end follow_watch(struct follow *follow, struct error *error);

#endif
