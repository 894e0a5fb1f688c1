/* Remembers how a location takes blobs. */
#include "upstream/push_learnt.h"

bool push_learnt_has(const struct push_learnt *learnt, enum push_lesson lesson, int64_t now_ms) {
    return now_ms < atomic_load(&learnt->until_ms[lesson]);
}

void push_learnt_drop(struct push_learnt *learnt, enum push_lesson lesson) {
    atomic_store(&learnt->until_ms[lesson], 0);
}

void push_learnt_add(struct push_learnt *learnt, enum push_lesson lesson, int64_t now_ms) {
    if (lesson == LESSON_NO_RANGE)
        push_learnt_drop(learnt, LESSON_NEEDS_RANGE);
    if (lesson == LESSON_NEEDS_RANGE)
        push_learnt_drop(learnt, LESSON_NO_RANGE);
    atomic_store(&learnt->until_ms[lesson], now_ms + PUSH_LEARNT_MS);
}
