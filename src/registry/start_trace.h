/* What a start of an image reads, as nodes tell each other: checks of the document. Pure. */
#ifndef REGISTRY_START_TRACE_H
#define REGISTRY_START_TRACE_H

#include <stdbool.h>
#include "base/error.h"
#include "base/text.h"

enum {
    START_TRACE_LIMIT = 256 << 10, /* bytes of the document */
    START_TRACE_READS = 20000
};

/*
 * Whether it is a trace: {"version": 1, "reads": [{"layer": DIGEST, "offset": N, "length": N}, …]},
 * in the order in which the bytes of the layers' archives were read; other members are allowed.
 * ERROR_INVALID says what is wrong.
 */
bool start_trace_check(struct text document, struct error *error);

#endif
