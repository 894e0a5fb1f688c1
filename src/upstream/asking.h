/*
 * One small request to upstream whose whole response is gathered: at its url first, then at its
 * fallbacks, and by GET where HEAD is refused.
 *
 * Threads: any; an asking belongs to one thread at a time.
 */
#ifndef UPSTREAM_ASKING_H
#define UPSTREAM_ASKING_H

#include "base/buffer.h"
#include "upstream/upstream.h"

/* One request for a small body, and its response. */
struct asking {
    struct upstream_request request; /* repository, location and deadline are filled in */
    size_t limit;                    /* of the body, in bytes; 0: none */
    struct upstream_head head;       /* upstream's final head */
    struct buffer body;              /* asking_finish() frees it */
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
 * in request.location alone, because another one's pages may begin elsewhere. Errors: as
 * upstream_perform().
 */
bool asking_get(const struct repository *repository, struct asking *asking, struct error *error);
void asking_finish(struct asking *asking);
#define cleanup_asking __attribute__((cleanup(asking_finish)))

#endif
