/*
 * The progress of `tarn warm`, drawn as bars. Each drawing overwrites the one before:
 *
 *   alpine:3.20
 *     4f4fb700ef54 layer     [==========>         ]  1.8 MiB of 3.4 MiB
 *     total                  [=============>      ]  3.1 MiB of 4.6 MiB, 12.0 MiB/s
 *
 * One thread.
 */
#ifndef CMD_WARM_PROGRESS_H
#define CMD_WARM_PROGRESS_H

#include <jansson.h>
#include <stdio.h>

struct warm_progress;

struct warm_progress *warm_progress_new(FILE *terminal); /* NULL: out of memory */
void warm_progress_free(struct warm_progress *progress); /* NULL is allowed */

/* Records one line of the response (admin/admin.h), and draws at most every 100 ms. */
void warm_progress_record(struct warm_progress *progress, const json_t *line);

#endif
