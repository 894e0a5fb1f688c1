/* The readers of a flight: the list of them, and which bytes each may send. */
#include "cache/flight/readers.h"

#include <utlist.h>

enum {
    HELD_BACK = 512
}; /* bytes of a whole blob until its digest is checked; at most half of it */

void readers_enter(struct readers *readers, struct flight_reader *reader) {
    DL_APPEND(readers->list, reader);
    readers->count++;
}

void readers_leave(struct readers *readers, struct flight_reader *reader) {
    DL_DELETE(readers->list, reader);
    readers->count--;
}

uint64_t reader_front(const struct flight_reader *reader, const struct body *body) {
    bool hashed_only = body->passing.on && reader->whole && body->hashed < reader->at;
    return hashed_only ? body->hashed : reader->at;
}

/* Up to where a whole blob may be sent before its digest is checked. */
static uint64_t unverified_limit(const struct body *body, uint64_t run_end) {
    uint64_t held = HELD_BACK;
    if (body->size_known && body->size / 2 < held)
        held = (body->size + 1) / 2;
    uint64_t limit = body->size_known ? body->size : run_end;
    return limit > held ? limit - held : 0;
}

uint64_t reader_released_end(const struct flight_reader *reader, const struct body *body,
                             bool verified) {
    uint64_t end = extents_run_end(&body->present, reader->at);
    if (!verified && reader->whole) {
        uint64_t limit = unverified_limit(body, end);
        end = end < limit ? end : limit;
    }
    if (end > reader->end)
        end = reader->end;
    return end > reader->at ? end : reader->at;
}

void readers_set_waiting(struct readers *readers, struct flight_reader *reader, bool waiting) {
    reader->waiting = waiting;
    if (waiting)
        readers->waiting++;
    else
        readers->waiting--;
}

bool readers_are_served(const struct readers *readers, const struct body *body) {
    const struct flight_reader *reader;
    if (readers->waiting == 0)
        return false;
    DL_FOREACH (readers->list, reader) {
        if (reader->waiting && reader_released_end(reader, body, false) > reader->at)
            return true;
    }
    return false;
}

bool readers_await_range(const struct readers *readers) {
    const struct flight_reader *reader;
    if (readers->waiting == 0)
        return false;
    DL_FOREACH (readers->list, reader) {
        if (reader->waiting && !reader->whole)
            return true;
    }
    return false;
}
