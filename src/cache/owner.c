/* Asks the replica that owns a document. */
#include "cache/owner.h"

#include <stdio.h>
#include "base/clock.h"
#include "base/log.h"
#include "cache/cache_private.h"

enum {
    MEMBERS_MOST = 3, /* that are asked before upstream is */
    LATE_MS = 500, /* for the owner, whose own time began later, to say that upstream is silent */
    PATH_SIZE = HOST_LIMIT + NAME_LIMIT + DIGEST_STRING_SIZE + TAG_LIMIT + 32,
};

/* ---- names ---- */

static const char *reference_text(const struct reference *reference,
                                  char digest[static DIGEST_STRING_SIZE]) {
    return reference->is_digest ? digest_format(&reference->digest, digest) : reference->tag;
}

/* The key of the ranking. */
static void make_key(const struct owner_topic *topic, char key[static RANKING_KEY_LIMIT]) {
    char digest[DIGEST_STRING_SIZE];
    const char *host = topic->name->host, *path = topic->name->path;
    switch (topic->what) {
    case UPSTREAM_TAGS:
        snprintf(key, RANKING_KEY_LIMIT, "%s/%s tags", host, path);
        break;
    case UPSTREAM_REFERRERS:
        snprintf(key, RANKING_KEY_LIMIT, "%s/%s referrers %s", host, path,
                 reference_text(topic->reference, digest));
        break;
    case UPSTREAM_MANIFEST:
    case UPSTREAM_BLOB:
        if (topic->reference->is_digest)
            snprintf(key, RANKING_KEY_LIMIT, "%s", reference_text(topic->reference, digest));
        else
            snprintf(key, RANKING_KEY_LIMIT, "%s/%s:%s", host, path, topic->reference->tag);
        break;
    }
}

static void make_path(const struct owner_topic *topic, char path[static PATH_SIZE]) {
    static const char *const kinds[] = {[UPSTREAM_MANIFEST] = "manifests/",
                                        [UPSTREAM_BLOB] = "blobs/",
                                        [UPSTREAM_TAGS] = "tags/list",
                                        [UPSTREAM_REFERRERS] = "referrers/"};
    char digest[DIGEST_STRING_SIZE];
    snprintf(path, PATH_SIZE, "/v2/%s/%s/%s%s", topic->name->host, topic->name->path,
             kinds[topic->what], topic->reference ? reference_text(topic->reference, digest) : "");
}

/* ---- whom to ask ---- */

static bool is_in(const struct member *list, unsigned count, const struct member *member) {
    for (unsigned i = 0; i < count; i++) {
        if (member_equal(&list[i], member))
            return true;
    }
    return false;
}

/* The first of the ranking that was not asked. False: it is this replica itself, or nobody. */
static bool find_owner(struct cache *cache, const char *key, const struct member *asked,
                       unsigned count, struct member *out) {
    struct members_owner owner;
    for (unsigned skipped = 0; skipped <= count; skipped++) {
        members_owner(replica_asker_members(cache->replicas), key, skipped, clock_ms(), &owner);
        if (owner.is_nobody || owner.is_self)
            return false;
        *out = owner.member;
        if (!is_in(asked, count, out))
            return true;
    }
    return false;
}

bool owner_is_another(struct cache *cache, const struct cache_caller *caller,
                      const struct owner_topic *topic) {
    char key[RANKING_KEY_LIMIT];
    struct member ignored;
    if (!cache->replicas || caller->ask != REPLICA_ASK_NONE)
        return false;
    make_key(topic, key);
    return find_owner(cache, key, NULL, 0, &ignored);
}

/* ---- asking ---- */

void owner_answer_finish(struct owner_answer *answer) {
    buffer_finish(&answer->body);
}

/* How long the answer may be believed. What names itself by its digest is so for ever, and of
 * anything else without a word about its age nothing is known. */
static void read_life(const struct owner_topic *topic, struct owner_answer *answer) {
    const struct replica_head *head = &answer->head;
    const bool lasts = head->status == 200 && topic->reference && topic->reference->is_digest &&
                       topic->what != UPSTREAM_REFERRERS;
    answer->age_ms = head->age_s * 1000;
    answer->fresh_ms = lasts ? INT64_MAX : 0;
    if (!lasts && head->has_life && !head->is_stale && head->max_age_s > head->age_s)
        answer->fresh_ms = (head->max_age_s - head->age_s) * 1000;
}

static void log_refusal(struct question *question, const struct member *member,
                        const struct error *error) {
    unsigned more;
    if (log_is_due(&question->cache->refused_asks, &more))
        log_at(LOG_WARN, "a replica refuses what it is asked; it may be configured differently",
               LOG_STRING("replica", member->text), LOG_STRING("error", error->text),
               LOG_NUMBER("more_since_last", more));
}

bool owner_ask(struct question *question, const struct owner_topic *topic, bool head_only,
               bool (*accept)(struct question *question, struct owner_answer *answer,
                              struct error *error),
               struct owner_answer *answer, struct error *error) {
    struct cache *cache = question->cache;
    const struct cancel cancel = question_cancel(question);
    const int64_t deadline_ms =
        question->started_ms + LATE_MS +
        upstream_settings(question->repository.upstream)->first_byte_timeout_ms;
    char key[RANKING_KEY_LIMIT], path[PATH_SIZE];
    struct member asked[MEMBERS_MOST];
    unsigned count = 0;
    make_key(topic, key);
    make_path(topic, path);
    while (count < MEMBERS_MOST && find_owner(cache, key, asked, count, &asked[count])) {
        const struct replica_request request = {
            .member = &asked[count],
            .ask = REPLICA_ASK_FETCH,
            .head_only = head_only,
            .path = path,
            .deadline_ms = deadline_ms,
            .cancel = &cancel,
        };
        enum replica_outcome outcome =
            replica_asker_read(cache->replicas, &request, &answer->body, &answer->head, error);
        read_life(topic, answer);
        question->is_stale = answer->head.is_stale;
        if (outcome == REPLICA_GAVE && accept(question, answer, error))
            return true;
        const bool is_own_fault = outcome == REPLICA_GAVE && error->kind == ERROR_MEMORY;
        if (outcome == REPLICA_FINAL || outcome == REPLICA_STOPPED || is_own_fault)
            return false;
        if (clock_ms() >= deadline_ms)
            return error_set(error, ERROR_TIMEOUT,
                             "upstream %s: no answer in time through replica %s", topic->name->host,
                             asked[count].text);
        if (outcome == REPLICA_GAVE || outcome == REPLICA_REFUSED)
            log_refusal(question, &asked[count], error);
        count++;
    }
    question->undecided = true;
    return error_set(error, ERROR_UNAVAILABLE, "no replica could tell");
}
