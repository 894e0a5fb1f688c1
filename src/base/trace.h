/*
 * The trace that a request belongs to (W3C Trace Context): read from its field `traceparent`, kept
 * for the thread that works on the request, and for the threads that it starts meanwhile
 * (thread_start()), so that the request to an upstream, wherever it is made, can carry it. When
 * several requests wait for one transfer, it carries the trace of the request that began it.
 *
 * Each thread has its own.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdbool.h>
#include "base/text.h"

enum {
    TRACE_ID_LENGTH = 32,
    TRACE_PARENT_LENGTH = 55, /* "00-TRACEID-PARENTID-FLAGS" */
    TRACE_PARENT_SIZE = TRACE_PARENT_LENGTH + 1,
};

/* Reads a value of `traceparent` (W3C Trace Context §3.2). False, with "": it breaks a rule, and is
 * then as if it were not there. A version that comes after this one is read as far as it is known,
 * and is passed on as this version. */
bool trace_parse(struct text value, char parent[static TRACE_PARENT_SIZE]);

/* The part of a parent that trace_parse() has read that names the trace. */
struct text trace_id(const char parent[static TRACE_PARENT_SIZE]);

/* From now on the calling thread works for this parent; "": for none. */
void trace_set(const char *parent);
/* What was set; "" at first. */
const char *trace_current(void);

#endif
