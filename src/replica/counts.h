/*
 * The metrics of what replicas ask each other, and of the bytes between them.
 *
 * Threads: any.
 */
#ifndef REPLICA_COUNTS_H
#define REPLICA_COUNTS_H

#include <stdint.h>
#include "replica/ask.h"

enum replica_direction { REPLICA_IN, REPLICA_OUT };

/* The answers that have no word of their own. */
#define REPLICA_WAS_REFUSED "refused" /* the request itself was not accepted */
#define REPLICA_WAS_FAULT   "fault" /* there was no answer, or a failure of the one who was asked */

/* Counts a question that came in, or that went out, with its answer: a word of Tarn-Answer, or one
 * of the two above. */
void replica_count_ask(enum replica_direction direction, enum replica_ask ask, const char *answer);
/* Counts bytes that came in, or that went out. */
void replica_count_bytes(enum replica_direction direction, uint64_t bytes);

/* Names the metrics before there are any. */
void replica_declare_counts(void);

#endif
