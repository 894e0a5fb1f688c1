/* Small requests to upstream, and the keys under which the results are kept. */
#include "cache/ask.h"

#include <string.h>
#include "base/log.h"
#include "cache/cache_private.h"
#include "cache/question.h"

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

bool ask_get(struct question *question, struct asking *asking, struct error *error) {
    asking->request.stop = &question->cache->stopping;
    asking->request.abandoned = &question->abandoned;
    return asking_get(&question->repository, asking, error);
}
