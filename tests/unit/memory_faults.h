/* Memory that runs out: one allocation of the program fails, or all from one on. A test that uses
 * this is linked with --wrap for malloc, calloc, realloc, reallocarray and strdup. Any thread. */
#ifndef MEMORY_FAULTS_H
#define MEMORY_FAULTS_H

#include <stdbool.h>

/* From now on, allocation number `at` fails, counted from 0. Negative: none does. */
void memory_faults_set(long at);
/* The same, and all allocations after it fail, too. */
void memory_faults_from(long at);
/* From now on, only allocations of the calling thread fail. */
void memory_faults_watch_this_thread(void);
/* Whether it has failed. */
bool memory_faults_failed(void);

#endif
