/*
 * What tarn copy and tarn append tell of their work on standard output: lines of JSON, or bars on a
 * terminal. One object tells of one image after the other. Threads: one at a time.
 *
 *   {"event":"blob","digest":D,"size":N,"state":"copied|mounted|present"}
 *   {"event":"manifest","digest":D,"media_type":T,"size":N,"state":"copied|present"}
 *   {"event":"tag","reference":R,"digest":D,"state":"copied|present"}
 *   {"event":"delete","reference":R,"state":"deleted"}
 *   {"event":"layer","path":P,"digest":D,"diff_id":D,"size":N}
 *   {"event":"result","source":R,"destination":R,"digest":D,"state":"done|failed","bytes_sent":N,
 *    "bytes_present":N,"bytes_mounted":N,"seconds":S,"message":M}
 *
 * Each has "dry_run":true where nothing was done. A number of bytes is of blobs alone.
 */
#ifndef CMD_IMAGE_REPORT_H
#define CMD_IMAGE_REPORT_H

#include <jansson.h>
#include "cmd/arguments.h"
#include "cmd/warm_progress.h"
#include "copy/image.h"

struct image_report {
    const struct arguments *arguments;
    bool dry_run;
    bool is_bars; /* else lines */
    struct warm_progress *progress;
    char source[COPY_REFERENCE_SIZE], destination[COPY_REFERENCE_SIZE]; /* of the image under way */
    struct copy_reference target;
    int64_t began_ms;
    bool failed; /* a line could not be made: out of memory */
};

/* Standard output gets lines with --json, or when it is no terminal. False: out of memory. */
bool image_report_open(struct image_report *report, const struct arguments *arguments,
                       bool dry_run);
void image_report_close(struct image_report *report);

/* An image begins. `tag` is the destination's. */
void image_report_begin(struct image_report *report, const struct copy_reference *source,
                        const struct copy_reference *destination, const char *tag);
/* As copy_image.on_event; `context` is the report. */
void image_report_event(void *context, const struct copy_event *event);
/* A line of another event, whose members are in `line`, which is released; NULL: out of memory. */
void image_report_line(struct image_report *report, json_t *line);
/* The image is done, or has failed as `failure` says, which is printed on standard error as well.
 */
void image_report_end(struct image_report *report, const struct copy_image_result *result,
                      const struct error *failure);
/* An image failed before anything was done with it; `what` is what could not be opened, as in
 * image_command_fail(). Returns 1. */
int image_report_fail(struct image_report *report, const char *what, const struct error *failure);

#endif
