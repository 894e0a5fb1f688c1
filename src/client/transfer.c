#include "client/transfer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "client/handle.h"

enum {
    /* Bytes asked of the socket at once. Measured, CPU s per GiB over loopback: 0.22 with 16 KiB,
     * 0.19 with 64 KiB, 0.22 with 256 KiB, which costs four times the memory; TLS makes no
     * difference. */
    READ_SIZE = 64 * 1024,
    HEAD_LIMIT = 128 * 1024,     /* bytes of all head lines of one answer */
    IDLE_LIMIT = 32,             /* lanes kept */
    IDLE_MS = 60000,             /* and for how long */
    CONNECTIONS_LIMIT = 4,       /* kept in a lane: the registry, its storage, a mirror */
    RETRY_AFTER_LIMIT_S = 86400, /* nobody means more than a day */
    POLL_MS = 1000,
};

/* ---- lanes ---- */

struct lane {
    CURLM *multi;
    CURL *handle;
    int64_t rested_ms; /* clock_ms() when it was given back */
    struct lane *next;
};

/* A lane and those behind it. */
static void lane_free(struct lane *lane) {
    while (lane) {
        struct lane *next = lane->next;
        curl_easy_cleanup(lane->handle);
        if (lane->multi)
            curl_multi_cleanup(lane->multi);
        free(lane);
        lane = next;
    }
}

static struct lane *lane_new(void) {
    struct lane *lane = calloc(1, sizeof *lane);
    if (!lane)
        return NULL;
    lane->handle = client_handle_new();
    lane->multi = curl_multi_init();
    if (!lane->handle || !lane->multi) {
        lane_free(lane);
        return NULL;
    }
    curl_multi_setopt(lane->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_LIMIT);
    return lane;
}

void lanes_init(struct lanes *lanes) {
    *lanes = (struct lanes){0};
    pthread_mutex_init(&lanes->idle_lock, NULL);
}

void lanes_finish(struct lanes *lanes) {
    lane_free(lanes->idle);
    pthread_mutex_destroy(&lanes->idle_lock);
}

struct lane *lanes_take(struct lanes *lanes) {
    pthread_mutex_lock(&lanes->idle_lock);
    struct lane *lane = lanes->idle;
    if (lane) {
        lanes->idle = lane->next;
        lane->next = NULL;
    }
    pthread_mutex_unlock(&lanes->idle_lock);
    return lane ? lane : lane_new();
}

/* Cuts off the lanes that have rested too long: with the lock held. They stand at the end. */
static struct lane *cut_stale(struct lanes *lanes, int64_t now) {
    struct lane **slot = &lanes->idle;
    unsigned kept = 0;
    while (*slot && kept < IDLE_LIMIT && now - (*slot)->rested_ms < IDLE_MS) {
        slot = &(*slot)->next;
        kept++;
    }
    struct lane *stale = *slot;
    *slot = NULL;
    return stale;
}

void lanes_give(struct lanes *lanes, struct lane *lane) {
    if (!lane)
        return;
    pthread_mutex_lock(&lanes->idle_lock);
    lane->rested_ms = clock_ms();
    lane->next = lanes->idle;
    lanes->idle = lane;
    struct lane *stale = cut_stale(lanes, lane->rested_ms);
    pthread_mutex_unlock(&lanes->idle_lock);
    lane_free(stale);
}

/* ---- one transfer ---- */

struct running {
    const struct transfer *transfer;
    struct transfer_head *head;
    struct error *error;
    struct client_call call;
    CURL *handle;
    size_t head_bytes;
    bool head_done;
    bool stopped; /* by a callback, which set the error */
    bool delivering;
    int64_t heard_ms; /* when the last byte of the body was taken */
};

static void start_head(struct transfer_head *head) {
    head->status = 0;
    head->has_length = false;
    head->length = 0;
    head->retry_after_s = 0;
    head->ratelimit_limit = head->ratelimit_remaining = -1;
    head->challenge = (struct challenge){0};
    head->content_type[0] = head->content_range[0] = head->etag[0] = '\0';
    head->digest[0] = head->link[0] = head->location[0] = '\0';
}

/* "100;w=21600": the number before the window. */
static int64_t read_ratelimit(struct text value) {
    struct text rest;
    uint64_t number;
    value = text_trim(text_cut(value, ';', &rest));
    return text_to_u64(value, &number) && number <= INT64_MAX ? (int64_t)number : -1;
}

void transfer_read_field(struct text name, struct text value, struct transfer_head *head) {
    if (text_is_nocase(name, "content-type"))
        text_copy(value, head->content_type, sizeof head->content_type);
    else if (text_is_nocase(name, "content-range"))
        text_copy(value, head->content_range, sizeof head->content_range);
    else if (text_is_nocase(name, "etag"))
        text_copy(value, head->etag, sizeof head->etag);
    else if (text_is_nocase(name, "docker-content-digest"))
        text_copy(value, head->digest, sizeof head->digest);
    else if (text_is_nocase(name, "link"))
        text_copy(value, head->link, sizeof head->link);
    else if (text_is_nocase(name, "location"))
        text_copy(value, head->location, sizeof head->location);
    else if (text_is_nocase(name, "www-authenticate"))
        challenge_read(value, &head->challenge);
    else if (text_is_nocase(name, "ratelimit-limit"))
        head->ratelimit_limit = read_ratelimit(value);
    else if (text_is_nocase(name, "ratelimit-remaining"))
        head->ratelimit_remaining = read_ratelimit(value);
}

/* The blank line after the head. Interim answers (1xx) are passed over. */
static bool finish_head(struct running *running) {
    struct transfer_head *head = running->head;
    long status = 0;
    curl_off_t length = -1, retry_after = 0;
    curl_easy_getinfo(running->handle, CURLINFO_RESPONSE_CODE, &status);
    if (status / 100 == 1)
        return true;
    curl_easy_getinfo(running->handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    curl_easy_getinfo(running->handle, CURLINFO_RETRY_AFTER, &retry_after);
    head->status = (int)status;
    head->has_length = length >= 0;
    head->length = length >= 0 ? (uint64_t)length : 0;
    if (retry_after > 0)
        head->retry_after_s =
            retry_after > RETRY_AFTER_LIMIT_S ? RETRY_AFTER_LIMIT_S : (int)retry_after;
    running->head_done = true;
    enum transfer_body body =
        running->transfer->on_head(running->transfer->context, head, running->error);
    running->stopped = body == TRANSFER_STOP;
    running->delivering = body == TRANSFER_DELIVER;
    running->heard_ms = clock_ms();
    return !running->stopped;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *context) {
    struct running *running = context;
    struct text value, line = {bytes, size * count};
    running->head_bytes += line.length;
    if (running->head_bytes > HEAD_LIMIT) {
        error_set(running->error, ERROR_UNAVAILABLE, "an answer with a head of more than %d bytes",
                  HEAD_LIMIT);
        running->stopped = true;
        return 0;
    }
    if (running->head_done) /* a trailer */
        return size * count;
    while (line.length && (line.at[line.length - 1] == '\n' || line.at[line.length - 1] == '\r'))
        line.length--;
    if (line.length == 0)
        return finish_head(running) ? size * count : 0;
    struct text name = text_cut(line, ':', &value);
    if (text_starts(line, "HTTP/"))
        start_head(running->head);
    else if (value.at)
        transfer_read_field(name, text_trim(value), running->head);
    return size * count;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context) {
    struct running *running = context;
    const struct transfer *transfer = running->transfer;
    if (!transfer->on_bytes(transfer->context, bytes, size * count, running->error)) {
        running->stopped = true;
        return 0;
    }
    running->heard_ms = clock_ms();
    return size * count;
}

static bool set_up(CURL *handle, struct running *running, struct curl_slist **headers) {
    const struct transfer *transfer = running->transfer;
    char range[64];
    snprintf(range, sizeof range, "Range: %s", transfer->range ? transfer->range : "");
    if ((transfer->authorization && !client_add_header(headers, transfer->authorization)) ||
        (transfer->accept && !client_add_header(headers, transfer->accept)) ||
        (transfer->range && !client_add_header(headers, range)) ||
        curl_easy_setopt(handle, CURLOPT_HTTPHEADER, *headers) != CURLE_OK)
        return error_set(running->error, ERROR_MEMORY, "out of memory");
    curl_easy_setopt(handle, CURLOPT_NOBODY, transfer->head_only ? 1L : 0L);
    curl_easy_setopt(handle, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, (long)READ_SIZE);
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, running);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, running);
    return true;
}

/* When the transfer has been silent for too long. */
static int64_t silence_ends(const struct running *running) {
    const struct transfer *transfer = running->transfer;
    int64_t stall = running->heard_ms + transfer->stall_timeout_ms;
    if (running->delivering)
        return stall;
    if (running->head_done && stall < transfer->deadline_ms)
        return stall;
    return transfer->deadline_ms;
}

static bool time_out(const struct running *running, int64_t started) {
    if (running->head_done)
        return error_set(running->error, ERROR_TIMEOUT, "silent for %lld s in mid-body",
                         (long long)(clock_ms() - running->heard_ms + 500) / 1000);
    return error_set(running->error, ERROR_TIMEOUT, "no answer within %.1f s",
                     (double)(clock_ms() - started) / 1000);
}

/* Drives the handle until it is done, stopped or silent. True: *code is libcurl's verdict. */
static bool drive(CURLM *multi, struct running *running, CURLcode *code) {
    int64_t started = clock_ms();
    int active = 1, left;
    for (;;) {
        CURLMcode multi_code = curl_multi_perform(multi, &active);
        if (multi_code != CURLM_OK)
            return error_set(running->error, ERROR_UNAVAILABLE, "%s",
                             curl_multi_strerror(multi_code));
        CURLMsg *message = curl_multi_info_read(multi, &left);
        if (message && message->msg == CURLMSG_DONE) {
            *code = message->data.result;
            return true;
        }
        if (running->transfer->stop && atomic_load(running->transfer->stop))
            return error_set(running->error, ERROR_CLOSED, "tarn is stopping");
        int ready = 0;
        curl_multi_poll(multi, NULL, 0, 0, &ready);
        if (ready)
            continue;
        int64_t began = clock_ms();
        if (!running->transfer->on_idle(running->transfer->context, running->error))
            return false;
        running->heard_ms += clock_ms() - began; /* who was busy were we */
        int64_t wait = silence_ends(running) - clock_ms();
        if (wait <= 0)
            return time_out(running, started);
        curl_multi_poll(multi, NULL, 0, (int)(wait < POLL_MS ? wait : POLL_MS), NULL);
    }
}

static bool run(struct lane *lane, struct running *running) {
    const struct transfer *transfer = running->transfer;
    __attribute__((cleanup(client_wipe_headers))) struct curl_slist *headers = NULL;
    struct client_options options = {
        .url = transfer->url,
        .ca_file = transfer->ca_file,
        .connect_timeout_ms = transfer->connect_timeout_ms,
    };
    CURLcode code = CURLE_OK;
    running->call.watch.rule = transfer->addresses;
    if (!client_prepare(lane->handle, &options, &running->call, running->error) ||
        !set_up(lane->handle, running, &headers))
        return false;
    if (curl_multi_add_handle(lane->multi, lane->handle) != CURLM_OK)
        return error_set(running->error, ERROR_MEMORY, "out of memory");
    bool driven = drive(lane->multi, running, &code);
    bool ok = driven && code == CURLE_OK && !running->stopped;
    if (driven && !ok && !running->stopped)
        client_failure(lane->handle, code, &running->call, running->error);
    curl_multi_remove_handle(lane->multi, lane->handle);
    if (ok && !running->head_done)
        return error_set(running->error, ERROR_UNAVAILABLE, "an answer without a head");
    return ok;
}

bool transfer_run(struct lane *lane, const struct transfer *transfer, struct transfer_head *head,
                  bool *was_loopback, struct error *error) {
    struct error unwanted = {0};
    struct running running = {
        .transfer = transfer,
        .head = head,
        .error = error ? error : &unwanted,
        .handle = lane->handle,
        .heard_ms = clock_ms(),
    };
    start_head(head);
    bool ok = run(lane, &running);
    curl_easy_reset(lane->handle); /* before what it points at ends with this scope */
    if (running.call.watch.was_loopback)
        *was_loopback = true;
    return ok;
}
