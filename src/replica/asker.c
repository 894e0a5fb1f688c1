/* Requests to other replicas. */
#include "replica/asker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/clock.h"
#include "base/file_reader.h"
#include "base/log.h"
#include "client/content_range.h"
#include "client/transfer.h"
#include "oci/error_body.h"
#include "replica/asker_private.h"
#include "replica/counts.h"

enum {
    AUTHORITIES_LIMIT = 1 << 20,
    FILE_PATIENCE_MS = 5000, /* then the file system of the authorities counts as hung */
    FIELD_SIZE = 160,
};

/* ---- life ---- */

/* A name in certificates needs the authorities in memory. */
static bool read_authorities(struct replica_asker *asker, struct error *error) {
    const struct replica_asker_settings *settings = &asker->settings;
    size_t length;
    asker->tls.server_name = settings->server_name;
    if (!settings->ca_file)
        return true;
    struct file_reader *files = file_reader_new();
    if (!files)
        return error_set(error, ERROR_MEMORY, "out of memory");
    asker->authorities = file_reader_read(files, settings->ca_file, AUTHORITIES_LIMIT,
                                          FILE_PATIENCE_MS, &length, NULL, error);
    file_reader_free(files);
    if (!asker->authorities)
        return error_wrap(error, "replicas.tls.ca: %s", settings->ca_file);
    asker->tls.authorities = (struct text){asker->authorities, length};
    return true;
}

static bool is_back(void *context, const struct member *member, const struct cancel *cancel);

struct replica_asker *replica_asker_new(const struct replica_asker_settings *settings,
                                        struct error *error) {
    struct replica_asker *asker = calloc(1, sizeof *asker);
    if (!asker) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    asker->settings = *settings;
    lanes_init(&asker->lanes, settings->client);
    if (read_authorities(asker, error)) {
        asker->watch = watch_new(settings->members, is_back, asker);
        if (asker->watch)
            return asker;
        error_set(error, ERROR_MEMORY, "out of memory");
    }
    replica_asker_free(asker);
    return NULL;
}

void replica_asker_stop(struct replica_asker *asker) {
    watch_stop(asker->watch);
}

void replica_asker_free(struct replica_asker *asker) {
    if (!asker)
        return;
    watch_free(asker->watch);
    lanes_finish(&asker->lanes);
    free(asker->authorities);
    free(asker);
}

struct members *replica_asker_members(const struct replica_asker *asker) {
    return asker->settings.members;
}

bool replica_asker_is_gone(struct replica_asker *asker, const struct member *member) {
    return watch_is_gone(asker->watch, member);
}

/* ---- one request ---- */

/* A request under way. */
struct asking_replica {
    struct replica_asker *asker;
    const struct replica_request *request;
    const struct replica_sink *sink;
    struct replica_head head;
    struct client_response response;
    char answer[FIELD_SIZE], range[FIELD_SIZE], digest[DIGEST_STRING_SIZE];
    char age[32], cache_control[FIELD_SIZE], cache_status[FIELD_SIZE];
    uint64_t received; /* bytes */
    int64_t heard_ms;  /* the last byte, or the last sign of life */
    bool head_given;
    bool stopped;  /* by the sink */
    bool is_gone;  /* it is silent and does not answer its /livez */
    bool is_unfit; /* the head is no answer to the request */
};

void asker_make_url(const struct replica_asker *asker, const struct member *member,
                    const char *path, struct buffer *url) {
    buffer_printf(url, "%s://%s%s", asker->settings.is_tls ? "https" : "http", member->text, path);
}

bool asker_is_own_fault(const struct error *error) {
    return error->kind == ERROR_CLOSED || error->kind == ERROR_MEMORY ||
           error->kind == ERROR_FILES || error->kind == ERROR_INVALID;
}

bool asker_is_alive(struct replica_asker *asker, const struct member *member,
                    const struct cancel *cancel, struct error *error) {
    cleanup_buffer struct buffer url = {0};
    cleanup_client_response struct client_response response = {0};
    asker_make_url(asker, member, "/livez", &url);
    struct lane *lane = url.failed ? NULL : lanes_take(&asker->lanes);
    if (!lane)
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct client_request request = {
        .method = "GET",
        .url = url.bytes,
        .tls = asker->settings.is_tls ? &asker->tls : NULL,
        .no_proxy = true,
        .connect_timeout_ms = LIVE_MS,
        .total_timeout_ms = LIVE_MS,
        .bounds_body = true,
        .asks_once = true,
        .cancel = cancel,
    };
    bool ok = lane_disconnect(lane) ? transfer_run(lane, &request, NULL, &response, error)
                                    : error_set(error, ERROR_MEMORY, "out of memory");
    lanes_give(&asker->lanes, lane);
    return ok;
}

bool asker_check_silence(struct replica_asker *asker, const struct member *member,
                         const struct cancel *cancel, int64_t *heard_ms, bool *is_gone,
                         struct error *error) {
    if (clock_ms() - *heard_ms < ASKER_SILENT_MS)
        return true;
    struct error why = {0};
    const bool is_here = asker_is_alive(asker, member, cancel, &why);
    *heard_ms = clock_ms();
    if (is_here ||
        (asker_is_own_fault(&why) && why.kind != ERROR_CLOSED)) /* it may be asked later */
        return true;
    *is_gone = !asker_is_own_fault(&why);
    return *is_gone
               ? error_set(error, ERROR_TIMEOUT, "silent, and its /livez does not answer either")
               : error_set(error, why.kind, "%s", why.text);
}

/* For the watch. */
static bool is_back(void *context, const struct member *member, const struct cancel *cancel) {
    struct error ignored;
    return asker_is_alive(context, member, cancel, &ignored);
}

/* ---- the head ---- */

/* The number behind `name` in a list of directives (RFC 9111 §5.2). */
static bool read_directive(const char *value, const char *name, int64_t *out) {
    struct text rest = text_of(value);
    uint64_t number;
    while (rest.at) {
        struct text directive = text_trim(text_cut(rest, ',', &rest)), argument;
        struct text is = text_cut(directive, '=', &argument);
        if (text_is_nocase(is, name) && argument.at && text_to_u64(argument, &number) &&
            number <= INT32_MAX) {
            *out = (int64_t)number;
            return true;
        }
    }
    return false;
}

static bool read_range(struct asking_replica *asking) {
    const struct replica_request *request = asking->request;
    struct replica_head *head = &asking->head;
    struct content_range range;
    if (!request->has_range || !content_range_parse(text_of(asking->range), &range))
        return false;
    head->has_total = range.has_total;
    head->total = range.total;
    if (head->status == 416)
        return range.has_total;
    head->has_range = true;
    head->first = range.first;
    head->last = range.last;
    return range.satisfied && range.has_total &&
           content_range_fits(&range, request->first, request->last, request->suffix) &&
           (!head->has_length || head->length == range.last - range.first + 1);
}

/* False: it is no answer to what was asked. */
static bool read_head(struct asking_replica *asking, const struct client_response *response) {
    struct replica_head *head = &asking->head;
    uint64_t age;
    *head = (struct replica_head){
        .status = response->status, .has_length = response->has_length, .length = response->length};
    memcpy(head->content_type, response->content_type, sizeof head->content_type);
    replica_answer_parse(text_of(asking->answer), &head->answer);
    head->has_digest = digest_parse(text_of(asking->digest), &head->digest);
    head->has_life = text_to_u64(text_of(asking->age), &age) && age <= INT32_MAX &&
                     read_directive(asking->cache_control, "max-age", &head->max_age_s);
    head->age_s = head->has_life ? (int64_t)age : 0;
    head->is_stale = strstr(asking->cache_status, "detail=upstream-failed") ||
                     (head->has_life && head->max_age_s > 0 && head->age_s > head->max_age_s);
    if (head->status == 206 || head->status == 416)
        return read_range(asking);
    head->has_total = response->has_length;
    head->total = response->length;
    return head->status == 200;
}

/* Whether the answer has content for us. HEAD may have any answer. */
static bool has_content(const struct asking_replica *asking) {
    const struct replica_head *head = &asking->head;
    if (asking->request->head_only)
        return head->answer != REPLICA_ANSWER_NONE;
    return head->answer == REPLICA_ANSWER_HELD || head->answer == REPLICA_ANSWER_ARRIVING;
}

static enum client_verdict on_head(void *context, const struct client_response *response,
                                   struct error *error) {
    struct asking_replica *asking = context;
    const bool fits = read_head(asking, response);
    const bool is_content =
        response->status == 200 || response->status == 206 || response->status == 416;
    members_note_answer(asking->asker->settings.members, asking->request->member, clock_ms());
    if (!is_content)
        return CLIENT_COLLECT; /* what it says about itself or upstream */
    if (!fits || !has_content(asking)) {
        asking->is_unfit = true;
        error_set(error, ERROR_UNAVAILABLE, "no answer to what was asked (status %d)",
                  response->status);
        return CLIENT_STOP;
    }
    asking->head_given = true;
    if (asking->sink->on_head &&
        !asking->sink->on_head(asking->sink->context, &asking->head, error)) {
        asking->stopped = true;
        return CLIENT_STOP;
    }
    asking->heard_ms = clock_ms();
    return response->status == 416 ? CLIENT_COLLECT : CLIENT_STREAM;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct asking_replica *asking = context;
    asking->stopped = !asking->sink->on_bytes(asking->sink->context, bytes, length, error);
    asking->received += length;
    asking->heard_ms = clock_ms(); /* the time in our own callback is not silence */
    return !asking->stopped;
}

static bool on_idle(void *context, struct error *error) {
    struct asking_replica *asking = context;
    const struct replica_sink *sink = asking->sink;
    if (sink->on_idle && !sink->on_idle(sink->context, error)) {
        asking->stopped = true;
        return false;
    }
    const struct replica_request *request = asking->request;
    return asker_check_silence(asking->asker, request->member, request->cancel, &asking->heard_ms,
                               &asking->is_gone, error);
}

/* ---- the outcome ---- */

/* What a status says that upstream itself has given. */
static enum error_kind kind_of(int status) {
    return status == 504 ? ERROR_TIMEOUT : client_response_error_kind(status);
}

static bool is_final(int status) {
    return status == 404 || status == 403 || status == 429 || status == 502 || status == 504;
}

void asker_read_refusal(const struct client_response *response, struct error *out) {
    const size_t length =
        response->body.length < ASKER_REFUSAL_LIMIT ? response->body.length : ASKER_REFUSAL_LIMIT;
    char code[sizeof out->code] = "", message[500] = "";
    if (length)
        error_body_read(response->body.bytes, length, code, sizeof code, message, sizeof message);
    char *id = strstr(message, " (request"); /* another replica's, which its own log has */
    if (id)
        *id = '\0';
    error_set(out, kind_of(response->status), "%s", message);
    memcpy(out->code, code, sizeof code);
    out->retry_after_s = response->retry_after_s;
}

/* The error is upstream's, in the words of the replica that asked it. */
static void pass_on(const struct asking_replica *asking, struct error *error) {
    const int status = asking->response.status;
    asker_read_refusal(&asking->response, error);
    if (!error->text[0])
        snprintf(error->text, sizeof error->text, "a replica says that upstream refused or failed");
    error->doubtful = strstr(asking->cache_status, REPLICA_DOUBTFUL) != NULL;
    if (status == 404 || status == 403)
        error->status = status;
}

static enum replica_outcome judge_status(const struct asking_replica *asking, struct error *error) {
    const int status = asking->response.status;
    if (asking->head_given && status == 416) {
        error_set(error, ERROR_RANGE, "the range lies outside of the blob");
        return REPLICA_OUTSIDE;
    }
    if (asking->head_given)
        return REPLICA_GAVE;
    if (asking->head.answer == REPLICA_ANSWER_NO && status == 404 &&
        asking->request->ask == REPLICA_ASK_ARRIVING) {
        error_set(error, ERROR_NOT_FOUND, "not arriving there");
        return REPLICA_SAID_NO;
    }
    if (asking->head.answer == REPLICA_ANSWER_UPSTREAM && is_final(status)) {
        pass_on(asking, error);
        return REPLICA_FINAL;
    }
    error_set(error, ERROR_UNAVAILABLE, "status %d", status);
    return REPLICA_REFUSED;
}

/* Why no whole answer came. */
static enum replica_outcome judge_failure(const struct asking_replica *asking,
                                          const struct error *error) {
    if (asking->stopped || asker_is_own_fault(error))
        return REPLICA_STOPPED;
    if (asking->is_gone)
        return REPLICA_DOWN;
    if (asking->is_unfit || (asking->response.status && !asking->head_given))
        return REPLICA_REFUSED;
    if (asking->head_given)
        return REPLICA_CUT;
    /* A member that is alive, but whose upstream has not answered in time, is not down. */
    if (error->kind == ERROR_TIMEOUT && !asking->response.status &&
        clock_ms() >= asking->request->deadline_ms)
        return REPLICA_CUT;
    return REPLICA_DOWN;
}

static const char *count_name(const struct asking_replica *asking, enum replica_outcome outcome) {
    switch (outcome) {
    case REPLICA_GAVE:
    case REPLICA_OUTSIDE:
    case REPLICA_SAID_NO:
    case REPLICA_FINAL:
    case REPLICA_CUT:
    case REPLICA_STOPPED:
        if (replica_answer_text(asking->head.answer))
            return replica_answer_text(asking->head.answer);
        return outcome == REPLICA_STOPPED ? NULL : REPLICA_WAS_FAULT;
    case REPLICA_REFUSED:
        return REPLICA_WAS_REFUSED;
    case REPLICA_DOWN:
        break;
    }
    return REPLICA_WAS_FAULT;
}

static void count(const struct asking_replica *asking, enum replica_outcome outcome) {
    const char *word = count_name(asking, outcome);
    if (word)
        replica_count_ask(REPLICA_OUT, asking->request->ask, word);
    if (asking->received)
        replica_count_bytes(REPLICA_IN, asking->received);
}

void asker_note_down(struct replica_asker *asker, const struct member *member,
                     const struct error *error) {
    if (!members_note_fault(asker->settings.members, member, clock_ms())) {
        watch_note_silent(asker->watch, member);
        return;
    }
    log_at(LOG_WARN, "a replica is down", LOG_STRING("replica", member->text),
           LOG_STRING("error", error->text));
    watch_begin(asker->watch);
}

/* ---- sending ---- */

static bool add_range(const struct replica_request *request, char *out, size_t size) {
    if (request->suffix)
        snprintf(out, size, "Range: bytes=-%" PRIu64, request->suffix);
    else if (request->last == UINT64_MAX)
        snprintf(out, size, "Range: bytes=%" PRIu64 "-", request->first);
    else
        snprintf(out, size, "Range: bytes=%" PRIu64 "-%" PRIu64, request->first, request->last);
    return request->has_range;
}

size_t asker_sign(const struct replica_asker *asker, const struct signed_request *request,
                  struct ask_lines *lines) {
    const struct replica_asker_settings *settings = &asker->settings;
    char input[SIGNATURE_INPUT_SIZE], signature[SIGNATURE_SIZE];
    if (!settings->sign(settings->context, request, input, signature))
        return 0;
    snprintf(lines->ask, sizeof lines->ask, "Tarn-Ask: %.*s", TEXT_PRINT(request->ask));
    snprintf(lines->input, sizeof lines->input, "Signature-Input: %s", input);
    snprintf(lines->signature, sizeof lines->signature, "Signature: %s", signature);
    lines->all[0] = lines->ask;
    lines->all[1] = lines->input;
    lines->all[2] = lines->signature;
    lines->all[3] = NULL;
    return 3;
}

static bool compose(const struct asking_replica *asking, struct ask_lines *lines) {
    const struct replica_request *request = asking->request;
    const struct signed_request signed_request = {
        .method = text_of(request->head_only ? "HEAD" : "GET"),
        .path = text_of(request->path),
        .ask = text_of(replica_ask_text(request->ask)),
    };
    size_t used = asker_sign(asking->asker, &signed_request, lines);
    if (used == 0)
        return false;
    if (add_range(request, lines->range, sizeof lines->range))
        lines->all[used++] = lines->range;
    lines->all[used] = NULL;
    return true;
}

static bool transfer(struct asking_replica *asking, const char *url, const struct ask_lines *lines,
                     struct error *error) {
    struct replica_asker *asker = asking->asker;
    const struct client_field fields[] = {
        {"Tarn-Answer", asking->answer, sizeof asking->answer, false},
        {"Content-Range", asking->range, sizeof asking->range, false},
        {"Docker-Content-Digest", asking->digest, sizeof asking->digest, false},
        {"Age", asking->age, sizeof asking->age, false},
        {"Cache-Control", asking->cache_control, sizeof asking->cache_control, true},
        {"Cache-Status", asking->cache_status, sizeof asking->cache_status, true},
    };
    const int64_t left_ms = asking->request->deadline_ms - clock_ms();
    const struct client_request request = {
        .method = asking->request->head_only ? "HEAD" : "GET",
        .url = url,
        .headers = lines->all,
        .wanted = {.fields = fields, .count = sizeof fields / sizeof *fields},
        .tls = asker->settings.is_tls ? &asker->tls : NULL,
        .no_proxy = true,
        .connect_timeout_ms = ASKER_SILENT_MS,
        .total_timeout_ms = left_ms > 1 ? left_ms : 1,
        .body_limit = ASKER_REFUSAL_LIMIT,
        .asks_once = true, /* a connection that is silent is judged by /livez */
        .cancel = asking->request->cancel,
    };
    const struct client_sink sink = {asking, on_head, on_bytes, on_idle};
    struct lane *lane = lanes_take(&asker->lanes);
    if (!lane)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool ok = transfer_run(lane, &request, &sink, &asking->response, error);
    lanes_give(&asker->lanes, lane);
    return ok;
}

enum replica_outcome replica_asker_ask(struct replica_asker *asker,
                                       const struct replica_request *request,
                                       const struct replica_sink *sink, struct replica_head *head,
                                       struct error *error) {
    struct asking_replica asking = {
        .asker = asker, .request = request, .sink = sink, .heard_ms = clock_ms()};
    struct ask_lines lines;
    cleanup_buffer struct buffer url = {0};
    enum replica_outcome outcome = REPLICA_STOPPED;
    asker_make_url(asker, request->member, request->path, &url);
    if (url.failed || !compose(&asking, &lines))
        error_set(error, ERROR_MEMORY, "out of memory");
    else if (transfer(&asking, url.bytes, &lines, error))
        outcome = judge_status(&asking, error);
    else
        outcome = judge_failure(&asking, error);
    if (outcome == REPLICA_DOWN)
        asker_note_down(asker, request->member, error);
    count(&asking, outcome);
    if (outcome != REPLICA_GAVE && outcome != REPLICA_FINAL && !asking.stopped)
        error_wrap(error, "replica %s", request->member->text);
    if (head)
        *head = asking.head;
    client_response_wipe(&asking.response);
    return outcome;
}

/* ---- content that comes whole ---- */

static bool take_head(void *context, const struct replica_head *head, struct error *error) {
    const struct buffer *body = context;
    return !(head->has_length && head->length > body->limit) ||
           error_set(error, ERROR_UNAVAILABLE, "the answer has %" PRIu64 " bytes, over the limit",
                     head->length);
}

static bool take_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct buffer *body = context;
    if (length > body->limit - body->length)
        return error_set(error, ERROR_UNAVAILABLE, "the answer is longer than %zu bytes",
                         body->limit);
    return buffer_append(body, bytes, length) || error_set(error, ERROR_MEMORY, "out of memory");
}

enum replica_outcome replica_asker_read(struct replica_asker *asker,
                                        const struct replica_request *request, struct buffer *body,
                                        struct replica_head *head, struct error *error) {
    const struct replica_sink sink = {body, request->head_only ? NULL : take_head, take_bytes,
                                      NULL};
    buffer_clear(body);
    enum replica_outcome outcome = replica_asker_ask(asker, request, &sink, head, error);
    /* The sink ends a request for one reason: what was sent is too long. */
    return outcome == REPLICA_STOPPED && error->kind == ERROR_UNAVAILABLE ? REPLICA_REFUSED
                                                                          : outcome;
}
