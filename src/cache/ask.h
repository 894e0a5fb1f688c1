/*
 * Small requests to upstream, and the keys under which the result is kept. Private to cache/.
 *
 * Threads: any.
 */
#ifndef CACHE_ASK_H
#define CACHE_ASK_H

#include "cache/slot.h"
#include "upstream/asking.h"

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

/* asking_get() for the question's repository, on the question's thread. ERROR_CLOSED: tarn stops,
 * or the question's callers have gone. */
bool ask_get(struct question *question, struct asking *asking, struct error *error);

#endif
