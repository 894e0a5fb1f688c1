/*
 * What a location has refused of the ways in which a blob can be sent to it. Each refusal is
 * remembered for a day, so that it costs one blob that is sent twice, and not each blob.
 *
 * Private to upstream/. Threads: any.
 */
#ifndef UPSTREAM_PUSH_LEARNT_H
#define UPSTREAM_PUSH_LEARNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum push_lesson {
    LESSON_ONE_PATCH,   /* a second PATCH of a session */
    LESSON_NO_CHUNKED,  /* a body without Content-Length */
    LESSON_NO_RANGE,    /* Content-Range */
    LESSON_NEEDS_RANGE, /* a PATCH without Content-Range */
    PUSH_LESSONS
};

enum { PUSH_LEARNT_MS = 24 * 60 * 60 * 1000 };

/* Zeroed: nothing is known. */
struct push_learnt {
    _Atomic int64_t until_ms[PUSH_LESSONS]; /* clock_ms(); 0: not learnt */
};

bool push_learnt_has(const struct push_learnt *learnt, enum push_lesson lesson, int64_t now_ms);
/* What contradicts the lesson is forgotten. */
void push_learnt_add(struct push_learnt *learnt, enum push_lesson lesson, int64_t now_ms);
/* The lesson was wrong. */
void push_learnt_drop(struct push_learnt *learnt, enum push_lesson lesson);

#endif
