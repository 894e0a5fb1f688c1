/*
 * The trace that a request belongs to (W3C Trace Context): read from its field `traceparent`, and
 * from `tracestate`, which is what the tracing systems of others say about it. The trace is kept
 * for the thread that works on the request, and for the threads that it starts meanwhile
 * (thread_start()), so that the request to an upstream, wherever it is made, can carry it. When
 * several requests wait for one transfer, it carries the trace of the request that began it.
 *
 * Each thread has its own.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include "base/text.h"

enum {
    TRACE_ID_LENGTH = 32,
    TRACE_PARENT_LENGTH = 55, /* "00-TRACEID-PARENTID-FLAGS" */
    TRACE_PARENT_SIZE = TRACE_PARENT_LENGTH + 1,
    TRACE_STATE_LENGTH =
        512, /* what at least is passed on (§3.3.1.5); entries beyond are left out */
    TRACE_STATE_SIZE = TRACE_STATE_LENGTH + 1,
};

struct trace { /* zeroed: none */
    char parent[TRACE_PARENT_SIZE];
    char state[TRACE_STATE_SIZE]; /* "": none */
};

/* Reads a value of `traceparent` (W3C Trace Context §3.2). False, with "": it breaks a rule, and is
 * then as if it were not there. A version that comes after this one is read as far as it is known,
 * and is passed on as this version. */
bool trace_parse(struct text value, char parent[static TRACE_PARENT_SIZE]);

/* Adds the entries of one value of `tracestate` (§3.3.1) to those that a field before it has
 * brought. False, with "": it breaks a rule, and no further field may be added. */
bool trace_add_state(struct text value, char state[static TRACE_STATE_SIZE]);

/* The part of a parent that trace_parse() has read that names the trace. */
struct text trace_id(const char parent[static TRACE_PARENT_SIZE]);

/* The lines of a request's head that carry a trace. */
struct trace_lines {
    char parent[sizeof "traceparent: " + TRACE_PARENT_LENGTH];
    char state[sizeof "tracestate: " + TRACE_STATE_LENGTH];
};

/* Writes them, and where they are to `lines`. Returns how many there are: 0, 1 or 2. */
size_t trace_write_lines(const struct trace *trace, struct trace_lines *out, const char **lines);

/* From now on the calling thread works for this trace; NULL: for none. It is copied. */
void trace_set(const struct trace *trace);
/* What was set; none at first. Of the calling thread alone. */
const struct trace *trace_current(void);

#endif
