/* Sends a blob by an upload session, and mends the session when upstream fails. */
#include "upstream/push.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "client/redirect.h"
#include "upstream/push_private.h"
#include "upstream/realm.h"
#include "upstream/upstream_private.h"

enum {
    RESTARTS_LIMIT = 2,      /* after upstream has refused the whole blob at its end */
    ASKED_IN_VAIN_LIMIT = 3, /* then a new session is begun instead */
    PROGRESS = 1 << 20,      /* bytes further than ever that count as progress */
    CANCEL_MS = 3000,
    /* Of a POST that is cancelled: only its response says which session has to be deleted. */
    LATE_MS = 5000,
};

/* ---- life ---- */

struct push *push_new(const struct repository *repository, const struct push_settings *settings) {
    struct push *push = calloc(1, sizeof *push);
    if (!push)
        return NULL;
    push->repository = *repository;
    upstream_keep(repository->upstream);
    push->settings = *settings;
    return push;
}

struct push *push_resume(const struct repository *repository, const struct push_settings *settings,
                         const char *url) {
    struct push *push = push_new(repository, settings);
    if (!push)
        return NULL;
    push->url = strdup(url);
    push->doubtful = true;
    push->patches = 1;             /* perhaps */
    push->handed = UINT64_MAX - 1; /* nobody knows */
    if (push->url)
        return push;
    push_free(push);
    return NULL;
}

void push_free(struct push *push) {
    if (!push)
        return;
    upstream_release(push->repository.upstream);
    free(push->url);
    free(push);
}

static bool begin_call(struct push_call *call, const struct push *push, const char *from,
                       struct error *error) {
    return push_call_begin(call, &push->repository, &push->settings, "pull,push", from, error);
}

static struct push_learnt *learnt_of(const struct push_call *call) {
    return &call->peer->authorizers[0].location.push_learnt;
}

static bool has_learnt(const struct push_call *call, enum push_lesson lesson) {
    return push_learnt_has(learnt_of(call), lesson, clock_ms());
}

static void learn(const struct push_call *call, enum push_lesson lesson) {
    push_learnt_add(learnt_of(call), lesson, clock_ms());
}

/* Google's registries take everything in one PATCH. */
static bool takes_one_patch(const struct push_call *call) {
    const struct location *location = &call->peer->authorizers[0].location;
    return realm_host_is_google(call->repository->name.host) ||
           realm_host_is_google(location->origin.host) || has_learnt(call, LESSON_ONE_PATCH);
}

bool push_takes_one_patch(const struct repository *repository) {
    const struct push_settings settings = {0};
    struct push_call call;
    bool one = push_call_begin(&call, repository, &settings, "pull,push", NULL, NULL) &&
               takes_one_patch(&call);
    push_call_end(&call);
    return one;
}

static bool refuse(const struct push_call *call, struct error *error) {
    return write_refused(call->peer, call->response, error);
}

static bool name_failure(const struct push *push, struct error *error) {
    counts_failure(&push->repository.upstream->counts, error->kind);
    error_wrap(error, "upstream %s: push to %s", push->repository.name.host,
               push->repository.name.path);
    return false;
}

/* ---- sessions ---- */

static void forget_session(struct push *push) {
    free(push->url);
    push->url = NULL;
    push->acknowledged = push->handed = 0;
    push->patches = 0;
    push->doubtful = false;
}

/* Some registries behind a proxy name themselves with http in a Location. */
static char *with_own_scheme(const struct location *location, char *url) {
    struct origin origin;
    char *own = NULL;
    if (!location->origin.https || !origin_parse(url, &origin) || origin.https ||
        strcmp(origin.host, location->origin.host) != 0)
        return url;
    const char *path = strchr(strstr(url, "://") + 3, '/');
    char host[ORIGIN_HOST_SIZE];
    if (asprintf(&own, "https://%s%s", origin_host(&location->origin, host), path ? path : "/") < 0)
        return url;
    free(url);
    return own;
}

/* Takes the session's place from a response that succeeded. Without a Location the old one holds.
 */
static bool take_location(struct push *push, const struct push_call *call, struct error *error) {
    const struct write_response *response = call->response;
    uint64_t least;
    if (response->uuid[0])
        memcpy(push->uuid, response->uuid, sizeof push->uuid);
    if (text_to_u64(text_of(response->least_chunk), &least))
        push->least_chunk = least;
    if (!response->location[0])
        return push->url || error_set(error, ERROR_UNAVAILABLE,
                                      "its answer to the begin of an upload has no Location");
    char *url = redirect_resolve(response->url, response->location, error);
    if (!url)
        return false;
    free(push->url);
    push->url = with_own_scheme(&call->peer->authorizers[0].location, url);
    return true;
}

/* The number of bytes that a Range ("0-N", also "bytes=0-N") says. False: it says none. */
static bool read_range(const char *value, uint64_t *bytes) {
    struct text last, text = text_of(value);
    if (text_starts(text, "bytes="))
        text = text_from(text, 6);
    uint64_t number;
    if (!text_is(text_trim(text_cut(text, '-', &last)), "0") || !last.at ||
        !text_to_u64(text_trim(last), &number) || number == UINT64_MAX)
        return false;
    *bytes = number + 1;
    return true;
}

/* Deletes the session at upstream; what comes of that does not matter. */
static void delete_session(struct push *push, struct push_call *call) {
    struct error unwanted;
    if (push->url)
        push_call_send(call, "DELETE", push->url, NULL, NULL, CANCEL_MS, &unwanted);
    forget_session(push);
}

/* Deletes the session, again after a failure that may pass. */
static void insist_on_delete(struct push *push, struct push_call *call) {
    struct push_trouble trouble = {0};
    struct error error;
    for (;;) {
        bool sent = push_call_send(call, "DELETE", push->url, NULL, NULL,
                                   push_answer_ms(call->settings, &trouble), &error);
        if (sent && push_is_success(call->response->http.status))
            return;
        if (sent)
            refuse(call, &error);
        if (!push_wait(call, &trouble, &error))
            return;
    }
}

void push_cancel(struct push *push) {
    /* Without the push's own cancel, which is why the session has to go. */
    const struct push_settings settings = {.patience_ms = 2 * CANCEL_MS};
    struct push_call call;
    if (!push->url)
        return;
    if (push_call_begin(&call, &push->repository, &settings, "pull,push", NULL, NULL))
        insist_on_delete(push, &call);
    push_call_end(&call);
    forget_session(push);
}

static bool send_post(const struct push *push, struct push_call *call, struct error *error) {
    call->late_ms = LATE_MS;
    bool sent = push_call_send(call, "POST", NULL, NULL, NULL,
                               push_answer_ms(&push->settings, &push->trouble), error);
    call->late_ms = 0;
    return sent;
}

/* After a failure of upstream, the upload goes on or begins anew. */
static void note_mended(struct push *push) {
    if (push->has_failed)
        metric_add(push->repository.upstream->counts.mended, 1);
    push->has_failed = false;
}

/* Sends POST until there is a session. */
static bool post(struct push *push, struct push_call *call, struct error *error) {
    note_mended(push);
    forget_session(push);
    if (!push_call_url(call, error, "blobs/uploads/"))
        return false;
    for (;;) {
        bool ok = send_post(push, call, error);
        if (ok && !push_is_success(call->response->http.status))
            ok = refuse(call, error);
        if (ok && take_location(push, call, error))
            return true;
        if (!push_wait(call, &push->trouble, error))
            return false;
    }
}

/* Asks once for the blob to be mounted. False: upstream has not done it, and may have begun a
 * session instead. */
static bool post_mount(struct push *push, struct push_call *call, const struct push_mount *mount) {
    char digest[DIGEST_STRING_SIZE];
    struct error error = {0};
    const char *prefix = call->peer->authorizers[0].location.prefix;
    forget_session(push);
    if (!push_call_url(call, &error, "blobs/uploads/?mount=%s&from=%s%s%s",
                       digest_format(mount->digest, digest), prefix ? prefix : "",
                       prefix ? "/" : "", mount->from) ||
        !send_post(push, call, &error))
        return false;
    int status = call->response->http.status;
    if (push_is_success(status) && status != 201)
        take_location(push, call, &error);
    return status == 201;
}

bool push_begin(struct push *push, const struct push_mount *mount, bool *is_mounted,
                struct error *error) {
    struct error unwanted = {0};
    struct push_call call;
    error = error ? error : &unwanted;
    push->trouble = (struct push_trouble){0};
    *is_mounted = false;
    if (mount) {
        *is_mounted = begin_call(&call, push, mount->from, error) && post_mount(push, &call, mount);
        push_call_end(&call);
        if (*is_mounted || push->url)
            return true;
    }
    bool ok = begin_call(&call, push, NULL, error) && post(push, &call, error);
    push_call_end(&call);
    return ok || name_failure(push, error);
}

/* Finds out where the session stands. False: it is gone, or nobody can tell (NOT_FOUND), or there
 * was no answer in time. */
static bool ask(struct push *push, struct push_call *call, struct error *error) {
    uint64_t bytes;
    for (unsigned failures = 0;;) {
        bool sent = push_call_send(call, "GET", push->url, NULL, NULL,
                                   push_answer_ms(&push->settings, &push->trouble), error);
        int status = sent ? call->response->http.status : 0;
        if (sent && push_is_success(status)) {
            bool knows =
                read_range(call->response->range, &bytes) && take_location(push, call, error);
            /* "0-0" says one byte, or none. */
            bool is_sure = knows && bytes > 1 && bytes <= push->handed;
            push->is_silent = !is_sure;
            if (!is_sure && push->handed > 0)
                return error_set(error, ERROR_NOT_FOUND, "it does not say how much it has");
            push->acknowledged = push->handed = is_sure ? bytes : 0;
            push->doubtful = false;
            push->mended = true;
            note_mended(push);
            return true;
        }
        if (sent)
            refuse(call, error);
        bool is_final = sent && !push_may_pass(error);
        if (is_final || ++failures == ASKED_IN_VAIN_LIMIT)
            return error_set(error, ERROR_NOT_FOUND, "the upload is not known any more (%d)",
                             status);
        if (!push_wait(call, &push->trouble, error))
            return false;
    }
}

bool push_ask(struct push *push, struct error *error) {
    struct error unwanted = {0};
    struct push_call call;
    error = error ? error : &unwanted;
    if (!push->url)
        return error_set(error, ERROR_NOT_FOUND, "upstream %s: there is no upload",
                         push->repository.name.host);
    push->trouble = (struct push_trouble){0};
    bool ok = begin_call(&call, push, NULL, error) && ask(push, &call, error);
    if (!ok && error->kind == ERROR_NOT_FOUND)
        forget_session(push);
    push->mended = false; /* the caller goes on there, whatever was before */
    push_call_end(&call);
    return ok || name_failure(push, error);
}

/* ---- the bytes ---- */

/* Hands out the source's bytes, and notes how far that went. */
static ssize_t read_source(void *context, uint64_t offset, void *out, size_t size,
                           struct error *error) {
    struct push *push = context;
    const struct client_source *bytes = &push->source->bytes;
    ssize_t got = bytes->read(bytes->context, offset, out, size, error);
    if (got == 0)
        push->end_seen = offset;
    if (got <= 0)
        return got;
    metric_add(push->repository.upstream->counts.sent, got);
    if (offset + (uint64_t)got > push->handed)
        push->handed = offset + (uint64_t)got;
    if (push->handed > push->best + PROGRESS) {
        push->best = push->handed;
        push->trouble = (struct push_trouble){0};
    }
    return got;
}

/* What a PATCH is to be. */
struct patch {
    uint64_t start, end; /* end: PUSH_END_UNKNOWN where it is sent chunked */
    bool has_range;
};

/* Decides how the rest goes. False: the source has failed. */
static bool plan(struct push *push, const struct push_call *call, struct patch *patch,
                 struct error *error) {
    const struct push_source *source = push->source;
    bool needs_range = has_learnt(call, LESSON_NEEDS_RANGE);
    bool is_first = push->patches == 0 && push->acknowledged == 0;
    *patch = (struct patch){.start = push->acknowledged, .end = source->end};
    if (push->end_seen != PUSH_END_UNKNOWN)
        patch->end = push->end_seen;
    if (patch->end == PUSH_END_UNKNOWN && (needs_range || has_learnt(call, LESSON_NO_CHUNKED)) &&
        !source->await_end(source->bytes.context, &patch->end, error))
        return false;
    patch->has_range = patch->end != PUSH_END_UNKNOWN && patch->end > patch->start &&
                       (needs_range || (!is_first && !has_learnt(call, LESSON_NO_RANGE)));
    return true;
}

static bool send_patch(struct push *push, struct push_call *call, const struct patch *patch,
                       struct error *error) {
    const struct client_source source = {
        .context = push, .read = read_source, .wake_fd = push->source->bytes.wake_fd};
    const struct client_body body = {
        .source = &source,
        .offset = patch->start,
        .length =
            patch->end == PUSH_END_UNKNOWN ? CLIENT_LENGTH_UNKNOWN : patch->end - patch->start,
    };
    char range[64];
    const char *const fields[] = {"Content-Type: application/octet-stream",
                                  patch->has_range ? range : NULL, NULL};
    snprintf(range, sizeof range, "Content-Range: %llu-%llu", (unsigned long long)patch->start,
             (unsigned long long)patch->end - 1);
    push->end_seen = patch->end; /* a chunked body shows it when it is reached */
    return push_call_send(call, "PATCH", push->url, fields, &body,
                          push_answer_ms(&push->settings, &push->trouble), error);
}

/* Takes a response that has accepted the bytes, or some of them. False: nothing has moved, and the
 * error says why. */
static bool take_accepted(struct push *push, const struct push_call *call,
                          const struct patch *patch, struct error *error) {
    uint64_t bytes, end = patch->end == PUSH_END_UNKNOWN ? push->end_seen : patch->end;
    bool is_whole = end != PUSH_END_UNKNOWN && push->handed >= end;
    push->patches++;
    push->tried_range = push->tried_offset = false;
    if (!take_location(push, call, error))
        return false;
    bool has_range = read_range(call->response->range, &bytes);
    if (has_range && bytes == 1 && push->handed == 0) /* nothing was sent */
        bytes = 0;
    if (!has_range) {
        push->doubtful = !is_whole;
        push->acknowledged = is_whole ? end : push->acknowledged;
        return true;
    }
    /* "0-0" says one byte, or none. */
    push->is_lost = bytes > push->handed || (bytes == 1 && push->handed != 1);
    push->acknowledged = bytes;
    if (push->is_lost || (bytes <= patch->start && push->handed > patch->start))
        return error_set(error, ERROR_UNAVAILABLE, "it has taken %llu bytes, and says \"%s\"",
                         (unsigned long long)push->handed, call->response->range);
    push->trouble = (struct push_trouble){0};
    return true;
}

/* What follows a refused PATCH. */
enum refused { REFUSED_FINALLY, REFUSED_ANEW, REFUSED_AGAIN, REFUSED_FOR_NOW };

/* Tries the other way of Content-Range. False: both were tried, or the other cannot be. */
static bool swap_range(struct push *push, const struct push_call *call, const struct patch *patch) {
    if (push->tried_range)
        return false;
    push->tried_range = true;
    learn(call, patch->has_range ? LESSON_NO_RANGE : LESSON_NEEDS_RANGE);
    return true;
}

static enum refused judge_refusal(struct push *push, const struct push_call *call,
                                  const struct patch *patch) {
    int status = call->response->http.status;
    bool is_first = push->patches == 0 && push->acknowledged == 0;
    bool is_chunked = patch->end == PUSH_END_UNKNOWN;
    if (is_chunked && (status == 411 || (is_first && status == 501)) &&
        !has_learnt(call, LESSON_NO_CHUNKED)) {
        learn(call, LESSON_NO_CHUNKED);
        return REFUSED_ANEW;
    }
    if (status == 416 && !is_first && !push->tried_offset) {
        push->tried_offset = push->doubtful = true;
        return REFUSED_AGAIN;
    }
    if (status == 400 || status == 416) {
        push->doubtful = !is_first;
        if (swap_range(push, call, patch))
            return is_first ? REFUSED_ANEW : REFUSED_AGAIN;
        /* It was not that. */
        push_learnt_drop(learnt_of(call), LESSON_NO_RANGE);
        push_learnt_drop(learnt_of(call), LESSON_NEEDS_RANGE);
    }
    bool other = status == 400 || status == 404 || status == 405 || status == 416 || status == 501;
    if (other && !is_first) {
        learn(call, LESSON_ONE_PATCH);
        return REFUSED_ANEW;
    }
    /* A session that was lost before its first byte. */
    if (status == 404 && push->restarts++ < RESTARTS_LIMIT)
        return REFUSED_ANEW;
    return REFUSED_FOR_NOW;
}

/* Sends one PATCH. False: the push fails. */
static bool send_rest(struct push *push, struct push_call *call, struct error *error) {
    struct patch patch;
    if (!plan(push, call, &patch, error))
        return false;
    if (patch.end != PUSH_END_UNKNOWN && patch.end < patch.start)
        return error_set(error, ERROR_CORRUPT, "%llu bytes were sent of a blob of %llu",
                         (unsigned long long)patch.start, (unsigned long long)patch.end);
    if (patch.end == patch.start)
        return true;
    bool sent = send_patch(push, call, &patch, error);
    if (sent && push_is_success(call->response->http.status)) {
        if (take_accepted(push, call, &patch, error))
            return true;
        if (push->is_lost)
            delete_session(push, call);
        return push_wait(call, &push->trouble, error);
    }
    enum refused refused = sent ? judge_refusal(push, call, &patch) : REFUSED_FOR_NOW;
    if (refused == REFUSED_ANEW)
        delete_session(push, call);
    if (refused != REFUSED_FOR_NOW)
        return true;
    push->doubtful = push->has_failed = true;
    if (sent)
        refuse(call, error);
    return push_wait(call, &push->trouble, error);
}

/* Brings the session to where the next PATCH can be sent. False: the push fails. */
static bool prepare(struct push *push, struct push_call *call, struct error *error) {
    bool one = takes_one_patch(call);
    push->wants_whole = one && !push->source->is_whole;
    if (push->wants_whole)
        return error_set(error, ERROR_UNSUPPORTED, "it takes one PATCH a session");
    bool is_new = push->patches == 0 && push->handed == 0;
    /* Its one PATCH has failed. */
    if (push->url && one && !is_new && push->doubtful)
        delete_session(push, call);
    if (push->url && push->doubtful && !ask(push, call, error)) {
        if (error->kind != ERROR_NOT_FOUND)
            return false;
        delete_session(push, call);
    }
    if (push->url && one && push->patches > 0 && push->acknowledged < push->source->end)
        delete_session(push, call);
    return push->url || post(push, call, error);
}

/* The end of the source; PUSH_END_UNKNOWN: not known yet. */
static uint64_t end_of(const struct push *push) {
    return push->source->end == PUSH_END_UNKNOWN ? push->end_seen : push->source->end;
}

static bool write_all(struct push *push, struct push_call *call, struct error *error) {
    while (!push->url || push->doubtful || push->acknowledged != end_of(push)) {
        if (!prepare(push, call, error))
            return false;
        if (push->acknowledged != end_of(push) && !send_rest(push, call, error))
            return false;
    }
    return true;
}

bool push_write(struct push *push, const struct push_source *source, struct error *error) {
    struct error unwanted = {0};
    struct push_call call;
    error = error ? error : &unwanted;
    push->source = source;
    push->end_seen = PUSH_END_UNKNOWN;
    push->trouble = (struct push_trouble){0};
    bool ok = begin_call(&call, push, NULL, error) && write_all(push, &call, error);
    push_call_end(&call);
    push->source = NULL;
    return ok || name_failure(push, error);
}

/* ---- the end ---- */

static bool put(struct push *push, struct push_call *call, const char *digest,
                struct error *error) {
    cleanup_free char *url = NULL;
    if (asprintf(&url, "%s%cdigest=%s", push->url, strchr(push->url, '?') ? '&' : '?', digest) <
        0) {
        url = NULL;
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    return push_call_send(call, "PUT", url, NULL, NULL,
                          push_answer_ms(&push->settings, &push->trouble), error);
}

/* Whether the blob is there although no answer said so. */
static bool is_there(struct push *push, struct push_call *call, const char *digest) {
    struct error unwanted;
    return push_call_url(call, &unwanted, "blobs/%s", digest) &&
           push_call_send(call, "HEAD", NULL, NULL, NULL,
                          push_answer_ms(&push->settings, &push->trouble), &unwanted) &&
           push_is_success(call->response->http.status);
}

/* After a PUT that failed with `error`. True: another try may help. */
static bool go_on(struct push *push, struct push_call *call, struct error *error) {
    int status = error->status;
    push->has_failed = true;
    bool is_lost = status == 404, is_wrong = push->mended && (status == 400 || status == 416);
    if ((is_lost || is_wrong) && push->restarts++ < RESTARTS_LIMIT) {
        delete_session(push, call);
        return true;
    }
    push->doubtful = true;
    return push_wait(call, &push->trouble, error);
}

static bool finish(struct push *push, struct push_call *call, const char *digest,
                   struct error *error) {
    for (;;) {
        if (!write_all(push, call, error))
            return false;
        bool sent = put(push, call, digest, error);
        int status = sent ? call->response->http.status : 0;
        if (push_is_success(status))
            return true;
        struct error why = *error;
        if (sent)
            refuse(call, &why);
        /* The answer to an earlier PUT may have been lost. */
        if ((!sent || status == 404 || status >= 500) && is_there(push, call, digest))
            return true;
        *error = why;
        if (!go_on(push, call, error))
            return false;
    }
}

bool push_finish(struct push *push, const struct push_source *source, const struct digest *digest,
                 struct error *error) {
    struct error unwanted = {0};
    struct push_call call;
    char text[DIGEST_STRING_SIZE];
    error = error ? error : &unwanted;
    push->source = source;
    push->end_seen = PUSH_END_UNKNOWN;
    push->trouble = (struct push_trouble){0};
    digest_format(digest, text);
    bool ok = begin_call(&call, push, NULL, error) && finish(push, &call, text, error);
    push_call_end(&call);
    push->source = NULL;
    if (ok)
        forget_session(push);
    return ok || name_failure(push, error);
}
