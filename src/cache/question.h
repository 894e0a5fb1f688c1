/*
 * Questions to upstream. Private to cache/.
 *
 * A question is one inquiry of upstream under way. A caller that needs the same answer joins the
 * question, so that upstream is asked once. A question runs on a thread of its own, so that a
 * caller for whom a stale document is held need not wait for the end.
 *
 * A caller whose client has gone leaves the question, which goes on for the others. When all have
 * gone, the question is abandoned: it makes no further request, and leaves the upstream's queue for
 * a connection. A request that has been sent goes on, because its response is kept for the next
 * client, unless another one waits for its connection.
 *
 * Threads: any.
 */
#ifndef CACHE_QUESTION_H
#define CACHE_QUESTION_H

#include <stdatomic.h>
#include <uthash.h>
#include "base/cancel.h"
#include "base/lock.h"
#include "cache/slot.h"

struct question;

/* What is asked. Everything is borrowed for the call. */
struct inquiry {
    const char *key; /* of ask_key() */
    const struct repository *repository;
    const struct reference *reference; /* of a manifest; a blob's or subject's digest; NULL: none */
    /* Asks upstream, on the question's own thread. True: question->document and `confirmed` are
     * set. */
    bool (*answer)(struct question *question, struct error *error);
    bool to_replica;       /* another replica is asked, and not upstream (owner.h) */
    bool is_head;          /* an answer without bytes is enough; never joins a question for bytes */
    bool needs_bytes;      /* a document without bytes is no answer */
    bool is_impatient;     /* the wait ends as if there were `held`: another place may know */
    struct document *held; /* a stale document that may stand in; NULL: none */
    const struct cancel *cancel; /* of the caller, who has gone when it is cancelled; may be NULL */
};

struct question {
    UT_hash_handle hh;
    char key[KEY_SIZE]; /* the inquiry's, marked if it is for HEAD */
    struct cache *cache;
    bool (*answer)(struct question *question, struct error *error);
    struct repository repository;
    struct reference reference;
    struct document *held; /* what upstream may confirm; owned; may be NULL */
    int64_t started_ms;
    unsigned writes; /* slot_writes() when it was asked: with more, the answer is out of date */
    atomic_bool abandoned; /* nobody waits; changed under questions_lock */
    /* Set by `answer`: what is to be done on the disk. It is called after the callers have their
     * answer, because syncs take longer than upstream, and for one question after the other. NULL:
     * nothing. */
    void (*store)(struct question *question);
    bool from_bucket; /* the document came from the bucket; `found_s`: the time of its object */
    int64_t found_s;
    bool
        fetched; /* upstream has sent the document's bytes to a GET, whose client wants its blobs */

    bool from_replica; /* another replica was asked */
    bool is_stale;     /* its upstream fails: the document is past its time */
    bool undecided;    /* no replica could tell: upstream is to be asked */
    int64_t age_ms;    /* from_replica: since upstream was asked, */
    int64_t fresh_ms;  /* and how long the answer may be believed; INT64_MAX: for ever */

    /* Guarded by the cache's questions_lock: */
    unsigned references;
    unsigned waiting;   /* callers */
    bool was_abandoned; /* since it was asked the last time */
    bool is_for_all;    /* a caller has taken what is held instead: the answer is for later ones */
    struct condition answered; /* its own, so that no other question's callers wake up */
    bool done;
    bool is_refresh;  /* no client asked when it began */
    bool is_outdated; /* it is no longer in the table, because of a write: nobody joins it */
    bool confirmed;   /* upstream confirmed `held` */
    struct document *document; /* the answer, owned; NULL when it failed */
    struct error error;
    struct question *prev, *next; /* in the cache's `storing` */
    struct condition has_turn; /* it is the first of them; waking all would take the processors */
    uint64_t number;           /* of the answers that are stored, in their order */
};

struct question_result {
    struct document *document; /* the caller's to release */
    bool confirmed;            /* it is `held`, confirmed by upstream */
    bool from_bucket;          /* upstream was not asked */
    bool from_replica;         /* another replica was asked */
    int64_t age_ms;            /* from_replica: since upstream was asked; else 0 */
    bool is_stale;             /* its upstream fails */
    bool undecided;            /* no replica could tell */
    bool goes_on;              /* the question was not answered yet */
    bool joined;               /* another caller had asked already */
};

/*
 * Asks, or joins a question for the same key. If `held` is not NULL or the inquiry is impatient,
 * the wait ends stale_after_ms after the question began, with ERROR_TIMEOUT. ERROR_BUSY:
 * waiting_begin(). ERROR_CLOSED: the caller was cancelled, which is noticed within half a second or
 * so.
 */
bool question_ask(struct cache *cache, const struct inquiry *inquiry,
                  struct question_result *result, struct error *error);

/* The same, of another replica first if `to_owner` is not NULL; what no replica can tell is asked
 * of upstream. */
bool question_ask_owner(struct cache *cache, const struct inquiry *to_owner,
                        const struct inquiry *to_upstream, struct question_result *result,
                        struct error *error);

/* A 404 that something in front of upstream may have sent, a load balancer for example, does not
 * end what is held: the error becomes a failure of upstream. */
void question_weigh_absence(const struct question *question, struct error *error);

/* Begins to ask, and waits for nothing: callers that come later join. Does nothing if the same is
 * asked already, or if the upstream has its share of waiting requests. */
void question_begin(struct cache *cache, const struct inquiry *inquiry);

/* How long the question's 404 may be believed. */
int64_t question_absence_ms(const struct question *question);

/* When the question's own thread is to end its work: tarn stops, or the question is abandoned.
 * Valid as long as the question. */
struct cancel question_cancel(struct question *question);

#endif
