/* Counts what replicas ask each other. */
#include "replica/counts.h"

#include <stdio.h>
#include "base/metric.h"

#define ASKS       "tarn_replica_asks_total"
#define ASKS_HELP  "Questions between replicas, by what was asked and answered."
#define BYTES      "tarn_replica_bytes_total"
#define BYTES_HELP "Bytes of blobs and documents between replicas."

static const char *const directions[] = {[REPLICA_IN] = "in", [REPLICA_OUT] = "out"};

void replica_count_ask(enum replica_direction direction, enum replica_ask ask, const char *answer) {
    char labels[96];
    if (ask == REPLICA_ASK_FETCH_ABSENT) /* the same question, with a hint */
        ask = REPLICA_ASK_FETCH;
    const char *word = ask == REPLICA_ASK_NONE ? "none" : replica_ask_text(ask);
    snprintf(labels, sizeof labels, "direction=\"%s\",ask=\"%s\",answer=\"%s\"",
             directions[direction], word, answer);
    metric_add(metric_get(METRIC_COUNTER, ASKS, ASKS_HELP, labels), 1);
}

static struct metric *bytes_of(enum replica_direction direction) {
    char labels[32];
    snprintf(labels, sizeof labels, "direction=\"%s\"", directions[direction]);
    return metric_get(METRIC_COUNTER, BYTES, BYTES_HELP, labels);
}

void replica_count_bytes(enum replica_direction direction, uint64_t bytes) {
    metric_add(bytes_of(direction), (int64_t)bytes);
}

void replica_declare_counts(void) {
    metric_declare(METRIC_COUNTER, ASKS, ASKS_HELP);
    bytes_of(REPLICA_IN);
    bytes_of(REPLICA_OUT);
}
