/* One blob on its way into the bucket in parts. */
#include "cache/parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    AT_ONCE = 2,       /* parts of one upload that are sent at the same time */
    PARTS_MOST = 9000, /* some of the limit is left, for a size that is told wrong */
    RESTARTS = 3,
};

static bool make_room(struct parts *parts) {
    parts->sent = calloc(parts->count, sizeof *parts->sent);
    parts->is_sent = calloc(parts->count, sizeof *parts->is_sent);
    return parts->sent && parts->is_sent;
}

struct parts *parts_new(const struct parts_source *source, uint64_t part_size) {
    struct parts *parts = calloc(1, sizeof *parts);
    if (!parts)
        return NULL;
    while ((source->size + part_size - 1) / part_size > PARTS_MOST)
        part_size *= 2;
    parts->part_size = part_size;
    parts->count = (unsigned)((source->size + part_size - 1) / part_size);
    if (parts->count == 0) /* an empty blob has one empty part */
        parts->count = 1;
    if (!make_room(parts)) {
        free(parts->sent);
        free(parts->is_sent);
        free(parts);
        return NULL;
    }
    parts->source = *source;
    share_key_blob(parts->key, &source->digest);
    parts->upload = (struct bucket_upload){.key = parts->key, .create_only = !source->overwrite};
    return parts;
}

void parts_free(struct parts *parts) {
    if (!parts)
        return;
    if (parts->source.flight)
        flight_unfollow(parts->source.flight);
    else
        close(parts->source.fd);
    free(parts->sent);
    free(parts->is_sent);
    free(parts);
}

static uint64_t part_end(const struct parts *parts, unsigned number) {
    uint64_t end = (number + 1) * parts->part_size;
    return end < parts->source.size ? end : parts->source.size;
}

/* Whether all bytes of the next part are here. */
static bool is_here(struct parts *parts, int *fd) {
    const uint64_t start = parts->next * parts->part_size;
    *fd = parts->source.fd;
    if (!parts->source.flight)
        return true;
    const enum flight_part part =
        flight_look_at_part(parts->source.flight, start, part_end(parts, parts->next), fd);
    parts->failed |= part == FLIGHT_PART_LOST;
    return part == FLIGHT_PART_HERE;
}

/* The bucket does not know the upload any more: all of it is sent again. */
static void restart(struct parts *parts) {
    parts->begun = parts->forgotten = false;
    parts->next = parts->low = 0;
    memcpy(parts->forgotten_id, parts->upload.id, sizeof parts->forgotten_id);
    parts->upload.id[0] = '\0';
    for (unsigned i = 0; i < parts->count; i++)
        parts->is_sent[i] = false;
    parts->failed |= ++parts->restarts > RESTARTS;
}

static enum parts_step next_step(struct parts *parts, enum flight_fate fate, int *fd) {
    if (parts->failed)
        return parts->active == 0 ? PARTS_ABORT : PARTS_WAIT;
    if (parts->low == parts->count)
        return fate == FLIGHT_FATE_VERIFIED && parts->is_recorded ? PARTS_COMPLETE : PARTS_WAIT;
    if (parts->next == parts->count || parts->active == AT_ONCE || !is_here(parts, fd))
        return parts->failed && parts->active == 0 ? PARTS_ABORT : PARTS_WAIT;
    return parts->begun ? PARTS_SEND : PARTS_BEGIN;
}

struct parts_job parts_next(struct parts *parts) {
    struct parts_job job = {.step = PARTS_WAIT};
    const enum flight_fate fate =
        parts->source.flight ? flight_fate(parts->source.flight) : FLIGHT_FATE_VERIFIED;
    parts->failed |= fate == FLIGHT_FATE_FAILED;
    if (parts->alone)
        return job;
    if (parts->forgotten && parts->active > 0)
        return job;
    if (parts->forgotten)
        restart(parts);
    job.step = next_step(parts, fate, &job.fd);
    if (job.step == PARTS_SEND) {
        job.number = parts->next++;
        parts->active++;
    } else if (job.step != PARTS_WAIT) {
        parts->alone = true;
    }
    return job;
}

/* Begins an upload. The one before may be there after all, on another node of the service, where
 * its parts would cost storage. */
static bool begin(struct parts *parts, const struct bucket_limits *limits,
                  struct bucket_answer *answer, struct error *error) {
    const struct bucket_limits once = {.tries = 1, .cancel = limits->cancel};
    if (parts->forgotten_id[0])
        bucket_upload_abort(parts->source.bucket, parts->key, parts->forgotten_id, &once, NULL,
                            NULL);
    parts->forgotten_id[0] = '\0';
    return bucket_upload_begin(parts->source.bucket, &parts->upload, limits, answer, error);
}

bool parts_do(struct parts *parts, const struct parts_job *job, const struct cancel *cancel,
              struct bucket_answer *answer, struct error *error) {
    struct bucket *bucket = parts->source.bucket;
    const struct bucket_limits limits = {.cancel = cancel};
    struct client_body body = {.fd = job->fd, .offset = job->number * parts->part_size};
    *answer = (struct bucket_answer){0};
    switch (job->step) {
    case PARTS_WAIT:
        return true;
    case PARTS_BEGIN:
        return begin(parts, &limits, answer, error);
    case PARTS_SEND:
        body.length = part_end(parts, job->number) - body.offset;
        return bucket_upload_part(bucket, &parts->upload, job->number + 1, &body,
                                  &parts->sent[job->number], &limits, answer, error);
    case PARTS_COMPLETE:
        return bucket_upload_complete(bucket, &parts->upload, parts->sent, parts->count, &limits,
                                      answer, error);
    case PARTS_ABORT:
        return !parts->begun ||
               bucket_upload_abort(bucket, parts->key, parts->upload.id, &limits, answer, error);
    }
    return true;
}

/* A part was sent, or not. */
static void end_part(struct parts *parts, const struct parts_job *job, bool ok,
                     const struct bucket_answer *answer) {
    struct flight *flight = parts->source.flight;
    const bool forgotten = !ok && answer->outcome == BUCKET_NO_UPLOAD;
    parts->active--;
    parts->forgotten |= forgotten;
    parts->failed |= !ok && !forgotten;
    parts->is_sent[job->number] = ok;
    while (parts->low < parts->count && parts->is_sent[parts->low])
        parts->low++;
    if (ok && flight && !flight_follow_to(flight, parts->low * parts->part_size))
        parts->failed = true; /* the file may have changed while it was read */
}

/* The completion was answered. */
static enum parts_end end_upload(struct parts *parts, bool ok, const struct bucket_answer *answer) {
    if (ok)
        return PARTS_STORED;
    parts->forgotten = answer->outcome == BUCKET_NO_UPLOAD;
    parts->is_present = answer->outcome == BUCKET_PRESENT;
    parts->failed |= !parts->forgotten; /* the upload is still there: it is aborted */
    return PARTS_GOES_ON;
}

enum parts_end parts_done(struct parts *parts, const struct parts_job *job, bool ok,
                          const struct bucket_answer *answer) {
    if (job->step != PARTS_SEND)
        parts->alone = false;
    switch (job->step) {
    case PARTS_WAIT:
        break;
    case PARTS_SEND:
        end_part(parts, job, ok, answer);
        break;
    case PARTS_BEGIN:
        parts->begun = ok;
        parts->failed |= !ok;
        break;
    case PARTS_COMPLETE:
        return end_upload(parts, ok, answer);
    case PARTS_ABORT:
        return parts->is_present ? PARTS_PRESENT : PARTS_FAILED;
    }
    return PARTS_GOES_ON;
}
