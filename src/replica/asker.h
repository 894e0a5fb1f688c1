/*
 * Asks other replicas: sends a signed request to a member, takes the answer as it comes, and
 * records who is down.
 *
 * A member is down when it refuses the connection, cuts it before a head, or stays silent: no head
 * or no byte for two seconds, and then no answer of its /livez within one. A member that is alive
 * may be silent for longer, because its upstream is. As long as a member is down, its /livez is
 * asked every second, and an answer ends that.
 *
 * No request goes through a proxy, follows a redirect, or carries a login, a cookie or a
 * credential.
 *
 * Threads: any. A request blocks the thread that makes it.
 */
#ifndef REPLICA_ASKER_H
#define REPLICA_ASKER_H

#include <stddef.h>
#include "base/buffer.h"
#include "base/cancel.h"
#include "client/client.h"
#include "oci/digest.h"
#include "replica/ask.h"
#include "replica/members.h"
#include "replica/signature.h"

struct replica_asker;

struct replica_asker_settings {
    struct client *client;   /* outlives the asker, as do the members and the context */
    struct members *members; /* who they are, and who is down */
    /* Signs a request, as signature_make() does. */
    bool (*sign)(void *context, const struct signed_request *request,
                 char input[static SIGNATURE_INPUT_SIZE], char signature[static SIGNATURE_SIZE]);
    void *context;
    bool is_tls;
    const char *ca_file;     /* PEM, to trust in place of the system's; NULL: none */
    const char *server_name; /* in the members' certificates; NULL: their addresses */
};

/* NULL: out of memory, or the file cannot be read. */
struct replica_asker *replica_asker_new(const struct replica_asker_settings *settings,
                                        struct error *error);
/* No request is under way. Waits a second at most for a question to /livez. NULL is allowed. */
void replica_asker_free(struct replica_asker *asker);
/* No member is asked for its /livez any more. For the end of the process. */
void replica_asker_stop(struct replica_asker *asker);

struct members *replica_asker_members(const struct replica_asker *asker);

/* Whether it has left the list and did not answer any more. */
bool replica_asker_is_gone(struct replica_asker *asker, const struct member *member);

/* Everything is borrowed for the call. */
struct replica_request {
    const struct member *member;
    enum replica_ask ask;
    bool head_only;   /* HEAD */
    const char *path; /* "/v2/HOST/NAME/…" without a query */
    bool has_range;
    uint64_t first, last; /* inclusive; `last` UINT64_MAX: to the end */
    uint64_t suffix;      /* not 0: the last `suffix` bytes instead */
    int64_t deadline_ms;  /* clock_ms() by which a head must be here */
    const struct cancel *cancel;
};

/* The head of an answer with content, or of a 416 that tells the size. */
struct replica_head {
    int status; /* 200, 206 or 416 */
    enum replica_answer answer;
    bool has_length;
    uint64_t length; /* of this body */
    bool has_range;  /* a 206 that fits the request */
    uint64_t first, last;
    bool has_total;
    uint64_t total; /* of the whole content */
    char content_type[128];
    bool has_digest;
    struct digest digest;
    bool has_life;
    int64_t age_s, max_age_s; /* since upstream was asked, and how old it may be */
    bool is_stale;            /* its upstream fails */
};

/* Takes an answer. A function that returns false ends the request with the error that it set. */
struct replica_sink {
    void *context;
    bool (*on_head)(void *context, const struct replica_head *head, struct error *error);
    bool (*on_bytes)(void *context, const void *bytes, size_t length, struct error *error);
    /* Nothing more has come just now; also called before the head. */
    bool (*on_idle)(void *context, struct error *error);
};

enum replica_outcome {
    REPLICA_GAVE,    /* the whole content was handed on */
    REPLICA_OUTSIDE, /* 416: on_head() was told */
    REPLICA_SAID_NO, /* it is not arriving there */
    REPLICA_FINAL,   /* upstream's own word, which is the error: kind, code, Retry-After */
    REPLICA_REFUSED, /* an answer that is about this replica alone */
    REPLICA_DOWN,    /* no answer */
    REPLICA_CUT,     /* the answer broke off after its head, or is not there by the deadline */
    REPLICA_STOPPED, /* cancelled, ended by the sink, or our own fault */
};

/* Asks. `head` (may be NULL) gets the head of the answer, whatever its status: of a 404, its age
 * counts, too. The error is set for every outcome but REPLICA_GAVE, and begins with "replica
 * ADDRESS:PORT: " unless it is upstream's word or the sink's. */
enum replica_outcome replica_asker_ask(struct replica_asker *asker,
                                       const struct replica_request *request,
                                       const struct replica_sink *sink, struct replica_head *head,
                                       struct error *error);

/* The same for content of at most `body->limit` bytes, which comes whole. */
enum replica_outcome replica_asker_read(struct replica_asker *asker,
                                        const struct replica_request *request, struct buffer *body,
                                        struct replica_head *head, struct error *error);

/* Has a member forget the images that the name means (HOST/NAME[:TAG], HOST/NAME@DIGEST). *had_any:
 * it had some. False: it has not said that it did. */
bool replica_asker_forget(struct replica_asker *asker, const struct member *member,
                          const char *name, const struct cancel *cancel, bool *had_any,
                          struct error *error);

/* What a client has written to upstream, for those that have not seen it. */
struct replica_write {
    const char *name;      /* "HOST/NAME" */
    const char *reference; /* a tag or a digest */
    const char *what;      /* a word that sender and receiver know */
    const char *subject;   /* the digest that a manifest refers to; "": none */
};

/* Tells all members that are not down, all at once. Returns when each has answered, or does not in
 * some seconds; one that does not is logged. */
void replica_asker_renew(struct replica_asker *asker, const struct replica_write *write);

#endif
