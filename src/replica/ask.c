/* The words that replicas say to each other. */
#include "replica/ask.h"

#include <string.h>

static const char *const asks[] = {
    [REPLICA_ASK_NONE] = NULL,       [REPLICA_ASK_ARRIVING] = "arriving",
    [REPLICA_ASK_FETCH] = "fetch",   [REPLICA_ASK_FETCH_ABSENT] = "fetch; bucket=absent",
    [REPLICA_ASK_FORGET] = "forget", [REPLICA_ASK_RENEW] = "renew",
    [REPLICA_ASK_UPLOAD] = "upload",
};
static const char *const answers[] = {
    [REPLICA_ANSWER_NONE] = NULL,
    [REPLICA_ANSWER_HELD] = "held",
    [REPLICA_ANSWER_ARRIVING] = "arriving",
    [REPLICA_ANSWER_UPSTREAM] = "upstream",
    [REPLICA_ANSWER_NO] = "no",
};
enum { COUNT_ASKS = sizeof asks / sizeof *asks, COUNT_ANSWERS = sizeof answers / sizeof *answers };

/* The number of the word; 0: it is none. */
static unsigned find(struct text value, const char *const *words, unsigned count) {
    for (unsigned i = 1; i < count; i++) {
        if (text_is(value, words[i]))
            return i;
    }
    return 0;
}

const char *replica_ask_text(enum replica_ask ask) {
    return asks[ask];
}

const char *replica_answer_text(enum replica_answer answer) {
    return answers[answer];
}

bool replica_ask_parse(struct text value, enum replica_ask *out) {
    *out = (enum replica_ask)find(value, asks, COUNT_ASKS);
    return *out != REPLICA_ASK_NONE;
}

bool replica_answer_parse(struct text value, enum replica_answer *out) {
    *out = (enum replica_answer)find(value, answers, COUNT_ANSWERS);
    return *out != REPLICA_ANSWER_NONE;
}

enum replica_answer replica_answer_of(const struct error *error) {
    if (error->reason == ERROR_REASON_STOPPING)
        return REPLICA_ANSWER_NONE;
    switch (error->kind) {
    case ERROR_NOT_FOUND:
    case ERROR_DENIED:
    case ERROR_RATE_LIMITED:
    case ERROR_UNAVAILABLE:
    case ERROR_TIMEOUT:
    case ERROR_CORRUPT:
    case ERROR_RANGE:
    case ERROR_UNSUPPORTED:
        return REPLICA_ANSWER_UPSTREAM;
    default:
        return REPLICA_ANSWER_NONE;
    }
}

int64_t replica_age_s(int64_t age_ms) {
    return age_ms <= 0 ? 0 : (age_ms + 900) / 1000;
}
