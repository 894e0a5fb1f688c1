/* Passes requests of clients on to other replicas. */
#include "replica/pass.h"

#include <stdio.h>
#include "base/clock.h"
#include "client/transfer.h"
#include "replica/asker_private.h"
#include "replica/counts.h"

enum { FIELD_SIZE = 160 };

/* A request under way. */
struct passing {
    struct replica_asker *asker;
    const struct replica_pass *pass;
    struct replica_passed *passed;
    struct client_response response;
    int64_t heard_ms; /* the last sign of life */
    bool is_gone;     /* it is silent and does not answer its /livez */
    char answer[FIELD_SIZE];
};

static enum client_verdict on_head(void *context, const struct client_response *response,
                                   struct error *error) {
    const struct passing *passing = context;
    (void)response;
    (void)error;
    members_note_answer(passing->asker->settings.members, passing->pass->member, clock_ms());
    return CLIENT_COLLECT;
}

static bool on_idle(void *context, struct error *error) {
    struct passing *passing = context;
    return asker_check_silence(passing->asker, passing->pass->member, passing->pass->cancel,
                               &passing->heard_ms, &passing->is_gone, error);
}

static bool transfer(struct passing *passing, const char *url, const struct ask_lines *lines,
                     struct error *error) {
    struct replica_asker *asker = passing->asker;
    const struct replica_pass *pass = passing->pass;
    struct replica_passed *passed = passing->passed;
#define FIELD(name, member)                                                                        \
    { (name), passed->member, sizeof passed->member, false }
    const struct client_field fields[] = {
        {"Tarn-Answer", passing->answer, sizeof passing->answer, false},
        FIELD("Location", location),
        FIELD("Range", range),
        FIELD("Docker-Content-Digest", digest),
        FIELD("Docker-Upload-UUID", uuid),
        FIELD("OCI-Chunk-Min-Length", least_chunk),
    };
#undef FIELD
    const struct client_request request = {
        .method = pass->method,
        .url = url,
        .headers = lines->all,
        .body = pass->body,
        .wanted = {.fields = fields, .count = sizeof fields / sizeof *fields},
        .tls = asker->settings.is_tls ? &asker->tls : NULL,
        .no_proxy = true,
        .once = pass->body.source != NULL,
        .connect_timeout_ms = ASKER_SILENT_MS,
        .total_timeout_ms = pass->answer_ms,
        .stall_timeout_ms = pass->answer_ms,
        .body_limit = ASKER_REFUSAL_LIMIT,
        .asks_once = true,
        .cancel = pass->cancel,
    };
    const struct client_sink sink = {passing, on_head, NULL, on_idle};
    struct lane *lane = lanes_take(&asker->lanes);
    if (!lane)
        return error_set(error, ERROR_MEMORY, "out of memory");
    /* The body of a client cannot be sent a second time. */
    const bool ok =
        lane_disconnect(lane) && transfer_run(lane, &request, &sink, &passing->response, error);
    lanes_give(&asker->lanes, lane);
    return ok;
}

/* What the answer means: only a tarn that has looked at the session says Tarn-Answer. */
static enum replica_outcome judge(struct passing *passing, struct error *error) {
    struct replica_passed *passed = passing->passed;
    enum replica_answer answer;
    passed->status = passing->response.status;
    passed->retry_after_s = passing->response.retry_after_s;
    if (replica_answer_parse(text_of(passing->answer), &answer)) {
        asker_read_refusal(&passing->response, &passed->refusal);
        return REPLICA_GAVE;
    }
    error_set(error, ERROR_UNAVAILABLE, "status %d", passed->status);
    return passed->status == 429 || passed->status == 503 ? REPLICA_CUT : REPLICA_REFUSED;
}

static enum replica_outcome judge_failure(const struct passing *passing,
                                          const struct error *error) {
    if (passing->response.status)
        return REPLICA_CUT;
    if (passing->is_gone || (error->kind == ERROR_UNAVAILABLE && !asker_is_own_fault(error)))
        return REPLICA_DOWN;
    return error->kind == ERROR_TIMEOUT ? REPLICA_CUT : REPLICA_STOPPED;
}

static enum replica_outcome perform(struct passing *passing, struct error *error) {
    const struct replica_pass *pass = passing->pass;
    cleanup_buffer struct buffer url = {0};
    struct ask_lines lines;
    const struct signed_request signed_request = {
        .method = text_of(pass->method),
        .path = text_of(pass->path),
        .query = text_of(pass->query),
        .ask = text_of(replica_ask_text(REPLICA_ASK_UPLOAD)),
    };
    asker_make_url(passing->asker, pass->member, pass->path, &url);
    buffer_printf(&url, "?%s", pass->query);
    size_t used = url.failed ? 0 : asker_sign(passing->asker, &signed_request, &lines);
    if (!used) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return REPLICA_STOPPED;
    }
    for (size_t i = 0; pass->fields && pass->fields[i] && i < REPLICA_PASS_FIELDS; i++)
        lines.all[used++] = pass->fields[i];
    lines.all[used] = NULL;
    return transfer(passing, url.bytes, &lines, error) ? judge(passing, error)
                                                       : judge_failure(passing, error);
}

enum replica_outcome replica_asker_pass(struct replica_asker *asker,
                                        const struct replica_pass *pass,
                                        struct replica_passed *passed, struct error *error) {
    struct passing passing = {
        .asker = asker, .pass = pass, .passed = passed, .heard_ms = clock_ms()};
    *passed = (struct replica_passed){0};
    enum replica_outcome outcome = perform(&passing, error);
    if (outcome == REPLICA_DOWN)
        asker_note_down(asker, pass->member, error);
    const char *word = outcome == REPLICA_GAVE      ? passing.answer
                       : outcome == REPLICA_REFUSED ? REPLICA_WAS_REFUSED
                                                    : REPLICA_WAS_FAULT;
    if (outcome != REPLICA_STOPPED)
        replica_count_ask(REPLICA_OUT, REPLICA_ASK_UPLOAD, word);
    if (outcome != REPLICA_GAVE)
        error_wrap(error, "replica %s", pass->member->text);
    client_response_wipe(&passing.response);
    return outcome;
}
