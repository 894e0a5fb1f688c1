/*
 * Asks for tags in use again shortly before their time is over. Private to cache/.
 *
 * Otherwise one client in each tag_ttl would wait for the upstream's answer, and all who ask for
 * the tag meanwhile would wait with it: on a busy machine for seconds. So a use of the tag in the
 * last part of its time lets the upstream be asked in the background, and is answered from memory.
 * Nothing is believed for longer than tag_ttl because of it. When upstream does not answer in time,
 * the tag's time ends as usual.
 *
 * Threads: any.
 */
#ifndef CACHE_REFRESH_H
#define CACHE_REFRESH_H

#include <pthread.h>
#include "base/lock.h"
#include "cache/document.h"
#include "upstream/upstream.h"

struct cache;

enum {
    REFRESH_DUE = 32,    /* tags that may wait until they are asked for; no further one does */
    REFRESH_AT_ONCE = 32 /* questions under way; while there are so many, none is begun */
};

/* A tag that is to be asked for. */
struct refresh_due {
    struct repository repository; /* its upstream is kept */
    struct reference reference;
    struct document *held; /* owned */
};

struct refresh {
    struct lock due_lock;
    struct condition due_changed;
    struct refresh_due due[REFRESH_DUE] GUARDED_BY(due_lock); /* a ring */
    unsigned first GUARDED_BY(due_lock), count GUARDED_BY(due_lock);
    bool is_running GUARDED_BY(due_lock);
    pthread_t thread;
};

/* How long before the end of a tag's time it is asked for again; 0: not before its end, because its
 * time is short. */
int64_t refresh_lead_ms(int64_t tag_ttl_ms);

/* A client has used what is held for the tag, and its time is nearly over. Makes no system call but
 * a wakeup, and does not allocate. Before refresh_start() and after refresh_stop() it does nothing.
 */
void refresh_note(struct cache *cache, const struct repository *repository,
                  const struct reference *reference, struct document *held);

void refresh_init(struct refresh *refresh);
void refresh_start(struct cache *cache); /* without a thread, tags are asked for at their end */
void refresh_stop(struct refresh *refresh);
void refresh_finish(struct refresh *refresh);

#endif
