/* The HTTP/2 side of gRPC: from frames to calls, and from answers to frames. */
#include "node/snapshot/grpc_session.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/text.h"

enum {
    HEADER_LIST_LIMIT =
        16 << 10, /* bytes of a request's header that we ask clients to stay below */
    STATUS_SIZE = 12,
    MESSAGE_LIMIT = 1024, /* bytes of an error's text as it is sent */
};

/* What of a message stays as it is in grpc-message; all else is percent-encoded (gRPC over HTTP/2,
 * "Responses"). */
#define MESSAGE_PLAIN " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"

struct grpc_session {
    struct grpc_session_settings settings;
    nghttp2_session *http2;
    struct grpc_call *calls;
    unsigned call_count;
    bool is_failed;
};

/* ---- calls ---- */

static void free_call(struct grpc_session *session, struct grpc_call *call) {
    atomic_fetch_sub(session->settings.gathered, call->body.length);
    DL_DELETE(session->calls, call);
    session->call_count--;
    buffer_finish(&call->body);
    buffer_finish(&call->reply);
    free(call);
}

static struct grpc_call *call_of(nghttp2_session *http2, int32_t stream) {
    return nghttp2_session_get_stream_user_data(http2, stream);
}

void *grpc_add_message(struct buffer *reply, size_t length) {
    const unsigned char prefix[GRPC_PREFIX] = {0, (unsigned char)(length >> 24),
                                               (unsigned char)(length >> 16),
                                               (unsigned char)(length >> 8), (unsigned char)length};
    if (length > UINT32_MAX || !buffer_append(reply, prefix, sizeof prefix) ||
        !buffer_reserve(reply, length))
        return NULL;
    void *message = reply->bytes + reply->length;
    reply->length += length;
    reply->bytes[reply->length] = '\0';
    return message;
}

/* The message of a request's body, which has exactly one. */
static enum grpc_status unwrap(const struct grpc_call *call, struct text *message,
                               struct error *error) {
    const unsigned char *body = (const unsigned char *)call->body.bytes;
    *message = (struct text){0};
    if (call->is_too_large) {
        error_set(error, ERROR_BUSY,
                  "the request is larger than %d bytes, or too many are under way",
                  GRPC_MESSAGE_LIMIT);
        return GRPC_RESOURCE_EXHAUSTED;
    }
    if (call->body.failed) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return GRPC_RESOURCE_EXHAUSTED;
    }
    if (call->body.length < GRPC_PREFIX) {
        error_set(error, ERROR_INVALID, "the request has no message");
        return GRPC_INTERNAL;
    }
    if (body[0] != 0) {
        error_set(error, ERROR_UNSUPPORTED, "compressed messages are not offered");
        return GRPC_UNIMPLEMENTED;
    }
    size_t length = (size_t)body[1] << 24 | (size_t)body[2] << 16 | (size_t)body[3] << 8 | body[4];
    if (length != call->body.length - GRPC_PREFIX) {
        error_set(error, ERROR_INVALID, "the request is not exactly one message");
        return GRPC_INTERNAL;
    }
    *message = (struct text){call->body.bytes + GRPC_PREFIX, length};
    return GRPC_OK;
}

void grpc_call_run(struct grpc_call *call, grpc_handler *handler, void *context) {
    struct text message;
    call->status = unwrap(call, &message, &call->error);
    if (call->status != GRPC_OK)
        return;
    const struct grpc_request request = {.path = call->path,
                                         .message = message.at,
                                         .length = message.length,
                                         .stop = &call->stop,
                                         .reply = &call->reply,
                                         .error = &call->error};
    call->status = handler(context, &request);
    if (call->status == GRPC_OK && call->reply.failed) {
        error_set(&call->error, ERROR_MEMORY, "out of memory");
        call->status = GRPC_RESOURCE_EXHAUSTED;
    }
}

/* ---- answers ---- */

static nghttp2_nv field(const char *name, const char *value) {
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NONE};
}

/* nghttp2 copies the fields. */
static int submit_end(nghttp2_session *http2, const struct grpc_call *call, bool is_whole) {
    char status[STATUS_SIZE];
    struct buffer message = {.limit = 3 * MESSAGE_LIMIT};
    unsigned count = 0;
    nghttp2_nv fields[4];
    snprintf(status, sizeof status, "%d", (int)call->status);
    buffer_append_percent(&message, call->error.text, MESSAGE_PLAIN);
    if (is_whole) {
        fields[count++] = field(":status", "200");
        fields[count++] = field("content-type", "application/grpc");
    }
    fields[count++] = field("grpc-status", status);
    if (call->status != GRPC_OK && message.length > 0 && !message.failed)
        fields[count++] = field("grpc-message", message.bytes);
    int result = is_whole ? nghttp2_submit_response(http2, call->stream, fields, count, NULL)
                          : nghttp2_submit_trailer(http2, call->stream, fields, count);
    buffer_finish(&message);
    return result;
}

static ssize_t read_reply(nghttp2_session *http2, int32_t stream, uint8_t *out, size_t size,
                          uint32_t *flags, nghttp2_data_source *source, void *context) {
    struct grpc_call *call = source->ptr;
    size_t left = call->reply.length - call->sent;
    size_t length = left < size ? left : size;
    (void)stream;
    (void)context;
    memcpy(out, call->reply.bytes + call->sent, length);
    call->sent += length;
    if (length == left) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (submit_end(http2, call, false) != 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return (ssize_t)length;
}

void grpc_session_answer(struct grpc_session *session, struct grpc_call *call) {
    call->is_running = false;
    if (call->is_abandoned) {
        free_call(session, call);
        return;
    }
    /* An answer without a message is all header. */
    int result;
    if (call->status != GRPC_OK || call->reply.length == 0)
        result = submit_end(session->http2, call, true);
    else {
        const nghttp2_data_provider provider = {{.ptr = call}, read_reply};
        const nghttp2_nv fields[] = {field(":status", "200"),
                                     field("content-type", "application/grpc")};
        result = nghttp2_submit_response(session->http2, call->stream, fields, 2, &provider);
    }
    if (result != 0)
        session->is_failed = true;
}

/* An answer to what is no gRPC request. */
static int refuse(nghttp2_session *http2, int32_t stream, const char *status) {
    const nghttp2_nv fields[] = {field(":status", status)};
    return nghttp2_submit_response(http2, stream, fields, 1, NULL);
}

static int dispatch(struct grpc_session *session, struct grpc_call *call) {
    if (!call->is_post)
        return refuse(session->http2, call->stream, "405");
    if (!call->is_grpc)
        return refuse(session->http2, call->stream, "415");
    call->is_running = true;
    if (session->settings.dispatch(session->settings.context, call))
        return 0;
    call->status = GRPC_RESOURCE_EXHAUSTED;
    error_set(&call->error, ERROR_BUSY, "no thread could be started");
    grpc_session_answer(session, call);
    return 0;
}

/* ---- what nghttp2 calls ---- */

static int on_begin(nghttp2_session *http2, const nghttp2_frame *frame, void *context) {
    struct grpc_session *session = context;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct grpc_call *call = session->call_count < GRPC_CALL_LIMIT ? calloc(1, sizeof *call) : NULL;
    if (!call)
        return nghttp2_submit_rst_stream(http2, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                         NGHTTP2_REFUSED_STREAM);
    call->stream = frame->hd.stream_id;
    call->body.limit = GRPC_MESSAGE_LIMIT + GRPC_PREFIX;
    atomic_init(&call->stop, false);
    DL_APPEND(session->calls, call);
    session->call_count++;
    return nghttp2_session_set_stream_user_data(http2, call->stream, call);
}

static int on_field(nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name,
                    size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
                    void *context) {
    static const char type[] = "application/grpc";
    struct grpc_call *call = call_of(http2, frame->hd.stream_id);
    const struct text key = {(const char *)name, name_length};
    const struct text text = {(const char *)value, value_length};
    (void)flags;
    (void)context;
    if (!call)
        return 0;
    if (text_is(key, ":path"))
        text_copy(text, call->path, sizeof call->path); /* a longer one is no method of ours */
    else if (text_is(key, ":method"))
        call->is_post = text_is(text, "POST");
    else if (text_is(key, "content-type"))
        call->is_grpc = text_starts(text, type) &&
                        (text.length == strlen(type) || strchr("+;", text.at[strlen(type)]));
    return 0;
}

static int on_data(nghttp2_session *http2, uint8_t flags, int32_t stream, const uint8_t *bytes,
                   size_t length, void *context) {
    struct grpc_session *session = context;
    struct grpc_call *call = call_of(http2, stream);
    (void)flags;
    if (!call || call->is_too_large || call->is_running)
        return 0;
    size_t gathered = atomic_load(session->settings.gathered);
    if (gathered + length > GRPC_GATHERED_LIMIT ||
        call->body.length + length > GRPC_MESSAGE_LIMIT + GRPC_PREFIX) {
        call->is_too_large = true;
        return 0;
    }
    if (buffer_append(&call->body, bytes, length))
        atomic_fetch_add(session->settings.gathered, length);
    return 0;
}

static int on_frame(nghttp2_session *http2, const nghttp2_frame *frame, void *context) {
    struct grpc_session *session = context;
    struct grpc_call *call;
    if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
        !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        return 0;
    call = call_of(http2, frame->hd.stream_id);
    return call && !call->is_running ? dispatch(session, call) : 0;
}

static int on_close(nghttp2_session *http2, int32_t stream, uint32_t code, void *context) {
    struct grpc_session *session = context;
    struct grpc_call *call = call_of(http2, stream);
    (void)code;
    if (!call)
        return 0;
    if (call->is_running) {
        call->is_abandoned = true;
        atomic_store(&call->stop, true);
    } else
        free_call(session, call);
    return 0;
}

/* ---- the session ---- */

static int set_up(struct grpc_session *session) {
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, GRPC_STREAM_LIMIT},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_LIMIT}};
    nghttp2_session_callbacks *callbacks;
    int result = nghttp2_session_callbacks_new(&callbacks);
    if (result != 0)
        return result;
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_field);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    result = nghttp2_session_server_new(&session->http2, callbacks, session);
    nghttp2_session_callbacks_del(callbacks);
    return result != 0 ? result
                       : nghttp2_submit_settings(session->http2, NGHTTP2_FLAG_NONE, entries, 2);
}

struct grpc_session *grpc_session_new(const struct grpc_session_settings *settings) {
    struct grpc_session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    session->settings = *settings;
    if (set_up(session) == 0)
        return session;
    grpc_session_free(session);
    return NULL;
}

void grpc_session_free(struct grpc_session *session) {
    if (!session)
        return;
    while (session->calls)
        free_call(session, session->calls);
    nghttp2_session_del(session->http2);
    free(session);
}

bool grpc_session_receive(struct grpc_session *session, const void *bytes, size_t length) {
    if (session->is_failed)
        return false;
    ssize_t taken = nghttp2_session_mem_recv(session->http2, bytes, length);
    return taken >= 0 && (size_t)taken == length && !session->is_failed;
}

const void *grpc_session_send(struct grpc_session *session, size_t *length) {
    const uint8_t *bytes = NULL;
    ssize_t available = session->is_failed ? 0 : nghttp2_session_mem_send(session->http2, &bytes);
    if (available < 0)
        session->is_failed = true;
    *length = available > 0 ? (size_t)available : 0;
    return available > 0 ? bytes : NULL;
}

bool grpc_session_is_open(const struct grpc_session *session) {
    return !session->is_failed && (nghttp2_session_want_read(session->http2) ||
                                   nghttp2_session_want_write(session->http2));
}

void grpc_session_abandon(struct grpc_session *session) {
    struct grpc_call *call;
    DL_FOREACH (session->calls, call) {
        if (!call->is_running)
            continue;
        call->is_abandoned = true;
        atomic_store(&call->stop, true);
    }
}
