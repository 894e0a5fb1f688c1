/* What the answers of an object store mean: one table of statuses and codes. */
#include <string.h>
#include "bucket/bucket_private.h"

static bool is_one_of(const char *code, const char *const *list) {
    for (; *list; list++) {
        if (strcmp(code, *list) == 0)
            return true;
    }
    return false;
}

/* Codes that say: the same request may work a moment later. */
static bool is_passing(int status, const char *code) {
    static const char *const codes[] = {"RequestTimeout",
                                        "SlowDown",
                                        "ServiceUnavailable",
                                        "InternalError",
                                        "OperationAborted",
                                        "ConditionalRequestConflict",
                                        "TooManyRequests",
                                        "RequestLimitExceeded",
                                        "Throttling",
                                        "ThrottlingException",
                                        NULL};
    return status == 408 || status == 429 || (status >= 500 && status != 501) ||
           is_one_of(code, codes);
}

static bool is_stale_key(int status, const char *code) {
    static const char *const codes[] = {"ExpiredToken", "InvalidToken", "ExpiredTokenException",
                                        "TokenRefreshRequired", NULL};
    return status == 401 || is_one_of(code, codes);
}

static bool is_skewed(const char *code) {
    static const char *const codes[] = {"RequestTimeTooSkewed", "RequestExpired", NULL};
    return is_one_of(code, codes);
}

static bool writes_parts(enum bucket_operation operation) {
    return operation == OPERATION_PART || operation == OPERATION_COMPLETE ||
           operation == OPERATION_ABORT;
}

static bool reads(enum bucket_operation operation) {
    return operation == OPERATION_GET || operation == OPERATION_HEAD;
}

int bucket_status_of_code(const char *code) {
    static const struct {
        const char *code;
        int status;
    } known[] = {{"InternalError", 500},
                 {"SlowDown", 503},
                 {"ServiceUnavailable", 503},
                 {"PreconditionFailed", 412},
                 {"NoSuchUpload", 404},
                 {"NoSuchBucket", 404},
                 {"NoSuchKey", 404},
                 {"AccessDenied", 403},
                 {"ExpiredToken", 400},
                 {"ConditionalRequestConflict", 409},
                 {"OperationAborted", 409},
                 {"NotImplemented", 501},
                 {"RequestTimeTooSkewed", 403},
                 {"SignatureDoesNotMatch", 403}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].code, code) == 0)
            return known[i].status;
    }
    return 400;
}

/* 404 */
static enum bucket_outcome judge_absent(const struct bucket_ask *ask) {
    const char *code = ask->fault.code;
    if (strcmp(code, "NoSuchBucket") == 0)
        return BUCKET_REFUSED;
    if (strcmp(code, "NoSuchUpload") == 0 || writes_parts(ask->operation))
        return BUCKET_NO_UPLOAD;
    if (reads(ask->operation) || ask->operation == OPERATION_DELETE)
        return BUCKET_ABSENT;
    return BUCKET_REFUSED;
}

/* 403, and what else may hide that a key is absent */
static enum bucket_step judge_forbidden(const struct bucket_ask *ask,
                                        enum bucket_outcome *outcome) {
    static const char *const keys[] = {"SignatureDoesNotMatch", "InvalidAccessKeyId",
                                       "InvalidSecurity", NULL};
    *outcome = BUCKET_FORBIDDEN;
    if (!reads(ask->operation) || is_one_of(ask->fault.code, keys))
        return STEP_END;
    return STEP_SURVEY;
}

/* Statuses that say what they mean by themselves. */
static enum bucket_step judge_plain(const struct bucket_ask *ask, enum bucket_outcome *outcome) {
    int status = ask->response.status;
    *outcome = BUCKET_REFUSED;
    if (status == 404)
        *outcome = judge_absent(ask);
    else if (status == 416 && ask->operation == OPERATION_GET)
        *outcome = BUCKET_OUTSIDE;
    else if (status == 412 && ask->conditioned)
        *outcome = BUCKET_PRESENT;
    else if (status == 501 && ask->conditioned)
        return STEP_UNCONDITIONED;
    else if (status == 400 && ask->operation == OPERATION_HEAD) /* it has no body */
        return STEP_SURVEY;
    return STEP_END;
}

enum bucket_step bucket_judge(const struct bucket_ask *ask, enum bucket_outcome *outcome) {
    int status = ask->response.status;
    const char *code = ask->fault.code;
    if (status / 100 == 2 && !code[0]) {
        bool nonsense = ask->operation == OPERATION_GET && status != 200 && status != 206;
        *outcome = nonsense ? BUCKET_REFUSED : BUCKET_DONE;
        return STEP_END;
    }
    if (is_passing(status, code)) {
        *outcome = BUCKET_BUSY;
        return STEP_LATER;
    }
    if (is_stale_key(status, code)) {
        *outcome = BUCKET_FORBIDDEN;
        return STEP_RENEW;
    }
    if (is_skewed(code)) {
        *outcome = BUCKET_FORBIDDEN;
        return STEP_CORRECT;
    }
    /* Also of 301 and 307, which are never followed. */
    if (ask->fault.region[0] && (status == 400 || status == 403 || status / 100 == 3)) {
        *outcome = BUCKET_REFUSED;
        return STEP_MOVE;
    }
    if (status == 403)
        return judge_forbidden(ask, outcome);
    return judge_plain(ask, outcome);
}
