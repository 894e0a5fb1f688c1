/*
 * What the process itself takes, as metrics with the names that every client library of Prometheus
 * uses (process_cpu_seconds_total, process_resident_memory_bytes, …). Without /proc those that come
 * from it stay 0. Any thread.
 */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

/* Sets the metrics. It reads /proc, which waits for no disk. */
void process_update_metrics(void);

#endif
