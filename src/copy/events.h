/*
 * What happens while an image is copied or made, and what it comes to.
 *
 * Threads: any may tell; whoever listens is called by one at a time.
 */
#ifndef COPY_EVENTS_H
#define COPY_EVENTS_H

#include "base/lock.h"
#include "copy/blob.h"

/* What happens, in its order. */
struct copy_event {
    enum copy_event_kind {
        COPY_EVENT_PROGRESS, /* of a blob: `bytes` of `size` are on their way */
        COPY_EVENT_BLOB,
        COPY_EVENT_MANIFEST,
        COPY_EVENT_TAG,
    } kind;
    struct digest digest;
    uint64_t size, bytes;
    bool is_config;         /* of a blob */
    const char *media_type; /* of a manifest */
    const char *tag;        /* of a tag */
    enum copy_state state;  /* of all but PROGRESS */
};

struct copy_image_result {
    struct digest digest; /* algorithm 0: not known */
    uint64_t bytes_sent, bytes_present, bytes_mounted;
};

/* Whom events are told. */
struct copy_events {
    void (*on_event)(void *context, const struct copy_event *event); /* may be NULL */
    void *context;
    struct lock event_lock; /* held while on_event() runs */
    struct copy_image_result *result GUARDED_BY(event_lock);
};

/* `result` is the caller's; its sums are made of the events from now on. */
void copy_events_init(struct copy_events *events, struct copy_image_result *result,
                      void (*on_event)(void *context, const struct copy_event *event),
                      void *context);
void copy_events_finish(struct copy_events *events);

/* Tells the event, and adds a blob to the sums. */
void copy_events_tell(struct copy_events *events, const struct copy_event *event);

/* Adds bytes to the sum of their state, for what is no event. */
void copy_events_count(struct copy_events *events, enum copy_state state, uint64_t bytes);

#endif
