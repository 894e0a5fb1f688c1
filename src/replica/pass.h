/*
 * Passes a client's request to an upload session on to the member that holds the session.
 *
 * The request is signed as every request between replicas, with the words of replica/ask.h. It is
 * sent once: what follows a failure is the caller's to decide.
 *
 * Threads: any. A request blocks the thread that makes it.
 */
#ifndef REPLICA_PASS_H
#define REPLICA_PASS_H

#include "client/body.h"
#include "replica/asker.h"

enum { REPLICA_PASS_FIELDS = 4 };

/* A client's request to an upload session that a member holds. Everything is borrowed. */
struct replica_pass {
    const struct member *member;
    const char *method;        /* "PATCH" */
    const char *path;          /* "/v2/HOST/NAME/blobs/uploads/ID" */
    const char *query;         /* escaped */
    const char *const *fields; /* at most REPLICA_PASS_FIELDS lines, NULL-terminated; may be NULL */
    struct client_body body;   /* is read once */
    int64_t answer_ms;         /* how long the answer may take, behind the body */
    const struct cancel *cancel;
};

/* What the member has answered. Large: not for the stack of a worker. */
struct replica_passed {
    int status;
    int retry_after_s;
    char location[8192], range[64], digest[DIGEST_STRING_SIZE], uuid[160], least_chunk[24];
    struct error refusal; /* its code and text; "" where there are none */
};

/* Passes a request on. REPLICA_GAVE: *passed is the answer. REPLICA_DOWN: the member is not there.
 * REPLICA_REFUSED: who is there is no replica that knows us. REPLICA_CUT: the answer was not to be
 * had, and the member is there. REPLICA_STOPPED: cancelled, the error of the body's source, or our
 * own fault. The error is set for every outcome but REPLICA_GAVE. */
enum replica_outcome replica_asker_pass(struct replica_asker *asker,
                                        const struct replica_pass *pass,
                                        struct replica_passed *passed, struct error *error);

#endif
