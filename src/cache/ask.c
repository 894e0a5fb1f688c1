/* Asks upstream for one small body, at one location after the other. */
#include "cache/ask.h"

#include <inttypes.h>
#include <string.h>
#include "base/clock.h"
#include "cache/cache_private.h"

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

struct reference ask_reference(const struct digest *digest) {
    return (struct reference){.is_digest = true, .digest = *digest};
}

/* ---- one small body ---- */

struct collecting {
    struct upstream_head *head;
    struct buffer *body;
    struct cache *cache;
};

static bool collect_head(void *context, const struct upstream_head *head, struct error *error) {
    struct collecting *collecting = context;
    *collecting->head = *head;
    if (head->has_length && collecting->body->limit && head->length > collecting->body->limit)
        return error_set(error, ERROR_UNAVAILABLE,
                         "the response has %" PRIu64 " bytes, over the limit of %zu", head->length,
                         collecting->body->limit);
    return true;
}

static bool collect_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct collecting *collecting = context;
    metric_add(collecting->cache->pulled_bytes, (int64_t)length);
    struct buffer *body = collecting->body;
    if (buffer_append(body, bytes, length))
        return true;
    if (!body->limit || length <= body->limit - body->length)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return error_set(error, ERROR_UNAVAILABLE, "the response is longer than the limit of %zu bytes",
                     body->limit);
}

bool ask_get(struct cache *cache, const struct repository *repository,
             struct upstream_request *request, size_t limit, struct upstream_head *head,
             struct buffer *body, struct error *error) {
    struct upstream *upstream = repository->upstream;
    const unsigned places = upstream_places(upstream);
    int64_t patience = upstream_settings(upstream)->first_byte_timeout_ms;
    int64_t began = clock_ms();
    struct collecting collecting = {head, body, cache};
    const struct upstream_sink sink = {&collecting, collect_head, collect_bytes};
    request->repository = repository->name.path;
    request->cancel.stop = &cache->stopping;
    for (;;) {
        buffer_clear(body);
        body->limit = limit;
        if (places > 1 && patience) /* a silent location must leave time for the next one */
            request->deadline_ms = began + patience * (request->location + 1) / places;
        if (upstream_perform(upstream, request, &sink, error))
            return true;
        bool elsewhere = error->kind == ERROR_UNAVAILABLE || error->kind == ERROR_TIMEOUT ||
                         error->kind == ERROR_RATE_LIMITED;
        if (!elsewhere || request->location + 1 >= places)
            return false;
        request->location++;
    }
}
