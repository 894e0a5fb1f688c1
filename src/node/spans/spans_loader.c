/*
 * The threads that load spans. Each takes the most urgent flight with its neighbours, asks one
 * source for their bytes in one request, and ends each flight as soon as its bytes are here. What
 * the source does not give is queued again, for the next source.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "node/spans/private.h"

enum {
    BATCH_SPANS = 8,
    BATCH_BYTES = 8 << 20,      /* compressed, unless a single span has more */
    BACKGROUND_BYTES = 2 << 20, /* the same for the background: demand waits behind it */
    BACKGROUND_LOADERS = 3,
    BUSY_LOADERS = 2,  /* of the background, beside demands */
    SPARE_LOADERS = 3, /* that only demand may use */
    QUIET_MS = 2000,   /* without a demand, before the background goes on */
    BUSY_MS = 8000,    /* of demands without a pause, before the background goes on beside them */
    ROUND_LEAST_MS = 100, /* before all sources are asked again */
    ROUND_MOST_MS = 1000,
    BACKGROUND_PAUSE_MS = 2000, /* after a failure */
    DOUBTS_MS = 10000,          /* between spans that no source gave */
    STACK = 512 << 10,
};

/* Flights of one layer that one request serves. */
struct batch {
    struct spans *spans;
    struct spans_image *image; /* for which it asks; one reference */
    struct spans_layer *layer;
    struct spans_source *source;
    uint64_t source_bit;
    enum spans_why why;
    unsigned count, done;
    struct spans_flight *flights[BATCH_SPANS];
    bool wrong[BATCH_SPANS];
    struct buffer packed; /* bytes that have come, from `packed_at` on */
    uint64_t packed_at;
};

static const struct layer_span *span_of(const struct spans_flight *flight) {
    return &flight->layer->index.spans[flight->at];
}

/* ---- choosing ---- */

static bool is_ready(const struct spans_flight *flight, int64_t now_ms, int64_t *wake_ms) {
    if (flight->not_before_ms <= now_ms)
        return true;
    if (flight->not_before_ms < *wake_ms)
        *wake_ms = flight->not_before_ms;
    return false;
}

/* The source to ask next: the first one that was not asked in this round, those that do not answer
 * at the moment last. */
static void choose_source(struct batch *batch, uint64_t asked, int64_t now_ms) {
    const struct spans_asked *all = &batch->image->asked;
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < all->count; i++) {
            if (asked >> i & 1 || (pass == 0 && atomic_load(&all->list[i]->down_until_ms) > now_ms))
                continue;
            batch->source = all->list[i];
            batch->source_bit = UINT64_C(1) << i;
            return;
        }
}

/* Whether a span's bytes follow those of the span before it. */
static bool follows(const struct spans_layer *layer, size_t at) {
    const struct layer_span *span = &layer->index.spans[at], *before = span - 1;
    return span->in >= before->in && span->in <= before->in + before->in_length &&
           span->in + span->in_length >= before->in + before->in_length;
}

/* Whether the span can be loaded with those of the batch. */
static bool joins(const struct batch *batch, size_t at, enum spans_why least) {
    const struct spans_layer *layer = batch->layer;
    const struct spans_flight *flight = at < layer->count ? layer->slots[at].flight : NULL;
    return flight && flight->stage == FLIGHT_QUEUED && flight->why >= least && flight->asked == 0 &&
           flight->rounds == 0;
}

static void join(struct spans *spans, struct batch *batch, struct spans_flight *flight)
    REQUIRES(spans->lock) {
    spans_flight_unqueue(spans, flight);
    flight->stage = FLIGHT_LOADING;
    batch->flights[batch->count++] = flight;
}

/* Takes the flight and its neighbours. */
static void gather(struct spans *spans, struct batch *batch, struct spans_flight *head)
    REQUIRES(spans->lock) {
    size_t at = head->at;
    uint64_t bytes = span_of(head)->in_length;
    if (head->asked || head->rounds) {
        join(spans, batch, head);
        return;
    }
    while (at > 0 && head->at - at < BATCH_SPANS / 2 && joins(batch, at - 1, head->why) &&
           follows(batch->layer, at) &&
           bytes + batch->layer->index.spans[at - 1].in_length <= BATCH_BYTES)
        bytes += batch->layer->index.spans[--at].in_length;
    bytes = 0;
    for (; batch->count < BATCH_SPANS && joins(batch, at, SPANS_TRACE); at++) {
        bytes += batch->layer->index.spans[at].in_length;
        if (batch->count && (bytes > BATCH_BYTES || !follows(batch->layer, at)))
            break;
        join(spans, batch, batch->layer->slots[at].flight);
    }
}

static unsigned all_loading(const struct spans *spans) REQUIRES(spans->lock) {
    unsigned count = 0;
    for (unsigned i = 0; i < SPANS_WHYS; i++)
        count += spans->loading[i];
    return count;
}

/* Whether one more request of this urgency may begin. */
static bool may_load(const struct spans *spans, enum spans_why why) REQUIRES(spans->lock) {
    return why == SPANS_DEMAND || all_loading(spans) + SPARE_LOADERS < SPANS_LOADERS;
}

static void begin(struct spans *spans, struct batch *batch, struct spans_layer *layer,
                  enum spans_why why) REQUIRES(spans->lock) {
    *batch = (struct batch){.spans = spans, .layer = layer, .why = why};
    batch->image = layer->users ? layer->users->image : NULL;
    if (batch->image)
        batch->image->references++;
}

/* Takes the most urgent flight that is ready. */
static bool choose_queued(struct spans *spans, struct batch *batch, int64_t now_ms,
                          int64_t *wake_ms) REQUIRES(spans->lock) {
    for (int why = SPANS_DEMAND; why > SPANS_BACKGROUND; why--) {
        if (!may_load(spans, (enum spans_why)why))
            return false;
        struct spans_flight *flight = spans->queues[why].first;
        while (flight && !is_ready(flight, now_ms, wake_ms))
            flight = flight->next;
        if (!flight)
            continue;
        begin(spans, batch, flight->layer, flight->why);
        uint64_t asked = flight->asked;
        gather(spans, batch, flight);
        if (batch->image)
            choose_source(batch, asked, now_ms);
        return true;
    }
    return false;
}

/* ---- the background ---- */

/* Whether the background may go on now; else when. */
static bool background_may(struct spans *spans, int64_t now_ms, int64_t *wake_ms)
    REQUIRES(spans->lock) {
    bool is_quiet = now_ms - spans->demand_ms >= QUIET_MS && !spans->queues[SPANS_DEMAND].first &&
                    !spans->loading[SPANS_DEMAND] && !spans->queues[SPANS_TRACE].first;
    bool is_busy = !is_quiet && now_ms - spans->busy_ms >= BUSY_MS;
    unsigned most = is_quiet ? BACKGROUND_LOADERS : is_busy ? BUSY_LOADERS : 0;
    if (spans->settings.background == 0 || spans->loading[SPANS_BACKGROUND] >= most ||
        !may_load(spans, SPANS_BACKGROUND)) {
        if (spans->settings.background && *wake_ms > now_ms + QUIET_MS / 4)
            *wake_ms = now_ms + QUIET_MS / 4;
        return false;
    }
    if (spans->background_ms > now_ms && spans->background_ms < *wake_ms)
        *wake_ms = spans->background_ms;
    return spans->background_ms <= now_ms;
}

/* The next span of the layer that nobody has or wants. Those that no source gave come again after
 * a pause. */
static bool find_absent(struct spans_layer *layer, int64_t now_ms, size_t *out) {
    bool is_due = now_ms >= layer->doubts_ms;
    while (layer->next_absent < layer->count &&
           layer->slots[layer->next_absent].place != SPAN_ABSENT)
        layer->next_absent++;
    for (size_t i = layer->next_absent; i < layer->count; i++) {
        struct spans_slot *slot = &layer->slots[i];
        if (slot->place != SPAN_ABSENT || slot->flight)
            continue;
        if (slot->is_doubtful && !is_due)
            continue;
        if (slot->is_doubtful)
            layer->doubts_ms = now_ms + DOUBTS_MS;
        *out = i;
        return true;
    }
    return false;
}

static bool choose_background(struct spans *spans, struct batch *batch, int64_t now_ms)
    REQUIRES(spans->lock) {
    size_t at;
    struct spans_layer *layer = spans->layers;
    while (layer && (layer->is_whole || layer->is_verified || layer->is_bad || !layer->users ||
                     !spans_budget_fits(spans, layer) || !find_absent(layer, now_ms, &at)))
        layer = layer->next;
    if (!layer)
        return false;
    uint64_t bytes = 0;
    begin(spans, batch, layer, SPANS_BACKGROUND);
    for (; batch->count < BATCH_SPANS && at < layer->count; at++) {
        const struct spans_slot *slot = &layer->slots[at];
        bytes += layer->index.spans[at].in_length;
        if (slot->place != SPAN_ABSENT || slot->flight ||
            (batch->count && (bytes > BACKGROUND_BYTES || !follows(layer, at))))
            break;
        struct spans_flight *flight = spans_flight_want(spans, layer, at, SPANS_BACKGROUND);
        if (!flight)
            break;
        join(spans, batch, flight);
    }
    choose_source(batch, 0, now_ms);
    int64_t from_ms = spans->background_ms > now_ms - QUIET_MS ? spans->background_ms : now_ms;
    spans->background_ms = from_ms + (int64_t)(bytes * 1000 / spans->settings.background);
    return batch->count > 0;
}

/* ---- loading ---- */

static void log_wrong(const struct batch *batch, const struct spans_flight *flight,
                      const struct error *error) {
    char text[DIGEST_STRING_SIZE], image[SPANS_NAME_SIZE];
    metric_add(batch->spans->bad_spans, 1);
    log_at(LOG_WARN, "bad span", LOG_STRING("source", spans_source_name(batch->source)),
           LOG_STRING("layer", digest_format(&batch->layer->digest, text)),
           LOG_STRING("image", spans_image_name(batch->image, image)),
           LOG_NUMBER("offset", (double)span_of(flight)->in), LOG_STRING("error", error->text));
}

/* Keeps the bytes on the disk, if it has space for them. */
static bool keep(struct batch *batch, const struct spans_flight *flight,
                 const unsigned char *bytes) {
    struct spans *spans = batch->spans;
    struct error error = {0};
    if (!spans_budget_reserve(spans, batch->layer, flight->at))
        return false;
    if (spans_layer_write(batch->layer, flight->at, bytes, &error))
        return true;
    log_at(LOG_WARN, "cannot keep a span", LOG_STRING("error", error.text));
    spans_layer_punch(batch->layer, flight->at);
    lock_acquire(&spans->lock);
    spans_budget_return(spans, batch->layer, flight->at);
    lock_release(&spans->lock);
    return false;
}

/* Ends a flight whose bytes have come. Takes them over. */
static void deliver(struct batch *batch, struct spans_flight *flight, unsigned char *bytes) {
    struct spans *spans = batch->spans;
    struct spans_layer *layer = batch->layer;
    /* Readers do not wait for the disk. */
    lock_acquire(&spans->lock);
    flight->bytes = bytes;
    flight->ok = true;
    flight->stage = FLIGHT_DONE;
    condition_broadcast(&flight->done);
    lock_release(&spans->lock);
    bool kept = keep(batch, flight, bytes);
    lock_acquire(&spans->lock);
    if (kept) {
        layer->slots[flight->at].place = SPAN_PRESENT;
        layer->slots[flight->at].used = ++spans->uses;
        layer->slots[flight->at].is_doubtful = false;
        if (layer->present == layer->count)
            condition_broadcast(&spans->changed);
    }
    spans_flight_end(spans, flight, NULL);
    lock_release(&spans->lock);
}

/* Checks and unpacks the batch's next span. */
static bool take_span(struct batch *batch, struct error *error) {
    struct spans_flight *flight = batch->flights[batch->done];
    const struct layer_span *span = span_of(flight);
    unsigned char *bytes = malloc(span->out_length ? span->out_length : 1);
    if (!bytes)
        return error_set(error, ERROR_MEMORY, "out of memory");
    struct error why = {0};
    if (span_unpack(span, batch->packed.bytes + (span->in - batch->packed_at),
                    batch->layer->index.windows + span->window_at, bytes, &why)) {
        batch->flights[batch->done++] = NULL;
        deliver(batch, flight, bytes);
        return true;
    }
    free(bytes);
    if (why.kind != ERROR_CORRUPT) {
        *error = why;
        return false;
    }
    log_wrong(batch, flight, &why);
    lock_acquire(&batch->spans->lock);
    spans_flight_fail(flight, &why);
    lock_release(&batch->spans->lock);
    batch->wrong[batch->done++] = true;
    return true;
}

/* Bytes before the next span are not needed any more: spans share a byte at most. */
static void forget_used(struct batch *batch, uint64_t next) {
    uint64_t used = next - batch->packed_at;
    if (next <= batch->packed_at)
        return;
    if (used > batch->packed.length)
        used = batch->packed.length;
    memmove(batch->packed.bytes, batch->packed.bytes + used, batch->packed.length - (size_t)used);
    batch->packed.length -= (size_t)used;
    batch->packed_at += used;
}

static const struct layer_span *next_span(const struct batch *batch) {
    return &batch->layer->index.spans[batch->flights[batch->done]->at];
}

static bool take_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct batch *batch = context;
    metric_add(batch->spans->fetched[batch->why], (int64_t)length);
    atomic_fetch_add(&batch->image->fetched, length);
    if (!buffer_append(&batch->packed, bytes, length))
        return error_set(error, ERROR_MEMORY, "out of memory");
    while (batch->done < batch->count) {
        const struct layer_span *span = next_span(batch);
        if (batch->packed_at + batch->packed.length < span->in + span->in_length)
            break;
        if (!take_span(batch, error))
            return false;
        if (batch->done < batch->count)
            forget_used(batch, next_span(batch)->in);
    }
    return true;
}

/* Asks the source for all of the batch. */
static bool load(struct batch *batch, struct error *error) {
    const struct layer_span *first = span_of(batch->flights[0]);
    const struct layer_span *last = span_of(batch->flights[batch->count - 1]);
    const struct spans_request request = {batch->spans, batch->source, &batch->image->name,
                                          &batch->spans->cancel};
    const struct stream_range range = {&batch->layer->digest, batch->layer->index.facts.has_copy,
                                       first->in, last->in + last->in_length - first->in};
    batch->packed_at = first->in;
    return spans_source_stream(&request, &range, take_bytes, batch, error);
}

/* ---- afterwards ---- */

/* Whether the failure is the source's, and not about this image alone. */
static bool blames_source(const struct error *error) {
    return error->kind == ERROR_TIMEOUT || error->kind == ERROR_RATE_LIMITED ||
           (error->kind == ERROR_UNAVAILABLE && (error->status == 0 || error->status >= 500));
}

static uint64_t all_bits(const struct spans_image *image) {
    return (UINT64_C(1) << image->asked.count) - 1;
}

/* All sources were asked for the flight, and none gave it. */
static void end_round(struct spans *spans, struct spans_flight *flight) REQUIRES(spans->lock) {
    const uint64_t able = flight->asked & ~flight->unfit;
    struct error error = {.kind = flight->kind};
    snprintf(error.text, sizeof error.text, "%s", flight->text);
    if (flight->waiters == 0 || flight->wrong == able) {
        if (flight->wrong == able && able)
            error.kind = ERROR_CORRUPT;
        flight->layer->slots[flight->at].is_doubtful = true;
        spans_flight_end(spans, flight, &error);
        return;
    }
    int64_t wait_ms = ROUND_LEAST_MS << (flight->rounds < 4 ? flight->rounds : 4);
    if (wait_ms > ROUND_MOST_MS)
        wait_ms = ROUND_MOST_MS;
    flight->rounds++;
    flight->asked = flight->wrong = flight->unfit = 0;
    flight->not_before_ms = clock_ms() + wait_ms;
    spans_flight_queue(spans, flight);
}

/* What becomes of a flight that this request did not end. */
static void settle(struct spans *spans, struct batch *batch, unsigned at, const struct error *error)
    REQUIRES(spans->lock) {
    struct spans_flight *flight = batch->flights[at];
    flight->asked |= batch->source_bit;
    if (batch->wrong[at]) {
        flight->wrong |= batch->source_bit;
    } else {
        if (error->kind == ERROR_MEMORY || error->kind == ERROR_CLOSED) {
            spans_flight_end(spans, flight, error);
            return;
        }
        if (error->kind == ERROR_UNSUPPORTED)
            flight->unfit |= batch->source_bit;
        else if (!flight->wrong)
            spans_flight_fail(flight, error);
    }
    if (flight->why == SPANS_BACKGROUND) /* whose queue nobody looks at */
        flight->why = SPANS_TRACE;
    if ((flight->asked & all_bits(batch->image)) == all_bits(batch->image))
        end_round(spans, flight);
    else
        spans_flight_queue(spans, flight);
}

static void run_batch(struct batch *batch) {
    struct spans *spans = batch->spans;
    struct error error = {0};
    bool ok = false;
    if (!batch->image)
        error_set(&error, ERROR_CLOSED, "the image is not open any more");
    else
        ok = load(batch, &error);
    if (batch->source && error.kind != ERROR_CLOSED && error.kind != ERROR_UNSUPPORTED)
        spans_source_note(batch->source, ok || batch->done > 0 || !blames_source(&error));
    lock_acquire(&spans->lock);
    spans->loading[batch->why]--;
    if (!ok && batch->why == SPANS_BACKGROUND)
        spans->background_ms = clock_ms() + BACKGROUND_PAUSE_MS;
    for (unsigned i = 0; i < batch->count; i++) {
        if (!batch->flights[i])
            continue;
        if (batch->image)
            settle(spans, batch, i, &error);
        else
            spans_flight_end(spans, batch->flights[i], &error);
    }
    lock_release(&spans->lock);
    buffer_finish(&batch->packed);
    spans_image_release(batch->image);
    spans_layer_sweep(spans);
}

/* ---- threads ---- */

static void run_loader(void *context) {
    struct spans *spans = context;
    struct batch batch;
    lock_acquire(&spans->lock);
    while (!spans->is_ending) {
        int64_t now_ms = clock_ms(), wake_ms = INT64_MAX;
        if (choose_queued(spans, &batch, now_ms, &wake_ms) ||
            (background_may(spans, now_ms, &wake_ms) && choose_background(spans, &batch, now_ms))) {
            spans->loading[batch.why]++;
            lock_release(&spans->lock);
            run_batch(&batch);
            lock_acquire(&spans->lock);
            continue;
        }
        condition_wait_until(&spans->work, &spans->lock, wake_ms);
    }
    lock_release(&spans->lock);
}

bool spans_loader_start(struct spans *spans, struct error *error) {
    for (; spans->loader_count < SPANS_LOADERS; spans->loader_count++)
        if (!thread_start("spans-load", STACK, run_loader, spans,
                          &spans->loaders[spans->loader_count], error))
            return false;
    return true;
}

void spans_loader_stop(struct spans *spans) {
    lock_acquire(&spans->lock);
    spans->is_ending = true;
    condition_broadcast(&spans->work);
    condition_broadcast(&spans->changed);
    lock_release(&spans->lock);
    for (unsigned i = 0; i < spans->loader_count; i++)
        pthread_join(spans->loaders[i], NULL);
    spans->loader_count = 0;
}
