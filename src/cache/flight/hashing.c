/* How far a blob under way is hashed, and who hashes next. */
#include "cache/flight/hashing.h"

#include <stdlib.h>

void hashing_init(struct hashing *hashing) {
    *hashing = (struct hashing){.claimed = UINT64_MAX};
    condition_init(&hashing->turned);
}

void hashing_finish(struct hashing *hashing) {
    digest_hash_free(hashing->hash);
    hashing_free_buffers(hashing);
    condition_finish(&hashing->turned);
}

void hashing_free_buffers(struct hashing *hashing) {
    free(hashing->handed.buffer);
    hashing->handed = (struct portion){0};
    for (size_t i = 0; i < FLIGHT_SPARES; i++) {
        free(hashing->spare[i]);
        hashing->spare[i] = NULL;
    }
}

uint64_t hashing_next(const struct hashing *hashing, const struct body *body) {
    if (hashing->handed.buffer)
        return hashing->handed.end;
    return hashing->busy ? hashing->ahead : body->hashed;
}

void hashing_claim(struct hashing *hashing, const struct body *body, uint64_t start) {
    if (start == hashing_next(hashing, body))
        hashing->claimed = start;
}

bool hashing_is_taken(const struct hashing *hashing, const struct body *body) {
    return hashing->busy || (!hashing->handed.buffer && hashing->claimed == body->hashed);
}

void hashing_begin_turn(struct hashing *hashing, uint64_t end) {
    hashing->busy = true;
    hashing->ahead = end;
}

void hashing_end_turn(struct hashing *hashing, struct body *body, bool hashed) {
    if (hashed)
        body->hashed = hashing->ahead;
    hashing->busy = false;
    condition_broadcast(&hashing->turned);
}

void hashing_hand(struct hashing *hashing, const struct portion *portion) {
    hashing->handed = *portion;
}

struct portion hashing_take(struct hashing *hashing) {
    const struct portion portion = hashing->handed;
    hashing->handed = (struct portion){0};
    condition_broadcast(&hashing->turned);
    return portion;
}

void hashing_keep(struct hashing *hashing, char *buffer) {
    for (size_t i = 0; i < FLIGHT_SPARES; i++) {
        if (hashing->spare[i])
            continue;
        hashing->spare[i] = buffer;
        return;
    }
    free(buffer);
}

char *hashing_reuse(struct hashing *hashing) {
    for (size_t i = 0; i < FLIGHT_SPARES; i++) {
        char *buffer = hashing->spare[i];
        hashing->spare[i] = NULL;
        if (buffer)
            return buffer;
    }
    return NULL;
}
