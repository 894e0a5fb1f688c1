/*
 * One request of a fetcher for one span: its head, and the bytes that are written to the file.
 * Private to cache/flight/. A fetcher (fetchers.c) owns one struct fetch for each request.
 */
#ifndef FLIGHT_FETCH_H
#define FLIGHT_FETCH_H

#include "cache/flight/flight_private.h"

struct fetch {
    struct flight *flight;
    struct span *span;
    struct flight_source *source; /* the source that is asked, or would be without the bucket */
    struct place *place;          /* that is asked: the source's, the bucket, or a replica */
    bool is_last_stop;            /* the bucket, after all sources have failed */
    enum replica_outcome outcome; /* of a replica: what it has given */
    bool plain;                   /* asked without a range */
    char *gathered; /* owned, of FLIGHT_BUFFER bytes: what has arrived but is not written yet; NULL:
                       handed over */
    size_t gathered_length;
    bool wrote;        /* bytes were written */
    uint64_t recorded; /* the span is recorded in the partial up to here */
    int64_t began_ms;  /* clock_ms() of the first byte */
    uint64_t bytes;    /* that have arrived */
};

/* A request for the plan's span, to the plan's source. False: no memory; fetch_finish() is called
 * even so. */
bool fetch_init(struct fetch *fetch, struct flight *flight, struct span *span,
                const struct plan *plan, struct error *error);
/* Writes what was gathered and records what was written. False: that failed. */
bool fetch_flush(struct fetch *fetch, struct error *error);
void fetch_finish(struct fetch *fetch);

/* The callbacks of struct place_sink; `context` is the struct fetch. */
bool fetch_take_turn(void *context, uint64_t *start, uint64_t *end, struct error *error);
bool fetch_take_head(void *context, const struct place_head *head, struct error *error);
bool fetch_take_bytes(void *context, const void *bytes, size_t length, struct error *error);
bool fetch_write_gathered(void *context, struct error *error);

#endif
