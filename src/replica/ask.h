/*
 * What one replica asks another, and what it is told: the words of the fields Tarn-Ask and
 * Tarn-Answer, and a request to a member.
 *
 * A request is one of the distribution API in path form (/v2/HOST/NAME/…), or an order below
 * /tarn/v1/, with Tarn-Ask and a signature (signature.h). It carries no login, no cookie and no
 * credential of an upstream.
 */
#ifndef REPLICA_ASK_H
#define REPLICA_ASK_H

#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"
#include "base/text.h"

/* Tarn-Ask. */
enum replica_ask {
    REPLICA_ASK_NONE,         /* no replica asks: a client does */
    REPLICA_ASK_ARRIVING,     /* "arriving": only what is arriving here, or is here alone */
    REPLICA_ASK_FETCH,        /* "fetch": upstream is asked for it */
    REPLICA_ASK_FETCH_ABSENT, /* "fetch; bucket=absent": the same, and the bucket has it not */
    REPLICA_ASK_FORGET,       /* "forget": the order of tarn rm */
    REPLICA_ASK_RENEW,        /* "renew": a client has written to upstream */
    REPLICA_ASK_UPLOAD,       /* "upload": a client's request to an upload that is held there */
};
enum { REPLICA_ASKS = REPLICA_ASK_UPLOAD + 1 };

/* Tarn-Answer. */
enum replica_answer {
    REPLICA_ANSWER_NONE,     /* none was given */
    REPLICA_ANSWER_HELD,     /* "held" */
    REPLICA_ANSWER_ARRIVING, /* "arriving": of a flight that does not come from a replica */
    REPLICA_ANSWER_UPSTREAM, /* "upstream": what upstream itself said */
    REPLICA_ANSWER_NO,       /* "no": to "arriving" alone */
};

/* The value of the field; NULL: there is none. */
const char *replica_ask_text(enum replica_ask ask);
const char *replica_answer_text(enum replica_answer answer);

/* False: it is none of the values, letter for letter. */
bool replica_ask_parse(struct text value, enum replica_ask *out);
bool replica_answer_parse(struct text value, enum replica_answer *out);

/* What a replica says of an error with which cache/ has ended what it was asked for:
 * REPLICA_ANSWER_UPSTREAM, or REPLICA_ANSWER_NONE if the fault is its own. */
enum replica_answer replica_answer_of(const struct error *error);

/* In Cache-Status beside "upstream": something in front of upstream may have said it (error.h,
 * `doubtful`). */
#define REPLICA_DOUBTFUL "detail=doubtful"

/* An age in whole seconds for the field Age: rounded up, so that a hop lengthens no time; but what
 * is a moment old is 0. */
int64_t replica_age_s(int64_t age_ms);

#endif
