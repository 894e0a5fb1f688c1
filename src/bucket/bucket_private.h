/* What the files of bucket/ share: the bucket, and one call under way. Private to bucket/. */
#ifndef BUCKET_PRIVATE_H
#define BUCKET_PRIVATE_H

#include <stdatomic.h>
#include "auth/aws/aws.h"
#include "auth/aws/sigv4.h"
#include "auth/credential.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "bucket/bucket.h"
#include "bucket/document.h"
#include "bucket/endpoint.h"
#include "client/breaker.h"
#include "client/lane.h"
#include "client/response.h"

enum {
    BUCKET_DATE_SIZE = 64,
    BUCKET_RANGE_SIZE = 96,
    REFUSALS = 16, /* kinds of refusals, each of which is logged once a minute */
};

enum bucket_operation {
    OPERATION_GET,
    OPERATION_HEAD,
    OPERATION_PUT,
    OPERATION_PART,
    OPERATION_CREATE,
    OPERATION_COMPLETE,
    OPERATION_ABORT,
    OPERATION_LIST,
    OPERATION_DELETE,
    OPERATIONS
};

/* ---- the bucket ---- */

enum bucket_lists { LISTS_UNKNOWN, LISTS_ALLOWED, LISTS_FORBIDDEN };

/* What the bucket's answers have taught. */
struct bucket_learnt {
    char region[BUCKET_REGION_SIZE]; /* "": as it was configured or found */
    int64_t clock_s;                 /* added to our clock before signing */
    enum bucket_lists lists;
    int64_t lists_until_ms; /* how long that is believed */
    bool conditions_unknown;
    unsigned changes; /* of anything that makes the next request another one */
};

struct bucket {
    struct bucket_settings settings; /* its strings are owned */
    char label[5 + BUCKET_NAME_LIMIT + 1];
    struct client *client;
    struct lanes lanes;
    struct aws_source *aws;           /* keys and region; NULL: a token or nothing is borne */
    struct credential_source *google; /* NULL: no token is borne */
    struct breaker breaker;
    atomic_bool is_up;
    atomic_bool is_slow; /* the bucket works, but later than its patience: the breaker stays open,
                            and calls that have time go by it */
    struct lock learnt_lock;
    struct bucket_learnt learnt GUARDED_BY(learnt_lock);
    _Atomic int64_t ahead_s; /* of our clock, when the bucket last said its time */
    atomic_bool region_told, clock_told, lists_told, conditions_told;
    struct log_pause refused[REFUSALS], down;
    atomic_bool is_watched; /* bucket_watch() was called: a thread makes the probes */
    struct lock watch_lock;
    struct condition watch_changed;
    bool watcher_called GUARDED_BY(watch_lock);
};

/* ---- one call ---- */

enum { BUCKET_FIELDS = 12, BUCKET_QUERY = 8 };

/* What is asked, and the last answer. */
struct bucket_ask {
    struct bucket *bucket;
    const char *key;   /* with the configured prefix; "": the bucket itself */
    const char *shown; /* for people */
    struct sigv4_pair query[BUCKET_QUERY];
    size_t query_count;
    struct sigv4_pair fields[BUCKET_FIELDS];
    size_t field_count;
    struct client_body body;
    const char *payload; /* the body's SHA-256 in hex, SIGV4_UNSIGNED; NULL: of an empty body */
    const struct bucket_range *range;
    const struct bucket_sink *sink; /* NULL: the answer comes whole */
    const struct cancel *cancel;
    int64_t deadline_ms;
    enum bucket_operation operation;
    unsigned tries;
    bool stores;      /* an object: storage class and encryption are said */
    bool conditional; /* only if the key is absent */
    bool inside;      /* another call asks this: the breaker has let that pass */
    bool insists;     /* it asks although the breaker is open */
    bool has_time;    /* the call has no deadline of its own */
    bool goes_by;     /* it has time, and the bucket is slow: the breaker is not asked */

    bool conditioned; /* the last request had a condition */
    bool in_doubt;    /* a completion was sent whose answer does not say what became of it */
    bool head_given;  /* the sink has a head */
    bool is_cut;      /* the sink itself ended the request */
    bool renewed, moved, corrected, unconditioned, surveyed; /* each helps once */
    enum bucket_outcome outcome;
    unsigned keys_number; /* of the credentials that signed the last request */
    int64_t answered_ms;  /* clock_ms() of the head that the sink has; 0: none */
    struct client_response response;
    uint64_t received;
    struct error *error, unwanted;
    struct bucket_fault fault;
    char signed_region[BUCKET_REGION_SIZE]; /* for which the last request was signed */
    char etag[BUCKET_ETAG_SIZE], modified[BUCKET_DATE_SIZE], date[BUCKET_DATE_SIZE];
    char region[BUCKET_REGION_SIZE], content_range[BUCKET_RANGE_SIZE];
};

/* Prepares a call for the key below the configured prefix. `full` keeps the whole key. False:
 * ERROR_INVALID (the key is too long); everything that bucket_ask_run() sets says so. */
bool bucket_ask_init(struct bucket_ask *ask, struct bucket *bucket, enum bucket_operation operation,
                     const char *key, char full[static BUCKET_KEY_LIMIT + 1],
                     const struct bucket_limits *limits, struct error *error);
void bucket_ask_finish(struct bucket_ask *ask);
/* Of what cannot be asked at all: says so in *answer (may be NULL). Returns false. */
bool bucket_ask_give_up(const struct bucket_ask *ask, struct bucket_answer *answer);

void bucket_ask_query(struct bucket_ask *ask, const char *name, const char *value);
void bucket_ask_field(struct bucket_ask *ask, const char *name, const char *value);

/* Asks until there is an answer that counts. True: BUCKET_DONE. The answer stays in *ask, and
 * *answer (may be NULL) is filled either way. */
bool bucket_ask_run(struct bucket_ask *ask, struct bucket_answer *answer);

/* One request and its answer (send.c). True: a whole response is here, whatever its status. False:
 * ask->outcome says what failed. */
bool bucket_send(struct bucket_ask *ask);

/* ---- judging an answer (judge.c); pure ---- */

enum bucket_step {
    STEP_END,
    STEP_LATER,   /* the same again after a pause */
    STEP_RENEW,   /* with new credentials */
    STEP_MOVE,    /* in the region that fault.region names */
    STEP_CORRECT, /* with the bucket's clock */
    STEP_UNCONDITIONED,
    STEP_SURVEY, /* it may look forbidden because it is absent, or an answer without a body hides
                    its reason: ask what the rights are */
};

/* What a response's status and code mean. *outcome is what it is in the end when the step is not
 * taken. */
enum bucket_step bucket_judge(const struct bucket_ask *ask, enum bucket_outcome *outcome);
/* The status that a code of an <Error> within a 200 usually comes with. */
int bucket_status_of_code(const char *code);

/* ---- credentials (proof.c) ---- */

/* The lines of a head that prove who asks. */
struct bucket_proof {
    struct aws_credentials keys; /* of a signature; zeroed: none */
    char *bearer;                /* "Authorization: Bearer …"; NULL: none */
};
bool bucket_proof_get(struct bucket_ask *ask, struct bucket_proof *out);
void bucket_proof_wipe(struct bucket_proof *proof);
#define cleanup_bucket_proof __attribute__((cleanup(bucket_proof_wipe)))

/* Whether requests bear a token of Google's: their fields are x-goog-… */
static inline bool bucket_bears_token(const struct bucket *bucket) {
    return bucket->google != NULL;
}

/* ---- what is learnt (learn.c) ---- */

void bucket_learnt(struct bucket *bucket, struct bucket_learnt *out);
/* The region to sign for; `out` as of bucket_region_is_valid(). */
void bucket_region(struct bucket *bucket, char out[static BUCKET_REGION_SIZE]);
void bucket_learn_region(struct bucket *bucket, const char *region);
/* The bucket's time by its last answer; false: it said none. */
bool bucket_learn_clock(struct bucket *bucket, int64_t date_s);
void bucket_learn_condition(struct bucket *bucket);
void bucket_learn_renewal(struct bucket *bucket);
void bucket_learn_lists(struct bucket *bucket, enum bucket_lists lists);
void bucket_note_date(struct bucket *bucket, int64_t date_s);

/* ---- what people are told (report.c) ---- */

const char *bucket_method(enum bucket_operation operation);
void bucket_count(const struct bucket_ask *ask, int64_t duration_us);
/* Sets the text of the error for an answer. */
void bucket_tell_status(const struct bucket_ask *ask);
/* Wraps the text of an error for which there was no answer. */
void bucket_tell_failure(const struct bucket_ask *ask);
void bucket_log_refusal(const struct bucket_ask *ask);
void bucket_log_lists(const struct bucket_ask *ask);
void bucket_show_up(struct bucket *bucket, bool up);
#define BUCKET_SLOW                                                                                \
    "the bucket answers later than bucket.patience: nothing is read from it for a while"

/* Seconds since 1970 of an HTTP date (RFC 9110 §5.6.7); 0: none. */
int64_t bucket_date_parse(const char *text);

#endif
