/* Orders to other replicas. */
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "client/transfer.h"
#include "replica/asker_private.h"
#include "replica/counts.h"

enum {
    FIELD_SIZE = 160,
    FORGET_MS = 20000, /* how long a member may take to forget an image */
    RENEW_MS = 5000,   /* the same for what is known of a repository: a client waits */
};

/* ---- orders ---- */

/* A POST without a body. */
struct order {
    const struct member *member;
    enum replica_ask ask;
    const char *path;
    const char *query;
    int64_t within_ms;
};

/* Appends a value of a query (RFC 3986 §3.4). */
static void append_escaped(struct buffer *out, const char *value) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-._~/:@";
    for (; *value; value++) {
        if (strchr(plain, *value))
            buffer_append(out, value, 1);
        else
            buffer_printf(out, "%%%02X", (unsigned char)*value);
    }
}

/* An order under way. */
struct ordering {
    struct replica_asker *asker;
    const struct order *order;
    const struct cancel *cancel;
    int64_t heard_ms; /* the last sign of life */
    bool is_gone;
};

static enum client_verdict on_head(void *context, const struct client_response *response,
                                   struct error *error) {
    struct ordering *ordering = context;
    (void)response, (void)error;
    ordering->heard_ms = clock_ms();
    return CLIENT_COLLECT;
}

static bool on_idle(void *context, struct error *error) {
    struct ordering *ordering = context;
    return asker_check_silence(ordering->asker, ordering->order->member, ordering->cancel,
                               &ordering->heard_ms, &ordering->is_gone, error);
}

/* REPLICA_ANSWER_NONE: the error is set. */
static enum replica_answer send_order(struct replica_asker *asker, const char *url,
                                      const struct order *order, const struct ask_lines *lines,
                                      const struct cancel *cancel, struct error *error) {
    cleanup_client_response struct client_response response = {0};
    char word[FIELD_SIZE] = "";
    enum replica_answer answer = REPLICA_ANSWER_NONE;
    const struct client_field fields[] = {{"Tarn-Answer", word, sizeof word, false}};
    const struct client_request request = {
        .method = "POST",
        .url = url,
        .headers = lines->all,
        .wanted = {.fields = fields, .count = sizeof fields / sizeof *fields},
        .tls = asker->settings.is_tls ? &asker->tls : NULL,
        .no_proxy = true,
        .connect_timeout_ms = ASKER_SILENT_MS,
        .total_timeout_ms = order->within_ms,
        .body_limit = ASKER_REFUSAL_LIMIT,
        .bounds_body = true,
        .asks_once = true,
        .cancel = cancel,
    };
    struct ordering ordering = {
        .asker = asker, .order = order, .cancel = cancel, .heard_ms = clock_ms()};
    const struct client_sink sink = {&ordering, on_head, NULL, on_idle};
    struct lane *lane = lanes_take(&asker->lanes);
    if (!lane) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return REPLICA_ANSWER_NONE;
    }
    /* A connection that the member has closed meanwhile would be no answer. */
    const bool ok = lane_disconnect(lane) ? transfer_run(lane, &request, &sink, &response, error)
                                          : error_set(error, ERROR_MEMORY, "out of memory");
    lanes_give(&asker->lanes, lane);
    if (ok && (response.status != 200 || !replica_answer_parse(text_of(word), &answer)))
        error_set(error, ERROR_UNAVAILABLE, "status %d", response.status);
    return answer;
}

static enum replica_answer give_order(struct replica_asker *asker, const struct order *order,
                                      const struct cancel *cancel, struct error *error) {
    cleanup_buffer struct buffer url = {0};
    struct ask_lines lines;
    enum replica_answer answer = REPLICA_ANSWER_NONE;
    asker_make_url(asker, order->member, order->path, &url);
    buffer_printf(&url, "?%s", order->query);
    const struct signed_request signed_request = {
        .method = text_of("POST"),
        .path = text_of(order->path),
        .query = text_of(order->query),
        .ask = text_of(replica_ask_text(order->ask)),
    };
    if (url.failed || !asker_sign(asker, &signed_request, &lines))
        error_set(error, ERROR_MEMORY, "out of memory");
    else
        answer = send_order(asker, url.bytes, order, &lines, cancel, error);
    const char *word = replica_answer_text(answer);
    replica_count_ask(REPLICA_OUT, order->ask, word ? word : REPLICA_WAS_FAULT);
    return answer;
}

/* ---- the order to forget ---- */

bool replica_asker_forget(struct replica_asker *asker, const struct member *member,
                          const char *name, const struct cancel *cancel, bool *had_any,
                          struct error *error) {
    cleanup_buffer struct buffer query = {0};
    enum replica_answer answer = REPLICA_ANSWER_NONE;
    buffer_append_string(&query, "name=");
    append_escaped(&query, name);
    const struct order order = {member, REPLICA_ASK_FORGET, "/tarn/v1/forget",
                                query.bytes ? query.bytes : "", FORGET_MS};
    if (query.failed)
        error_set(error, ERROR_MEMORY, "out of memory");
    else
        answer = give_order(asker, &order, cancel, error);
    *had_any = answer == REPLICA_ANSWER_HELD;
    return answer != REPLICA_ANSWER_NONE;
}

/* ---- the order to renew ---- */

/* One member that is told. */
struct telling {
    struct replica_asker *asker;
    const char *query;
    const struct member *member;
    pthread_t thread;
    bool is_started;
};

static void tell(void *context) {
    const struct telling *telling = context;
    const struct order order = {telling->member, REPLICA_ASK_RENEW, "/tarn/v1/renew",
                                telling->query, RENEW_MS};
    struct error error = {0}, why = {0};
    if (give_order(telling->asker, &order, NULL, &error) != REPLICA_ANSWER_NONE)
        return;
    log_at(LOG_WARN, "a replica was not told of a write, and may serve what was there before",
           LOG_STRING("replica", telling->member->text), LOG_STRING("error", error.text));
    if (!asker_is_own_fault(&error) &&
        !asker_is_alive(telling->asker, telling->member, NULL, &why) && !asker_is_own_fault(&why))
        asker_note_down(telling->asker, telling->member, &error);
}

static void tell_all(struct replica_asker *asker, const char *query) {
    struct member_figures members[MEMBERS_LIMIT];
    struct telling each[MEMBERS_LIMIT];
    const size_t count = members_describe(asker->settings.members, clock_ms(), members);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (members[i].state == MEMBER_LIVE)
            each[used++] = (struct telling){asker, query, &members[i].member, 0, false};
    }
    for (size_t i = 1; i < used; i++) /* the calling thread tells the first */
        each[i].is_started =
            thread_start("renew", THREAD_STACK, tell, &each[i], &each[i].thread, NULL);
    for (size_t i = 0; i < used; i++) {
        if (!each[i].is_started)
            tell(&each[i]);
    }
    for (size_t i = 1; i < used; i++) {
        if (each[i].is_started)
            pthread_join(each[i].thread, NULL);
    }
}

void replica_asker_renew(struct replica_asker *asker, const struct replica_write *write) {
    cleanup_buffer struct buffer query = {0};
    buffer_append_string(&query, "name=");
    append_escaped(&query, write->name);
    buffer_append_string(&query, "&reference=");
    append_escaped(&query, write->reference);
    buffer_printf(&query, "&what=%s&subject=", write->what);
    append_escaped(&query, write->subject);
    if (!query.failed)
        tell_all(asker, query.bytes);
}
