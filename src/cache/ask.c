/* Asks upstream for one small body, at one location after the other. */
#include "cache/ask.h"

#include <inttypes.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "cache/cache_private.h"
#include "client/retry.h"

void ask_key(char key[static KEY_SIZE], const struct repository *repository, const char *what,
             const struct reference *reference) {
    char digest[DIGEST_STRING_SIZE];
    const char *parts[] = {repository->name.host,
                           "/",
                           repository->name.path,
                           " ",
                           what,
                           " ",
                           !reference             ? ""
                           : reference->is_digest ? digest_format(&reference->digest, digest)
                                                  : reference->tag};
    size_t used = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t length = strnlen(parts[i], KEY_SIZE - 1 - used);
        memcpy(key + used, parts[i], length);
        used += length;
    }
    key[used] = '\0';
}

int64_t ask_tag_ttl(const struct repository *repository) {
    return upstream_settings(repository->upstream)->tag_ttl_ms;
}

void ask_log_stale(const struct repository *repository, const char *message, const char *tag,
                   const struct error *error) {
    unsigned more, used = 0;
    if (!log_is_due(&upstream_held(repository->upstream)->stale, &more))
        return;
    struct log_field fields[5];
    fields[used++] = LOG_STRING("upstream", repository->name.host);
    fields[used++] = LOG_STRING("repository", repository->name.path);
    if (tag)
        fields[used++] = LOG_STRING("tag", tag);
    fields[used++] = LOG_STRING("error", error->text);
    fields[used++] = LOG_NUMBER("more_since_last", more);
    log_event(LOG_WARN, message, fields, used);
}

struct reference ask_reference(const struct digest *digest) {
    return (struct reference){.is_digest = true, .digest = *digest};
}

/* ---- one small body ---- */

struct collecting {
    struct cache *cache;
    struct asking *asking;
};

static bool collect_head(void *context, const struct upstream_head *head, struct error *error) {
    struct asking *asking = ((struct collecting *)context)->asking;
    asking->head = *head;
    if (head->has_length && asking->limit && head->length > asking->limit)
        return error_set(error, ERROR_UNAVAILABLE,
                         "the response has %" PRIu64 " bytes, over the limit of %zu", head->length,
                         asking->limit);
    return true;
}

static bool collect_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct collecting *collecting = context;
    metric_add(collecting->cache->pulled_bytes, (int64_t)length);
    struct buffer *body = &collecting->asking->body;
    if (buffer_append(body, bytes, length))
        return true;
    if (!body->limit || length <= body->limit - body->length)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return error_set(error, ERROR_UNAVAILABLE, "the response is longer than the limit of %zu bytes",
                     body->limit);
}

/* Asks the location that the request names. */
static bool ask_location(struct cache *cache, struct upstream *upstream, struct asking *asking,
                         struct error *error) {
    struct collecting collecting = {cache, asking};
    const struct upstream_sink sink = {&collecting, collect_head, collect_bytes};
    buffer_clear(&asking->body);
    asking->body.limit = asking->limit;
    return upstream_perform(upstream, &asking->request, &sink, error) &&
           (!asking->accept || asking->accept(asking, error));
}

/* Whether another location may have what this one did not give. Only the first location can know
 * that a thing does not exist, because a fallback may hold a part. */
static bool may_be_elsewhere(const struct asking *asking, const struct error *error) {
    const enum retry_failure failure = retry_classify(error);
    return !asking->request.page && !asking->request.last &&
           (failure != FAILURE_REFUSED || asking->request.location > 0) &&
           retry_decide(failure, PHASE_UNANSWERED, 0) == RETRY_ELSEWHERE;
}

bool ask_get(struct cache *cache, const struct repository *repository, struct asking *asking,
             struct error *error) {
    struct upstream *upstream = repository->upstream;
    struct upstream_request *request = &asking->request;
    const unsigned places = upstream_places(upstream);
    int64_t patience = upstream_settings(upstream)->first_byte_timeout_ms;
    int64_t began = clock_ms();
    struct error first = {0};
    request->host = repository->name.host;
    request->repository = repository->name.path;
    request->cancel.stop = &cache->stopping;
    for (;;) {
        if (places > 1 && patience) /* a silent location must leave time for the next one */
            request->deadline_ms = began + patience * (request->location + 1) / places;
        if (ask_location(cache, upstream, asking, error))
            return true;
        if (first.kind == ERROR_NONE)
            first = *error;
        if (!may_be_elsewhere(asking, error) || request->location + 1 >= places)
            break;
        request->location++;
    }
    if (request->location > 0)
        log_at(LOG_DEBUG, "no fallback could help", LOG_STRING("upstream", repository->name.host),
               LOG_STRING("last", error->text));
    *error = first;
    return false;
}

void ask_finish(struct asking *asking) {
    buffer_finish(&asking->body);
}
