/* Whom images ask: tarns by their URLs, and behind them the registry itself. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "node/spans/private.h"
#include "upstream/name.h"

enum { DOWN_LEAST_MS = 250 };

/* ---- the table ---- */

const char *spans_source_name(const struct spans_source *source) {
    return spans_source_is_upstream(source) ? "upstream" : source->tarn.url;
}

bool spans_source_is_upstream(const struct spans_source *source) {
    return !source->tarn.url;
}

void spans_source_free(struct spans_source *source) {
    if (!source)
        return;
    stream_source_close(&source->tarn);
    free(source);
}

/* The source with this URL, which has no slash at its end. */
static struct spans_source *find(struct spans *spans, const char *url) REQUIRES(spans->lock) {
    for (unsigned i = 0; i < spans->source_count; i++)
        if (strcmp(spans->sources[i]->tarn.url, url) == 0)
            return spans->sources[i];
    return NULL;
}

/* Adds a new source, unless another thread has. Takes it over. */
static struct spans_source *add(struct spans *spans, struct spans_source *source,
                                struct error *error) {
    struct spans_source *surplus = NULL;
    lock_acquire(&spans->lock);
    struct spans_source *found = find(spans, source->tarn.url);
    if (found)
        surplus = source;
    else if (spans->source_count == SPANS_SOURCES_LIMIT)
        surplus = source;
    else
        found = spans->sources[spans->source_count++] = source;
    lock_release(&spans->lock);
    spans_source_free(surplus);
    if (!found)
        error_set(error, ERROR_BUSY, "more than %d tarns were named", SPANS_SOURCES_LIMIT);
    return found;
}

struct spans_source *spans_source_find(struct spans *spans, const char *url, struct error *error) {
    struct spans_source *source = calloc(1, sizeof *source);
    if (!source) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    if (!stream_source_open(&source->tarn, url, spans->client, error)) {
        spans_source_free(source);
        return NULL;
    }
    if (!stream_source_is_safe(&source->tarn)) {
        error_set(
            error, ERROR_INVALID,
            "%s: trees of files come only over https or from this machine, because the kernel "
            "reads them; write https://",
            source->tarn.url);
        spans_source_free(source);
        return NULL;
    }
    return add(spans, source, error);
}

bool spans_asked_set(struct spans *spans, const char *from, struct spans_asked *out,
                     struct error *error) {
    *out = spans->defaults;
    if (!from || !*from)
        return true;
    struct spans_source *source = spans_source_find(spans, from, error);
    out->list[0] = source;
    out->count = 1;
    if (spans->upstreams)
        out->list[out->count++] = &spans->upstream_source;
    return source != NULL;
}

void spans_source_note(struct spans_source *source, bool answered) {
    if (answered) {
        atomic_store(&source->failures, 0);
        atomic_store(&source->down_until_ms, 0);
        return;
    }
    unsigned failures = atomic_fetch_add(&source->failures, 1);
    int64_t wait_ms = DOWN_LEAST_MS << (failures < 5 ? failures : 5);
    if (wait_ms > SPANS_SILENCE_MS)
        wait_ms = SPANS_SILENCE_MS;
    atomic_store(&source->down_until_ms, clock_ms() + wait_ms);
}

/* ---- requests ---- */

struct stream_asking spans_asking(const struct spans_request *request) {
    return (struct stream_asking){.source = &request->source->tarn,
                                  .image = request->image,
                                  .silence_ms = SPANS_SILENCE_MS,
                                  .pending_ms = SPANS_PENDING_MS,
                                  .cancel = request->cancel};
}

struct upstream_taking {
    const struct stream_range *range;
    stream_taker *taker;
    void *context;
    uint64_t taken;
    bool has_begun;
};

static bool on_head(void *context, const struct upstream_head *head, struct error *error) {
    struct upstream_taking *taking = context;
    const struct stream_range *range = taking->range;
    taking->has_begun = true;
    if (range->length == 0)
        return head->status == 200 || error_set(error, ERROR_UNAVAILABLE, "not all of it came");
    return (head->status == 206 && head->has_range && head->range_first == range->first) ||
           error_set(error, ERROR_UNAVAILABLE, "the registry ignores ranges");
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct upstream_taking *taking = context;
    taking->taken += length;
    if (taking->range->length && taking->taken > taking->range->length)
        return error_set(error, ERROR_UNAVAILABLE, "more bytes came than were asked for");
    return taking->taker(taking->context, bytes, length, error);
}

static bool ask_upstream(struct upstream *upstream, struct upstream_request *request,
                         struct upstream_taking *taking, struct error *error) {
    const struct upstream_sink sink = {taking, on_head, on_bytes, NULL, NULL};
    const unsigned places = upstream_places(upstream);
    for (unsigned i = 0; i < places && !taking->has_begun; i++) {
        request->location = i;
        request->deadline_ms = clock_ms() + SPANS_SILENCE_MS;
        if (upstream_perform(upstream, request, &sink, error))
            return taking->range->length == 0 || taking->taken == taking->range->length ||
                   error_set(error, ERROR_UNAVAILABLE, "the range is too short");
    }
    return false;
}

/* The repository that the image's name means. */
static bool find_repository(const struct upstreams *set, const struct image_name *image,
                            struct repository *out, struct error *error) {
    char name[HOST_LIMIT + NAME_LIMIT + 2];
    snprintf(name, sizeof name, "%s/%s", image->host, image->repository);
    return name_resolve(set, "", text_of(name), out, error);
}

static bool stream_upstream(const struct spans_request *ask, const struct stream_range *range,
                            stream_taker *take, void *context, struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    struct repository repository;
    struct upstream_taking taking = {range, take, context, 0, false};
    if (range->is_copy)
        return error_set(error, ERROR_UNSUPPORTED, "a registry has no copy in frames");
    const struct upstreams *set = current_upstreams_hold(ask->spans->upstreams);
    bool ok = find_repository(set, ask->image, &repository, error);
    if (ok) {
        struct upstream_request request = {.what = UPSTREAM_BLOB,
                                           .host = repository.name.host,
                                           .repository = repository.name.path,
                                           .reference = digest_format(range->layer, digest),
                                           .has_range = range->length > 0,
                                           .range_first = range->first,
                                           .range_last = range->first + range->length - 1,
                                           .attempts = 1,
                                           .insists = true,
                                           .stop = &ask->spans->stopping};
        ok = ask_upstream(repository.upstream, &request, &taking, error);
    } else {
        error->kind = ERROR_UNSUPPORTED; /* no such upstream is configured */
    }
    upstreams_release(set);
    return ok;
}

bool spans_source_stream(const struct spans_request *request, const struct stream_range *range,
                         stream_taker *take, void *context, struct error *error) {
    if (spans_source_is_upstream(request->source))
        return stream_upstream(request, range, take, context, error);
    const struct stream_asking asking = spans_asking(request);
    return stream_source_stream(&asking, range, take, context, error);
}
