/*
 * Asks the replica that owns a document, or the size of a blob, in place of upstream. Private to
 * cache/.
 *
 * The owner is asked to fetch; then the next of the ranking, if the owner does not help; after
 * three of them, or when this replica is the next, upstream is asked directly. What a replica says
 * of upstream is upstream's word. What it holds comes with an age, so that nothing is believed for
 * longer because it went through a replica.
 *
 * Such a question is one of its own beside the question to upstream: what a replica asks here never
 * waits for what another replica is asked.
 *
 * Threads: any.
 */
#ifndef CACHE_OWNER_H
#define CACHE_OWNER_H

#include "cache/question.h"
#include "replica/asker.h"
#include "upstream/upstream.h"

/* What is asked for. */
struct owner_topic {
    enum upstream_what what;
    const struct repository_name *name;
    const struct reference *reference; /* NULL for tags */
};

/* Whether another replica owns the topic and a client asks for it. */
bool owner_is_another(struct cache *cache, const struct cache_caller *caller,
                      const struct owner_topic *topic);

/* What a replica has given. */
struct owner_answer {
    struct buffer body; /* with a limit; owner_answer_finish() frees it */
    struct replica_head head;
    int64_t age_ms;   /* since upstream was asked */
    int64_t fresh_ms; /* how long it may be believed from now on; INT64_MAX: for ever */
};
void owner_answer_finish(struct owner_answer *answer);
#define cleanup_owner_answer __attribute__((cleanup(owner_answer_finish)))

/*
 * Asks on the question's thread. `accept` takes what a replica has given; false: it is not what was
 * asked for, and the next replica is asked. False: upstream's own word, or ERROR_CLOSED; or (the
 * question is then `undecided`) no replica could tell, and upstream is to be asked.
 */
bool owner_ask(struct question *question, const struct owner_topic *topic, bool head_only,
               bool (*accept)(struct question *question, struct owner_answer *answer,
                              struct error *error),
               struct owner_answer *answer, struct error *error);

#endif
