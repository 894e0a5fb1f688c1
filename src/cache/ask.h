/*
 * One small request to upstream, and the keys under which the result is kept. Private to cache/.
 *
 * Threads: any.
 */
#ifndef CACHE_ASK_H
#define CACHE_ASK_H

#include "cache/slot.h"

struct question;

/* The key under which the cache knows something: "HOST/REPOSITORY WHAT REFERENCE". */
void ask_key(char key[static KEY_SIZE], const struct repository *repository, const char *what,
             const struct reference *reference);

/* How long upstream's response for a tag stays fresh. */
int64_t ask_tag_ttl(const struct repository *repository);

/* Logs that something stale is served because upstream failed: for each upstream once a minute.
 * `tag` is NULL for a list. */
void ask_log_stale(const struct repository *repository, const char *message, const char *tag,
                   const struct error *error);

/* A digest as a reference, for keys and requests. */
struct reference ask_reference(const struct digest *digest);

/* One request for a small body, and its response. */
struct asking {
    struct upstream_request request; /* repository, location, deadline, stop and abandoned are
                                        filled in */
    size_t limit;                    /* of the body, in bytes; 0: none */
    struct upstream_head head;       /* upstream's final head */
    struct buffer body;              /* ask_finish() frees it */
    /* Whether the response is what it should be. False, with ERROR_UNAVAILABLE: the next location
     * is asked. NULL: any response is right. */
    bool (*accept)(struct asking *asking, struct error *error);
    void *context; /* for accept */

    /* For a HEAD. Where HEAD is refused, or was refused a moment ago, the same is asked by GET: a
     * manifest is then in `body` (`limit` and `accept` count), and of a blob only the first byte
     * comes. */
    bool (*says_enough)(const struct upstream_head *head); /* false: GET as well; NULL: always */
    bool get_after_404;                                    /* a GET decides after a 404, too */
    bool needs_no_length; /* a refusal that says nothing of the name is good enough: no GET */
    bool by_get;          /* result: it is a GET that was answered, or that failed; the length in
                           * `head` is the whole blob's */
    bool refused;         /* result, with needs_no_length: HEAD is refused, and `head` is empty */
};

/*
 * Asks the first location, and after a failure that may pass the next one. request.location says in
 * the end which one was asked last. Only the first location knows what there is: a fallback may
 * hold a part of it. So a fallback's refusal (404, 403) makes the next one be asked, and when all
 * have failed, the error is the first location's. A request for a further page goes to the location
 * in request.location alone, because another one's pages may begin elsewhere.
 *
 * Called on the question's thread, and asks for its repository. ERROR_CLOSED: tarn stops, or the
 * question's callers have gone.
 */
bool ask_get(struct question *question, struct asking *asking, struct error *error);
void ask_finish(struct asking *asking);
#define cleanup_asking __attribute__((cleanup(ask_finish)))

#endif
