/* Asks until there is an answer that counts: breaker, tries, and what an answer teaches. */
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "bucket/bucket_private.h"

enum {
    READ_TRIES = 3,
    WRITE_TRIES = 8,
    READ_MS = 20000,
    WRITE_MS = 600000,
    FIRST_PAUSE_MS = 50, /* doubling; the wait is a random part of it */
    MOST_PAUSE_MS = 5000,
};

/* ---- what is asked ---- */

static bool is_reading(enum bucket_operation operation) {
    return operation == OPERATION_GET || operation == OPERATION_HEAD || operation == OPERATION_LIST;
}

/* The part of a key that tells it from others. */
static const char *shown_key(const char *key) {
    static const char common[] = "docker/registry/v2/";
    if (strncmp(key, common, sizeof common - 1) == 0 && key[sizeof common - 1])
        return key + sizeof common - 1;
    return *key ? key : "/";
}

bool bucket_ask_init(struct bucket_ask *ask, struct bucket *bucket, enum bucket_operation operation,
                     const char *key, char full[static BUCKET_KEY_LIMIT + 1],
                     const struct bucket_limits *limits, struct error *error) {
    static const struct bucket_limits none = {0};
    const char *prefix = bucket->settings.address.prefix;
    bool reads = is_reading(operation);
    limits = limits ? limits : &none;
    *ask = (struct bucket_ask){
        .bucket = bucket,
        .operation = operation,
        .key = full,
        .shown = shown_key(key),
        .tries = limits->tries ? limits->tries
                 : reads       ? READ_TRIES
                               : WRITE_TRIES,
        .insists = limits->insists,
        .has_time = !limits->deadline_ms,
        .cancel = limits->cancel,
    };
    ask->error = error ? error : &ask->unwanted;
    error_clear(ask->error);
    ask->deadline_ms =
        limits->deadline_ms ? limits->deadline_ms : clock_ms() + (reads ? READ_MS : WRITE_MS);
    int length = snprintf(full, BUCKET_KEY_LIMIT + 1, "%s%s%s", prefix, *prefix ? "/" : "", key);
    if (length <= BUCKET_KEY_LIMIT)
        return true;
    full[0] = '\0';
    ask->outcome = BUCKET_REFUSED;
    return error_set(ask->error, ERROR_INVALID, "bucket %s: a key has more than %d bytes",
                     bucket->label, BUCKET_KEY_LIMIT);
}

bool bucket_ask_give_up(const struct bucket_ask *ask, struct bucket_answer *answer) {
    if (answer)
        *answer = (struct bucket_answer){.outcome = ask->outcome};
    return false;
}

void bucket_ask_finish(struct bucket_ask *ask) {
    client_response_wipe(&ask->response);
}

void bucket_ask_query(struct bucket_ask *ask, const char *name, const char *value) {
    ask->query[ask->query_count++] = (struct sigv4_pair){name, value};
}

void bucket_ask_field(struct bucket_ask *ask, const char *name, const char *value) {
    ask->fields[ask->field_count++] = (struct sigv4_pair){name, value};
}

/* ---- what an answer teaches ---- */

/* A refusal of a key and not of who asks. */
static bool is_about_rights(const char *code) {
    return !*code || strcmp(code, "AccessDenied") == 0 || strcmp(code, "AllAccessDisabled") == 0;
}

/* Finds out whether we may list: a bucket that we may not list says 403 for keys that it lacks. A
 * list also tells the reason for which an answer to HEAD has no place. */
static enum bucket_lists survey(struct bucket_ask *ask, struct bucket_fault *fault) {
    struct bucket_ask list;
    struct error error = {0};
    char full[BUCKET_KEY_LIMIT + 1], prefix[BUCKET_PREFIX_LIMIT + 2];
    const struct bucket_limits limits = {
        .deadline_ms = ask->deadline_ms, .cancel = ask->cancel, .tries = 1};
    if (!bucket_ask_init(&list, ask->bucket, OPERATION_LIST, "", full, &limits, &error))
        return LISTS_UNKNOWN;
    snprintf(prefix, sizeof prefix, "%.*s", (int)strlen(full), full);
    list.key = "";
    list.inside = true;
    bucket_ask_query(&list, "list-type", "2");
    bucket_ask_query(&list, "max-keys", "1");
    bucket_ask_query(&list, "prefix", prefix);
    enum bucket_lists lists = LISTS_UNKNOWN;
    if (bucket_ask_run(&list, NULL))
        lists = LISTS_ALLOWED;
    else if (list.outcome == BUCKET_FORBIDDEN && is_about_rights(list.fault.code))
        lists = LISTS_FORBIDDEN;
    *fault = list.fault;
    bucket_ask_finish(&list);
    if (lists != LISTS_UNKNOWN)
        bucket_learn_lists(ask->bucket, lists);
    return lists;
}

/* Finds out what a 403 (or a HEAD's 400) means. True: ask again. */
static bool find_out(struct bucket_ask *ask) {
    struct bucket_learnt before, after;
    struct bucket_fault fault = ask->fault;
    bool forbidden = ask->response.status == 403;
    bucket_learnt(ask->bucket, &before);
    enum bucket_lists lists = before.lists;
    if (forbidden && lists == LISTS_FORBIDDEN && is_about_rights(ask->fault.code)) {
        ask->outcome = BUCKET_ABSENT;
        bucket_log_lists(ask); /* who found out may have had to ask again for another reason */
        return false;
    }
    bool told = ask->fault.code[0] && (lists == LISTS_ALLOWED || !is_about_rights(ask->fault.code));
    if (ask->surveyed || told)
        return false;
    ask->surveyed = true;
    lists = survey(ask, &fault);
    bucket_learnt(ask->bucket, &after);
    if (after.changes != before.changes)
        return true;
    if (!ask->fault.code[0])
        ask->fault = fault; /* the reason, of an answer without a body */
    if (forbidden && lists == LISTS_FORBIDDEN && is_about_rights(ask->fault.code)) {
        ask->outcome = BUCKET_ABSENT;
        bucket_log_lists(ask);
    }
    return false;
}

/* Does what helps once. True: ask again at once. */
static bool take_step(struct bucket_ask *ask, enum bucket_step step) {
    struct bucket *bucket = ask->bucket;
    bool *once;
    switch (step) {
    case STEP_RENEW:
        once = &ask->renewed;
        if (*once || bucket_settings_credentials(&bucket->settings) == BUCKET_CREDENTIALS_ANONYMOUS)
            return false;
        if (!bucket->google)
            aws_source_renew(bucket->aws, ask->keys_number);
        bucket_learn_renewal(bucket);
        break;
    case STEP_MOVE:
        once = &ask->moved;
        if (*once)
            return false;
        bucket_learn_region(bucket, ask->fault.region);
        break;
    case STEP_CORRECT:
        once = &ask->corrected;
        if (*once || !bucket_learn_clock(bucket, bucket_date_parse(ask->date)))
            return false;
        break;
    case STEP_UNCONDITIONED:
        once = &ask->unconditioned;
        bucket_learn_condition(bucket);
        break;
    case STEP_SURVEY:
        return find_out(ask);
    default:
        return false;
    }
    return *once = true;
}

/* ---- tries ---- */

/* Waits before the next try. False: there is none. */
static bool wait_for_next(struct bucket_ask *ask, unsigned failures) {
    /* A probe is one request, and so is every other one while the breaker is open. */
    if (failures >= ask->tries || ask->head_given || !(ask->goes_by || bucket_is_up(ask->bucket)))
        return false;
    int64_t most = FIRST_PAUSE_MS;
    for (unsigned i = 1; i < failures && most < MOST_PAUSE_MS; i++)
        most *= 2;
    most = most < MOST_PAUSE_MS ? most : MOST_PAUSE_MS;
    int64_t pause = clock_jitter((uint32_t)most + 1);
    if (ask->response.retry_after_s && pause < (int64_t)ask->response.retry_after_s * 1000)
        pause = (int64_t)ask->response.retry_after_s * 1000;
    int64_t until = clock_ms() + pause;
    struct error stopped = {0};
    if (until >= ask->deadline_ms)
        return false;
    if (cancel_sleep(ask->cancel, until, &stopped))
        return true;
    ask->outcome = BUCKET_STOPPED;
    *ask->error = stopped;
    return false;
}

/* Whether the keys are wrong: the operator may have exchanged the file that holds them. */
static bool is_about_keys(const char *code) {
    return strcmp(code, "SignatureDoesNotMatch") == 0 || strcmp(code, "InvalidAccessKeyId") == 0;
}

/* The last request's answer has its final outcome: puts it into words. */
static void conclude(struct bucket_ask *ask, bool answered) {
    if (ask->outcome == BUCKET_DONE)
        return;
    if (answered)
        bucket_tell_status(ask);
    else
        bucket_tell_failure(ask);
    if (ask->outcome == BUCKET_FORBIDDEN ||
        (ask->outcome == BUCKET_REFUSED && !ask->response.body.failed) ||
        (ask->outcome == BUCKET_UNSIGNED && !ask->bucket->aws)) /* those of AWS log it themselves */
        bucket_log_refusal(ask);
    if (ask->outcome == BUCKET_FORBIDDEN && is_about_keys(ask->fault.code) && ask->keys_number)
        aws_source_renew(ask->bucket->aws, ask->keys_number); /* for the next call */
}

/* Reads what a completion's answer says, which has a status of 200 whatever became of it. */
static bool read_completion(struct bucket_ask *ask) {
    const struct buffer *body = &ask->response.body;
    if (ask->operation != OPERATION_COMPLETE || ask->response.status != 200)
        return true;
    if (!bucket_document_completion((struct text){body->bytes, body->length}, &ask->fault,
                                    ask->error)) {
        ask->outcome = ask->error->kind == ERROR_MEMORY ? BUCKET_STOPPED : BUCKET_UNREACHABLE;
        return false;
    }
    if (ask->fault.code[0])
        ask->response.status = bucket_status_of_code(ask->fault.code);
    return true;
}

/* One request and what follows from it. True: ask once more. */
static bool try_once(struct bucket_ask *ask, unsigned *failures) {
    bool answered = bucket_send(ask) && read_completion(ask);
    if (!answered || ask->response.status >= 500)
        ask->in_doubt = true;
    if (answered) {
        enum bucket_step step = bucket_judge(ask, &ask->outcome);
        if (step != STEP_END && step != STEP_LATER && !ask->head_given && take_step(ask, step))
            return true;
        if (step == STEP_LATER && wait_for_next(ask, ++*failures))
            return true;
    } else if (ask->outcome == BUCKET_UNREACHABLE && wait_for_next(ask, ++*failures)) {
        return true;
    }
    conclude(ask, answered && ask->outcome != BUCKET_STOPPED);
    return false;
}

/* ---- the breaker ---- */

static enum breaker_outcome health_of(enum bucket_outcome outcome) {
    switch (outcome) {
    case BUCKET_BUSY:
    case BUCKET_UNREACHABLE:
    case BUCKET_CUT:
        return BREAKER_FAILED;
    case BUCKET_UNSIGNED:
    case BUCKET_STOPPED:
    case BUCKET_DOWN:
        return BREAKER_UNKNOWN;
    default:
        return BREAKER_RESPONDED;
    }
}

/* Whether the call says nothing about a bucket that is down, because a thread makes the probes:
 * that a call which has time is answered does not mean that clients are answered in time. */
static bool leaves_probes_to_others(const struct bucket_ask *ask) {
    return ask->has_time && atomic_load(&ask->bucket->is_watched) && !bucket_is_up(ask->bucket);
}

/* Whether the call may ask. */
static bool enter(struct bucket_ask *ask, struct breaker_pass *pass) {
    struct bucket *bucket = ask->bucket;
    ask->goes_by = ask->has_time && atomic_load(&bucket->is_slow);
    if (ask->goes_by)
        return true;
    if (leaves_probes_to_others(ask) && !ask->insists)
        return false;
    return breaker_enter(&bucket->breaker, clock_ms(), ask->insists, pass);
}

/* Whether a probe was answered so late that a client would not have waited for it. */
static bool is_late(const struct bucket_ask *ask, const struct breaker_pass *pass) {
    const int64_t answered_ms = ask->answered_ms ? ask->answered_ms : clock_ms();
    return pass->is_probe &&
           (ask->operation == OPERATION_GET || ask->operation == OPERATION_HEAD) &&
           answered_ms - pass->began_ms > ask->bucket->settings.patience_ms;
}

/* A bucket that is slow was asked, whatever its breaker says. */
static void leave_slow(struct bucket_ask *ask) {
    if (health_of(ask->outcome) == BREAKER_FAILED)
        atomic_store(&ask->bucket->is_slow, false);
}

/* A probe has shown whether a bucket that is not up is slow. */
static void note_slowness(struct bucket *bucket, bool is_slow) {
    if (atomic_exchange(&bucket->is_slow, is_slow) == is_slow || !is_slow)
        return;
    log_at(LOG_WARN, BUCKET_SLOW, LOG_STRING("bucket", bucket->label),
           LOG_NUMBER("patience_ms", (double)bucket->settings.patience_ms));
}

static void leave(struct bucket_ask *ask, const struct breaker_pass *pass) {
    unsigned more;
    struct bucket *bucket = ask->bucket;
    enum breaker_outcome health = health_of(ask->outcome);
    if (ask->goes_by) {
        leave_slow(ask);
        return;
    }
    const bool late = health == BREAKER_RESPONDED && is_late(ask, pass);
    if (late)
        health = BREAKER_FAILED;
    if (pass->is_probe && health != BREAKER_UNKNOWN)
        note_slowness(bucket, late);
    /* A caller that insists waits longer than others do: that the bucket answers it in the end does
     * not mean that the others need not leave it alone. */
    if ((ask->insists || leaves_probes_to_others(ask)) && !pass->is_probe &&
        health == BREAKER_RESPONDED)
        health = BREAKER_UNKNOWN;
    switch (breaker_leave(&bucket->breaker, pass, health, clock_ms())) {
    case BREAKER_OPENS:
        bucket_show_up(bucket, false);
        log_at(LOG_WARN, "the bucket fails: it is left alone for a while",
               LOG_STRING("error", ask->error->text));
        log_is_due(&bucket->down, &more); /* the next warning is due in a minute */
        bucket_call_watcher(bucket);
        break;
    case BREAKER_CLOSES:
        atomic_store(&bucket->is_slow, false);
        bucket_show_up(bucket, true);
        log_at(LOG_INFO, "the bucket works again", LOG_STRING("bucket", bucket->label));
        break;
    case BREAKER_STAYS:
        break;
    }
}

static void fill_answer(const struct bucket_ask *ask, struct bucket_answer *answer) {
    if (!answer)
        return;
    *answer = (struct bucket_answer){
        .outcome = ask->outcome,
        .status = ask->response.status,
        .date_s = bucket_date_parse(ask->date),
        .modified_s = bucket_date_parse(ask->modified),
        .has_length = ask->response.has_length,
        .length = ask->response.length,
    };
    memcpy(answer->code, ask->fault.code, sizeof answer->code);
    memcpy(answer->content_type, ask->response.content_type, sizeof answer->content_type);
}

bool bucket_ask_run(struct bucket_ask *ask, struct bucket_answer *answer) {
    struct breaker_pass pass = {0};
    unsigned failures = 0;
    if (!ask->inside && !enter(ask, &pass)) {
        ask->outcome = BUCKET_DOWN;
        error_set(ask->error, ERROR_UNAVAILABLE, "not asked, because it does not work");
        error_because(ask->error, ERROR_REASON_NOT_ASKED);
        bucket_tell_failure(ask);
        bucket_warn_down(ask->bucket);
    } else {
        while (try_once(ask, &failures)) {
        }
        if (!ask->inside)
            leave(ask, &pass);
    }
    fill_answer(ask, answer);
    return ask->outcome == BUCKET_DONE;
}
