/* Asks upstream for one small body, at one location after the other. */
#include "upstream/asking.h"

#include <inttypes.h>
#include "base/clock.h"
#include "base/log.h"
#include "client/retry.h"

/* ---- one small body ---- */

static bool collect_head(void *context, const struct upstream_head *head, struct error *error) {
    struct asking *asking = context;
    asking->head = *head;
    if (head->has_length && asking->limit && head->length > asking->limit)
        return error_set(error, ERROR_UNAVAILABLE,
                         "the response has %" PRIu64 " bytes, over the limit of %zu", head->length,
                         asking->limit);
    return true;
}

static bool collect_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct asking *asking = context;
    struct buffer *body = &asking->body;
    if (buffer_append(body, bytes, length))
        return true;
    if (!body->limit || length <= body->limit - body->length)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return error_set(error, ERROR_UNAVAILABLE, "the response is longer than the limit of %zu bytes",
                     body->limit);
}

/* Asks the location that the request names. */
static bool ask_once(struct upstream *upstream, struct asking *asking, struct error *error) {
    const struct upstream_sink sink = {asking, collect_head, collect_bytes};
    buffer_clear(&asking->body);
    asking->body.limit = asking->limit;
    return upstream_perform(upstream, &asking->request, &sink, error) &&
           (asking->request.head_only || !asking->accept || asking->accept(asking, error));
}

/* ---- HEAD, or GET where HEAD is refused ---- */

struct first_byte {
    struct asking *asking;
    bool answered;
};

/* The size is known now, and a server that ignores ranges would send the whole blob. */
static bool take_blob_head(void *context, const struct upstream_head *head, struct error *error) {
    struct first_byte *first_byte = context;
    struct asking *asking = first_byte->asking;
    asking->head = *head;
    asking->head.has_length = head->has_total;
    asking->head.length = head->total;
    first_byte->answered = true;
    return head->status != 200 || error_set(error, ERROR_CLOSED, "the head is enough");
}

static bool drop_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    (void)context, (void)bytes, (void)length, (void)error;
    return true;
}

/* Asks for the first byte of a blob, for its head. A blob without any byte is outside of every
 * range, so that a 416 is an answer as well, if it tells the size. */
static bool ask_first_byte(struct upstream *upstream, struct asking *asking, struct error *error) {
    struct upstream_request request = asking->request;
    struct first_byte first_byte = {.asking = asking};
    const struct upstream_sink sink = {&first_byte, take_blob_head, drop_bytes};
    request.head_only = false;
    request.is_small = true;
    request.has_range = true;
    if (upstream_perform(upstream, &request, &sink, error) || first_byte.answered)
        return true;
    if (error->kind == ERROR_RANGE) /* nobody asked us for a range */
        error->kind = ERROR_UNAVAILABLE;
    return false;
}

static bool ask_by_get(struct upstream *upstream, struct asking *asking, struct error *error) {
    asking->by_get = true;
    if (asking->request.what == UPSTREAM_BLOB)
        return ask_first_byte(upstream, asking, error);
    asking->request.head_only = false;
    bool ok = ask_once(upstream, asking, error);
    asking->request.head_only = true;
    return ok;
}

/* Whether a GET is to be asked after the HEAD. False: *ok says how it ended. */
static bool needs_get(struct upstream *upstream, struct asking *asking, bool *ok,
                      struct error *error) {
    const struct upstream_request *request = &asking->request;
    *ok = ask_once(upstream, asking, error);
    if (*ok) {
        upstream_note_head(upstream, request, NULL);
        return asking->says_enough && !asking->says_enough(&asking->head);
    }
    enum head_refusal means = upstream_judge_head(error);
    asking->refused = asking->needs_no_length && means == HEAD_NOT_OFFERED;
    return means != HEAD_FAILED && (error->kind != ERROR_NOT_FOUND || asking->get_after_404);
}

/* Whether this GET proves that HEAD was refused for no other reason than its method. Without a GET
 * only a status that says so does. */
static bool proves_refusal(const struct asking *asking, const struct error *refusal) {
    return refusal->kind != ERROR_NONE &&
           (asking->by_get ? !asking->head.renewed
                           : refusal->status == 405 || refusal->status == 501);
}

static bool ask_head(struct upstream *upstream, struct asking *asking, struct error *error) {
    const struct upstream_request *request = &asking->request;
    struct error refusal = {0};
    bool ok;
    asking->by_get = false;
    asking->refused = asking->needs_no_length;
    if (!upstream_refuses_head(upstream, request)) {
        if (!needs_get(upstream, asking, &ok, error))
            return ok;
        if (!ok)
            refusal = *error;
    }
    asking->head = (struct upstream_head){0};
    if (!asking->refused && !ask_by_get(upstream, asking, error))
        return false;
    if (proves_refusal(asking, &refusal))
        upstream_note_head(upstream, request, &refusal);
    return true;
}

static bool ask_location(struct upstream *upstream, struct asking *asking, struct error *error) {
    return asking->request.head_only ? ask_head(upstream, asking, error)
                                     : ask_once(upstream, asking, error);
}

/* Whether another location may have what this one did not give. Only the first location can know
 * that a thing does not exist, because a fallback may hold a part. */
static bool may_be_elsewhere(const struct asking *asking, const struct error *error) {
    const enum retry_failure failure = retry_classify(error);
    return !asking->request.page && !asking->request.last &&
           (failure != FAILURE_REFUSED || asking->request.location > 0) &&
           retry_decide(failure, PHASE_UNANSWERED, 0) == RETRY_ELSEWHERE;
}

static bool is_abandoned(const struct upstream_request *request) {
    return request->abandoned && atomic_load(request->abandoned);
}

bool asking_get(const struct repository *repository, struct asking *asking, struct error *error) {
    struct upstream *upstream = repository->upstream;
    struct upstream_request *request = &asking->request;
    const unsigned places = upstream_places(upstream);
    int64_t patience = upstream_settings(upstream)->first_byte_timeout_ms;
    int64_t began = clock_ms();
    struct error first = {0};
    request->host = repository->name.host;
    request->repository = repository->name.path;
    for (;;) {
        if (patience) /* a silent location must leave time for the next one */
            request->deadline_ms = began + patience * (request->location + 1) / places;
        if (ask_location(upstream, asking, error))
            return true;
        if (first.kind == ERROR_NONE)
            first = *error;
        if (is_abandoned(request) || !may_be_elsewhere(asking, error) ||
            request->location + 1 >= places)
            break;
        request->location++;
    }
    if (request->location > 0)
        log_at(LOG_DEBUG, "no fallback could help", LOG_STRING("upstream", repository->name.host),
               LOG_STRING("last", error->text));
    *error = first;
    return false;
}

void asking_finish(struct asking *asking) {
    buffer_finish(&asking->body);
}
