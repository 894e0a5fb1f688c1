/* When the images of the schedule are warmed. */
#include "admin/schedule.h"

#include <stdlib.h>
#include "base/clock.h"
#include "base/text.h"

enum {
    RETRY_FIRST_MS = 60 * 1000, /* pause after a temporary failure; doubled each time */
    RETRY_MOST_MS = 3600 * 1000,
};

static bool copy_entry(const struct warm_entry *from, struct warm_entry *out) {
    out->images = text_list_dup(from->images);
    out->platforms = from->platforms ? text_list_dup(from->platforms) : NULL;
    out->every_ms = from->every_ms;
    return out->images && (out->platforms || !from->platforms);
}

struct warm_schedule *service_prepare_schedule(const struct warm_entry *warm, size_t count) {
    struct warm_schedule *schedule = calloc(1, sizeof *schedule + count * sizeof *schedule->at);
    for (size_t i = 0; schedule && i < count; i++) {
        bool ok = copy_entry(&warm[i], &schedule->at[i].entry);
        schedule->count++;
        if (ok)
            continue;
        service_give_up_schedule(schedule);
        return NULL;
    }
    return schedule;
}

void service_give_up_schedule(struct warm_schedule *schedule) {
    for (size_t i = 0; schedule && i < schedule->count; i++) {
        free((void *)schedule->at[i].entry.images);
        free((void *)schedule->at[i].entry.platforms);
    }
    free(schedule);
}

static bool is_same(const struct warm_entry *a, const struct warm_entry *b) {
    return a->every_ms == b->every_ms && text_lists_equal(a->images, b->images) &&
           text_lists_equal(a->platforms, b->platforms);
}

void schedule_take_times(struct warm_schedule *schedule, const struct warm_schedule *before) {
    for (size_t i = 0; i < schedule->count; i++) {
        struct warm_turn *turn = &schedule->at[i];
        for (size_t j = 0; j < before->count; j++) {
            if (!is_same(&turn->entry, &before->at[j].entry))
                continue;
            turn->due_ms = before->at[j].due_ms;
            turn->retry_ms = before->at[j].retry_ms;
            break;
        }
    }
}

struct warm_turn *schedule_next(struct warm_schedule *schedule) {
    struct warm_turn *next = NULL;
    for (size_t i = 0; i < schedule->count; i++) {
        if (!next || schedule->at[i].due_ms < next->due_ms)
            next = &schedule->at[i];
    }
    return next && next->due_ms < INT64_MAX ? next : NULL;
}

void schedule_note(struct warm_turn *turn, bool failed) {
    int64_t pause_ms = turn->entry.every_ms ? turn->entry.every_ms : INT64_MAX;
    if (failed) {
        turn->retry_ms = turn->retry_ms ? turn->retry_ms * 2 : RETRY_FIRST_MS;
        if (turn->retry_ms > RETRY_MOST_MS)
            turn->retry_ms = RETRY_MOST_MS;
        if (turn->retry_ms < pause_ms)
            pause_ms = turn->retry_ms;
    } else {
        turn->retry_ms = 0;
    }
    turn->due_ms = pause_ms == INT64_MAX ? INT64_MAX : clock_ms() + pause_ms;
}
