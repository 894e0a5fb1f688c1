/* Drives libcurl through one request, under exact timeouts. */
#include "client/transfer.h"

#include <string.h>
#include "base/clock.h"
#include "client/handle.h"
#include "client/tls.h"

enum {
    /* Bytes asked of the socket at once. Measured over loopback, CPU s/GB of the whole server for a
     * cold blob: 1.94 with 64 KiB, 1.66 with 256 KiB. With 64 KiB the kernel acknowledges, and tarn
     * polls, four times as often. */
    READ_SIZE = 256 * 1024,
    HEAD_LIMIT = 128 * 1024, /* bytes of all head lines of one request's responses */
    BODY_LIMIT = 1 << 20,
    TOTAL_TIMEOUT_MS = 20000,
    RETRY_AFTER_LIMIT_S = 86400,   /* a longer Retry-After is taken for a mistake */
    METHOD_LIMIT = 32,             /* bytes */
    POLL_MS = 250,                 /* how soon a request that is cancelled ends */
    SOURCE_POLL_MS = 10,           /* how often a source without a wake_fd is asked */
    SENDING_READ_SIZE = 16 * 1024, /* of READ_SIZE, where the body that goes the other way counts */
};

struct running {
    const struct client_request *request;
    const struct client_sink *sink; /* NULL: the response comes whole */
    struct client_response *response;
    struct error *error;
    struct client_call call;
    struct body_reader body;
    CURL *handle;
    size_t head_bytes;
    bool head_done;
    bool stopped; /* by a callback, which set the error */
    bool early;   /* a success came before the end of the body, of which no more is sent */
    bool streaming;
    int64_t started_ms;
    int64_t deadline_ms; /* total_timeout_ms from the start */
    int64_t heard_ms;    /* when the last byte of the response's body was taken */
    int64_t doubt_ms; /* when a kept connection counts as dead without a head; INT64_MAX: never */
    bool dead;        /* it did */
};

/* ---- the response ---- */

/* The blank line after a head. */
static bool finish_head(struct running *running) {
    struct client_response *response = running->response;
    long status = 0;
    curl_off_t length = -1, retry_after = 0;
    curl_easy_getinfo(running->handle, CURLINFO_RESPONSE_CODE, &status);
    if (status / 100 == 1) /* an interim response: the final one follows */
        return true;
    curl_easy_getinfo(running->handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    curl_easy_getinfo(running->handle, CURLINFO_RETRY_AFTER, &retry_after);
    response->status = (int)status;
    response->has_length = length >= 0;
    response->length = length >= 0 ? (uint64_t)length : 0;
    if (retry_after > 0)
        response->retry_after_s =
            retry_after > RETRY_AFTER_LIMIT_S ? RETRY_AFTER_LIMIT_S : (int)retry_after;
    running->head_done = true;
    running->body.closed = running->request->body.source && !running->body.ended;
    /* libcurl ends the sending itself when a refusal comes, but goes on after a success. */
    running->early = running->body.closed && status / 100 == 2;
    if (running->sink) {
        enum client_verdict verdict =
            running->sink->on_head(running->sink->context, response, running->error);
        running->stopped = verdict == CLIENT_STOP;
        running->streaming = verdict == CLIENT_STREAM;
    }
    running->heard_ms = clock_ms();
    return !running->stopped && !running->early;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *context) {
    struct running *running = context;
    struct text value, line = {bytes, size * count};
    running->head_bytes += line.length;
    if (running->head_bytes > HEAD_LIMIT) {
        error_set(running->error, ERROR_UNAVAILABLE, "the response's head is longer than %d bytes",
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
        client_response_begin(running->response, &running->request->wanted);
    else if (value.at)
        client_response_read_field(running->response, &running->request->wanted, name,
                                   text_trim(value));
    return size * count;
}

static bool take_bytes(struct running *running, const void *bytes, size_t length) {
    struct buffer *body = &running->response->body;
    if (running->streaming)
        return running->sink->on_bytes(running->sink->context, bytes, length, running->error);
    if (buffer_append(body, bytes, length))
        return true;
    if (body->length + length <= body->limit)
        return error_set(running->error, ERROR_MEMORY, "out of memory");
    return error_set(running->error, ERROR_UNAVAILABLE, "the response is longer than %zu bytes",
                     body->limit);
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context) {
    struct running *running = context;
    if (!take_bytes(running, bytes, size * count)) {
        running->stopped = true;
        return 0;
    }
    running->heard_ms = clock_ms();
    return size * count;
}

/* ---- the request ---- */

static bool is_token(const char *text) {
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789"
                                  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t length = strlen(text);
    return length > 0 && length <= METHOD_LIMIT && strspn(text, allowed) == length;
}

/* POST, PUT and PATCH say "Content-Length: 0" for an empty body (RFC 9110 §8.6). */
static bool has_body(const struct client_request *request) {
    return request->body.length > 0 || strcmp(request->method, "POST") == 0 ||
           strcmp(request->method, "PUT") == 0 || strcmp(request->method, "PATCH") == 0;
}

static void set_body(CURL *handle, struct running *running) {
    const struct client_body *body = &running->request->body;
    curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE,
                     body->length == CLIENT_LENGTH_UNKNOWN ? -1 : (curl_off_t)body->length);
    curl_easy_setopt(handle, CURLOPT_READFUNCTION, body_read);
    curl_easy_setopt(handle, CURLOPT_READDATA, &running->body);
    if (running->request->once)
        return; /* libcurl cannot go back, so it fails instead of sending the body again */
    curl_easy_setopt(handle, CURLOPT_SEEKFUNCTION, body_seek);
    curl_easy_setopt(handle, CURLOPT_SEEKDATA, &running->body);
}

/* The connection is there, and the head is sent next: the last moment for a request to be cancelled
 * before the server knows of it. */
static int on_ready(void *context, char *to, char *from, int to_port, int from_port) {
    struct running *running = context;
    (void)to, (void)from, (void)to_port, (void)from_port;
    running->stopped = !cancel_check(running->request->cancel, running->error);
    return running->stopped ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

static bool set_up(CURL *handle, struct running *running, struct curl_slist **headers) {
    const struct client_request *request = running->request;
    bool sends = has_body(request), ok = true;
    if (sends) /* the body follows at once: no round trip for "100 Continue" */
        ok = client_add_header(headers, "Expect:");
    ok = ok && client_tls_add_host(request, headers);
    for (size_t i = 0; ok && request->headers && request->headers[i]; i++)
        ok = client_add_header(headers, request->headers[i]);
    if (!ok || curl_easy_setopt(handle, CURLOPT_HTTPHEADER, *headers) != CURLE_OK ||
        curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request->method) != CURLE_OK)
        return error_set(running->error, ERROR_MEMORY, "out of memory");
    if (sends)
        set_body(handle, running);
    if (strcmp(request->method, "HEAD") == 0)
        curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
    if (request->cancel) {
        curl_easy_setopt(handle, CURLOPT_PREREQFUNCTION, on_ready);
        curl_easy_setopt(handle, CURLOPT_PREREQDATA, running);
    }
    curl_easy_setopt(handle, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(handle, CURLOPT_BUFFERSIZE,
                     (long)(request->body.source ? SENDING_READ_SIZE : READ_SIZE));
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, running);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, running);
    return true;
}

/* ---- the time it may take ---- */

/* A kept connection may have died without a word, in a firewall or with its server's machine. */
static bool is_doubtful(const struct running *running) {
    return !running->head_done && !running->call.watch.opened && running->doubt_ms != INT64_MAX;
}

/* When the request has taken too long, or the other side has been silent for too long. */
static int64_t time_ends(const struct running *running) {
    int64_t stall = running->request->stall_timeout_ms;
    int64_t due = running->deadline_ms, silent = stall ? running->heard_ms + stall : INT64_MAX;
    if (running->streaming && !running->request->bounds_body)
        return silent;
    if (running->request->body.source && running->body.read_ms && !running->head_done) {
        /* While the source has nothing, the silence is ours. Once all is sent, the whole time for a
         * response begins. */
        int64_t total = running->deadline_ms - running->started_ms;
        int64_t allowed = running->body.ended ? total : stall ? stall : total;
        return running->body.waits ? INT64_MAX : running->body.read_ms + allowed;
    }
    if (running->body.read_ms && running->body.read_ms + stall > due)
        due = running->body.read_ms + stall;
    if (is_doubtful(running) && running->doubt_ms < due)
        due = running->doubt_ms;
    return running->head_done && silent < due ? silent : due;
}

static bool time_out(struct running *running) {
    running->dead = is_doubtful(running);
    int64_t now = clock_ms(), stall = running->request->stall_timeout_ms;
    bool silent = running->head_done && stall && now - running->heard_ms >= stall;
    if (silent)
        return error_set(running->error, ERROR_TIMEOUT, "silent for %lld s in mid-body",
                         (long long)(now - running->heard_ms + 500) / 1000);
    return error_set(running->error, ERROR_TIMEOUT, "no %s within %.1f s",
                     running->head_done ? "whole response" : "response",
                     (double)(now - running->started_ms) / 1000);
}

/* ---- one run ---- */

static bool call_idle(struct running *running) {
    const struct client_sink *sink = running->sink;
    int64_t began = clock_ms();
    if (sink && sink->on_idle && !sink->on_idle(sink->context, running->error))
        return false;
    /* Time spent in the caller's own function is not the other side's silence. */
    running->heard_ms += clock_ms() - began;
    return true;
}

/* Waits until the connection or the source has something, or for `wait_ms`. */
static void wait_for_more(CURLM *multi, const struct running *running, int64_t wait_ms) {
    const struct client_source *source = running->body.waits ? running->request->body.source : NULL;
    struct curl_waitfd fd = {.fd = source ? source->wake_fd : -1, .events = CURL_WAIT_POLLIN};
    int64_t most = source && source->wake_fd < 0 ? SOURCE_POLL_MS : POLL_MS;
    curl_multi_poll(multi, &fd, source && source->wake_fd >= 0,
                    (int)(wait_ms < most ? wait_ms : most), NULL);
}

/* Asks a source that had nothing once more. False: libcurl has failed. */
static bool ask_source(struct running *running) {
    if (!running->body.waits)
        return true;
    running->body.waits = false;
    return curl_easy_pause(running->handle, CURLPAUSE_CONT) == CURLE_OK || running->body.failed ||
           running->head_done ||
           error_set(running->error, ERROR_UNAVAILABLE, "the body could not be sent on");
}

/* Drives the handle until it is done, stopped or out of time. True: *code is libcurl's verdict. */
static bool drive(CURLM *multi, struct running *running, CURLcode *code) {
    int active = 1, left, ready;
    for (;;) {
        /* First, because the process may have been stopped for a while: what is cancelled meanwhile
         * is not sent. */
        if (!cancel_check(running->request->cancel, running->error))
            return false;
        CURLMcode multi_code = curl_multi_perform(multi, &active);
        if (multi_code != CURLM_OK)
            return error_set(running->error, ERROR_UNAVAILABLE, "%s",
                             curl_multi_strerror(multi_code));
        CURLMsg *message = curl_multi_info_read(multi, &left);
        if (message && message->msg == CURLMSG_DONE) {
            *code = message->data.result;
            return true;
        }
        if (running->request->bounds_body && clock_ms() >= running->deadline_ms)
            return time_out(running); /* however often bytes come */
        ready = 0;
        curl_multi_poll(multi, NULL, 0, 0, &ready);
        if (ready)
            continue;
        if (!call_idle(running))
            return false;
        int64_t wait = time_ends(running) - clock_ms();
        if (wait <= 0)
            return time_out(running);
        wait_for_more(multi, running, wait);
        if (!ask_source(running))
            return false;
    }
}

/* A server may refuse a request before it has read its body, and end the connection. The response
 * counts all the same (RFC 9113 §8.1), although its own body may be lost: libcurl 7.88 loses that
 * of kube-apiserver's 401 half of the time, because GOAWAY comes with it. */
static bool is_refusal(const struct running *running, CURLcode code) {
    bool was_cut = code == CURLE_PARTIAL_FILE || code == CURLE_HTTP2_STREAM ||
                   code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR;
    if (running->request->body.source && running->head_done && !running->streaming)
        return was_cut || code == CURLE_ABORTED_BY_CALLBACK || code == CURLE_WRITE_ERROR;
    return was_cut && running->head_done && !running->streaming &&
           running->response->status >= 400 && has_body(running->request);
}

/* Sets up, drives and takes down; the call's memory is the caller's. */
static bool run_call(struct lane *lane, struct running *running) {
    cleanup_client_headers struct curl_slist *headers = NULL;
    CURLcode code = CURLE_OK;
    if (!is_token(running->request->method))
        return error_set(running->error, ERROR_INVALID, "the method is not a token");
    if (!client_prepare(lane, running->request, &running->call, running->error) ||
        !set_up(lane->handle, running, &headers))
        return false;
    if (curl_multi_add_handle(lane->multi, lane->handle) != CURLM_OK)
        return error_set(running->error, ERROR_MEMORY, "out of memory");
    bool driven = drive(lane->multi, running, &code);
    bool stopped = running->stopped || running->body.failed;
    bool ok =
        driven && (code == CURLE_OK || running->early || is_refusal(running, code)) && !stopped;
    if (driven && !ok && !stopped)
        client_failure(lane->handle, code, &running->call, running->error);
    curl_multi_remove_handle(lane->multi, lane->handle);
    if (ok && !running->head_done) {
        ok = error_set(running->error, ERROR_UNAVAILABLE, "a response without a head");
        running->error->reached = true;
    }
    return ok;
}

static bool run(struct lane *lane, struct running *running) {
    bool ok = run_call(lane, running);
    if (running->call.connect_to) {
        curl_easy_setopt(lane->handle, CURLOPT_CONNECT_TO, NULL);
        client_call_finish(&running->call);
    }
    return ok;
}

/* Notes who responded. It is the address that was connected to, whatever else the name means. */
static void note_address(struct running *running) {
    char *address = NULL;
    if (running->call.watch.proxied || !running->head_done ||
        curl_easy_getinfo(running->handle, CURLINFO_PRIMARY_IP, &address) != CURLE_OK || !address ||
        !*address)
        return;
    running->response->has_address = true;
    running->response->address = address_classify_host(address);
}

/* When to doubt a kept connection. A request that is asked twice must not matter to the server, and
 * half of the time must be left for the second one. */
static int64_t doubt_from(const struct running *running) {
    const struct client_request *request = running->request;
    int64_t half = (running->deadline_ms - running->started_ms) / 2;
    if (!request->stall_timeout_ms || request->asks_once ||
        (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0))
        return INT64_MAX;
    return running->started_ms +
           (request->stall_timeout_ms < half ? request->stall_timeout_ms : half);
}

/* Prepares for the first or the second run. */
static void begin(struct running *running, struct lane *lane) {
    struct client_response *response = running->response;
    running->body = (struct body_reader){.body = &running->request->body,
                                         .cancel = running->request->cancel,
                                         .error = running->error};
    running->head_bytes = 0;
    running->dead = running->early = false;
    running->handle = lane->handle;
    running->heard_ms = clock_ms();
    client_response_begin(response, &running->request->wanted);
    response->has_address = false;
    buffer_clear(&response->body);
}

bool transfer_run(struct lane *lane, const struct client_request *request,
                  const struct client_sink *sink, struct client_response *response,
                  struct error *error) {
    struct error unwanted = {0};
    int64_t now = clock_ms();
    struct running running = {
        .request = request,
        .sink = sink,
        .response = response,
        .error = error ? error : &unwanted,
        .started_ms = now,
        .deadline_ms =
            now + (request->total_timeout_ms ? request->total_timeout_ms : TOTAL_TIMEOUT_MS),
    };
    running.doubt_ms = doubt_from(&running);
    response->body.limit = request->body_limit ? request->body_limit : BODY_LIMIT;
    begin(&running, lane);
    bool ok = run(lane, &running);
    if (running.dead && lane_disconnect(lane)) {
        running.doubt_ms = INT64_MAX;
        error_clear(running.error);
        begin(&running, lane);
        ok = run(lane, &running);
    }
    note_address(&running);
    curl_easy_reset(lane->handle); /* before what it points at ends with this scope */
    return ok;
}
