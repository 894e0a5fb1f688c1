/* Tells what happens while an image is copied or made. */
#include "copy/events.h"

void copy_events_init(struct copy_events *events, struct copy_image_result *result,
                      void (*on_event)(void *context, const struct copy_event *event),
                      void *context) {
    *events = (struct copy_events){.on_event = on_event, .context = context, .result = result};
    lock_init(&events->event_lock);
}

void copy_events_finish(struct copy_events *events) {
    lock_finish(&events->event_lock);
}

static void add(struct copy_events *events, enum copy_state state, uint64_t bytes)
    REQUIRES(events->event_lock) {
    uint64_t *const sums[] = {[COPY_STATE_COPIED] = &events->result->bytes_sent,
                              [COPY_STATE_MOUNTED] = &events->result->bytes_mounted,
                              [COPY_STATE_PRESENT] = &events->result->bytes_present};
    *sums[state] += bytes;
}

void copy_events_tell(struct copy_events *events, const struct copy_event *event) {
    lock_acquire(&events->event_lock);
    if (event->kind == COPY_EVENT_BLOB)
        add(events, event->state, event->size);
    if (events->on_event)
        events->on_event(events->context, event);
    lock_release(&events->event_lock);
}

void copy_events_count(struct copy_events *events, enum copy_state state, uint64_t bytes) {
    lock_acquire(&events->event_lock);
    add(events, state, bytes);
    lock_release(&events->event_lock);
}
