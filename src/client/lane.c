/* A pool of libcurl handles. */
#include "client/lane.h"

#include <stdlib.h>
#include "base/clock.h"

enum {
    IDLE_LIMIT = 32,       /* lanes kept in one pool */
    IDLE_MS = 60000,       /* and for how long */
    CONNECTIONS_LIMIT = 4, /* kept in a lane: the registry, its storage, a mirror */
};

/* Frees a lane and those behind it. */
static void lane_free(struct lane *lane) {
    while (lane) {
        struct lane *next = lane->next;
        curl_easy_cleanup(lane->handle);
        if (lane->multi)
            curl_multi_cleanup(lane->multi);
        free(lane);
        lane = next;
    }
}

static CURLM *multi_new(void) {
    CURLM *multi = curl_multi_init();
    if (multi)
        curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_LIMIT);
    return multi;
}

static struct lane *lane_new(struct client *client) {
    struct lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return NULL;
    lane->client = client;
    lane->handle = curl_easy_init();
    lane->multi = multi_new();
    if (!lane->handle || !lane->multi) {
        lane_free(lane);
        return NULL;
    }
    return lane;
}

bool lane_disconnect(struct lane *lane) {
    CURLM *multi = multi_new();
    if (!multi)
        return false;
    curl_multi_cleanup(lane->multi);
    lane->multi = multi;
    return true;
}

void lanes_init(struct lanes *lanes, struct client *client) {
    *lanes = (struct lanes){.client = client};
    lock_init(&lanes->idle_lock);
}

void lanes_close(struct lanes *lanes) {
    lock_acquire(&lanes->idle_lock);
    struct lane *idle = lanes->idle;
    lanes->idle = NULL;
    lock_release(&lanes->idle_lock);
    lane_free(idle);
}

void lanes_finish(struct lanes *lanes) {
    lane_free(lanes->idle);
    lanes->idle = NULL;
    lock_finish(&lanes->idle_lock);
}

struct lane *lanes_take(struct lanes *lanes) {
    lock_acquire(&lanes->idle_lock);
    struct lane *lane = lanes->idle;
    if (lane) {
        lanes->idle = lane->next;
        lane->next = NULL;
    }
    lock_release(&lanes->idle_lock);
    return lane ? lane : lane_new(lanes->client);
}

/* Cuts off the lanes that have rested for too long, or are too many: the last in the list. */
static struct lane *cut_stale(struct lanes *lanes, int64_t now) REQUIRES(lanes->idle_lock);

static struct lane *cut_stale(struct lanes *lanes, int64_t now) {
    struct lane **slot = &lanes->idle;
    unsigned kept = 0;
    while (*slot && kept < IDLE_LIMIT && now - (*slot)->rested_ms < IDLE_MS) {
        slot = &(*slot)->next;
        kept++;
    }
    struct lane *stale = *slot;
    *slot = NULL;
    return stale;
}

void lanes_give(struct lanes *lanes, struct lane *lane) {
    if (!lane)
        return;
    lock_acquire(&lanes->idle_lock);
    lane->rested_ms = clock_ms();
    lane->next = lanes->idle;
    lanes->idle = lane;
    struct lane *stale = cut_stale(lanes, lane->rested_ms);
    lock_release(&lanes->idle_lock);
    lane_free(stale);
}
