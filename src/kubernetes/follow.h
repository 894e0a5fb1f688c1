/*
 * Keeps up with all objects of one kind: a list, and then a watch of what changes.
 *
 * The rules are those of Kubernetes' API concepts, "Efficient detection of changes" and "Retrieving
 * large results sets in chunks". A list comes in pages of 50. When the server has forgotten the
 * version from which a watch is to go on (410), or sends what cannot be right, the objects are
 * listed anew. Where a watch is forbidden they are listed every 30 s. Failures are repeated with
 * growing pauses, for ever.
 *
 * A thread of its own does all that and calls the functions of the sink; an object lives for that
 * call only. follow_look() may be called by any thread.
 */
#ifndef KUBERNETES_FOLLOW_H
#define KUBERNETES_FOLLOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "kubernetes/kubernetes.h"

struct follow;

/* Who takes what is learned. An object is known by its metadata.uid, which is never empty: another
 * object of the same name is another object. */
struct follow_sink {
    void *context;
    /* A new object, or one that may have changed. */
    void (*changed)(void *context, const json_t *object);
    /* An object is no more; it was handed to changed() before. */
    void (*gone)(void *context, const char *uid);
    /* Every object that is there has been handed over, and all others are gone. Called after each
     * list, when follow_look() tells of it. May be NULL. */
    void (*listed)(void *context);
};

struct follow_settings {
    const char *resource; /* "nodes"; a literal */
    const char *path;     /* "/api/v1/nodes" */
    const char *query;    /* "labelSelector=a%3Db"; NULL: all objects */
    struct follow_sink sink;
};

struct follow_state {
    bool listed;     /* a list has been whole: what is known is all there is */
    bool connected;  /* a watch is open, or the last list of those every 30 s was whole */
    bool lists_only; /* a watch is forbidden */
    /* clock_ms() until which what is known was true for sure; while connected: now. 0: never */
    int64_t true_ms;
    int64_t began_ms; /* clock_ms() when the last whole list began; 0: there was none */
    char error[400];  /* why it is not connected; "": no failure yet */
};

/* Copies the settings, but not the sink's context. The connection outlives it. NULL: no memory, or
 * no thread. */
struct follow *follow_start(struct kubernetes *kubernetes, const struct follow_settings *settings,
                            struct error *error);
/* Ends the thread, which ends a request within half a second. No function of the sink is called any
 * more. NULL is fine. */
void follow_stop(struct follow *follow);

/* All objects are listed anew, at once, although a watch may be open: follow_state.began_ms tells
 * when that is done. Any thread. */
void follow_refresh(struct follow *follow);

void follow_look(struct follow *follow, struct follow_state *out);

/* Sets tarn_kube_last_event_seconds; called before metrics are shown. */
void follow_update_metrics(struct follow *follow);

/* Names the metrics before there are any. */
void follow_declare_metrics(void);

#endif
