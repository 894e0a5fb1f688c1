/* The requests that a server has asked not to repeat for a while. */
#include "upstream/pauses.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"

/* What is remembered of one request; began_ms 0: nothing. */
struct pause {
    struct siphash_tag tag; /* of the request */
    int64_t began_ms, until_ms;
    int status;
    unsigned refusals; /* in a row, without a time that is believed */
};

void pauses_init(struct pauses *pauses) {
    memset(pauses, 0, sizeof *pauses);
    lock_init(&pauses->pauses_lock);
    siphash_key_fill(&pauses->secret);
}

void pauses_finish(struct pauses *pauses) {
    free(pauses->at);
    pauses->at = NULL;
    lock_finish(&pauses->pauses_lock);
}

static struct siphash_tag tag_of(const struct pauses *pauses, const char *request) {
    return siphash_tag_of(&pauses->secret, request, strlen(request));
}

/* NULL: nothing is remembered of the request. */
static struct pause *find(struct pauses *pauses, const struct siphash_tag *tag)
    REQUIRES(pauses->pauses_lock) {
    for (size_t i = 0; pauses->at && i < PAUSES_LIMIT; i++) {
        struct pause *pause = &pauses->at[i];
        if (pause->began_ms && memcmp(&pause->tag, tag, sizeof *tag) == 0)
            return pause;
    }
    return NULL;
}

/* A place for one more request. NULL: no memory. */
static struct pause *take_oldest(struct pauses *pauses) REQUIRES(pauses->pauses_lock) {
    if (!pauses->at && !(pauses->at = calloc(PAUSES_LIMIT, sizeof *pauses->at)))
        return NULL;
    struct pause *oldest = pauses->at;
    for (size_t i = 1; i < PAUSES_LIMIT; i++) {
        if (pauses->at[i].began_ms < oldest->began_ms)
            oldest = &pauses->at[i];
    }
    *oldest = (struct pause){0};
    return oldest;
}

/* How long a pause lasts after so many refusals without a time. */
static int backoff_s(unsigned refusals) {
    int seconds = 1;
    while (--refusals > 0 && seconds < PAUSE_MOST_S)
        seconds *= 2;
    return seconds < PAUSE_MOST_S ? seconds : PAUSE_MOST_S;
}

int pauses_begin(struct pauses *pauses, const char *request, int status, int after_s,
                 int64_t now_ms) {
    const bool believed = after_s > 0 && after_s <= PAUSE_BELIEVED_S;
    const struct siphash_tag tag = tag_of(pauses, request);
    int seconds = believed ? after_s : 1;
    lock_acquire(&pauses->pauses_lock);
    struct pause *pause = find(pauses, &tag);
    if (!pause)
        pause = take_oldest(pauses);
    if (pause) {
        pause->refusals = believed ? 0 : pause->refusals + 1;
        if (!believed)
            seconds = backoff_s(pause->refusals);
        if (seconds > PAUSE_MOST_S)
            seconds = PAUSE_MOST_S;
        pause->tag = tag;
        pause->status = status;
        pause->began_ms = now_ms;
        pause->until_ms = now_ms + (int64_t)seconds * 1000;
        atomic_store(&pauses->in_use, true);
    }
    lock_release(&pauses->pauses_lock);
    return seconds < PAUSE_MOST_S ? seconds : PAUSE_MOST_S;
}

int pauses_left(struct pauses *pauses, const char *request, int *status, int64_t now_ms) {
    if (!atomic_load(&pauses->in_use))
        return 0;
    const struct siphash_tag tag = tag_of(pauses, request);
    int64_t left_ms = 0;
    lock_acquire(&pauses->pauses_lock);
    const struct pause *pause = find(pauses, &tag);
    if (pause) {
        left_ms = pause->until_ms - now_ms;
        *status = pause->status;
    }
    lock_release(&pauses->pauses_lock);
    return left_ms > 0 ? (int)((left_ms + 999) / 1000) : 0;
}

void pauses_end(struct pauses *pauses, const char *request) {
    if (!atomic_load(&pauses->in_use))
        return;
    const struct siphash_tag tag = tag_of(pauses, request);
    lock_acquire(&pauses->pauses_lock);
    struct pause *pause = find(pauses, &tag);
    if (pause)
        *pause = (struct pause){0};
    lock_release(&pauses->pauses_lock);
}
