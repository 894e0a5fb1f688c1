#include "client/request.h"

#include <pthread.h>
#include <string.h>
#include <strings.h>
#include "client/handle.h"

enum {
    CONNECT_TIMEOUT_MS = 5000,
    TOTAL_TIMEOUT_MS = 20000,
    BODY_LIMIT = 1 << 20,
    IDLE_LIMIT = 4,              /* handles kept with their connections */
    RETRY_AFTER_LIMIT_S = 86400, /* nobody means more than a day */
};

static pthread_mutex_t idle_lock = PTHREAD_MUTEX_INITIALIZER; /* guards idle and idle_count */
static CURL *idle[IDLE_LIMIT];
static unsigned idle_count;

static CURL *take_handle(void) {
    CURL *handle = NULL;
    pthread_mutex_lock(&idle_lock);
    if (idle_count)
        handle = idle[--idle_count];
    pthread_mutex_unlock(&idle_lock);
    return handle ? handle : client_handle_new();
}

/* The reset forgets headers, bodies and buffers of the transfer: they held secrets and the stack.
 */
static void give_handle(CURL *handle) {
    if (!handle)
        return;
    curl_easy_reset(handle);
    pthread_mutex_lock(&idle_lock);
    if (idle_count < IDLE_LIMIT) {
        idle[idle_count++] = handle;
        handle = NULL;
    }
    pthread_mutex_unlock(&idle_lock);
    curl_easy_cleanup(handle);
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context) {
    struct client_response *reply = context;
    return buffer_append(&reply->body, bytes, size * count) ? size * count : 0;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *context) {
    struct client_response *reply = context;
    struct text value, line = {bytes, size * count};
    while (line.length && (line.at[line.length - 1] == '\n' || line.at[line.length - 1] == '\r'))
        line.length--;
    struct text name = text_cut(line, ':', &value);
    value = text_trim(value);
    if (text_is_nocase(name, "metadata-flavor"))
        reply->metadata_flavor_google = text_is(value, "Google");
    else if (text_is_nocase(name, "content-type"))
        text_copy(value, reply->content_type, sizeof reply->content_type);
    return size * count;
}

static bool set_request(CURL *handle, const struct client_request *request,
                        struct curl_slist **headers) {
    bool ok = client_add_header(headers, "Expect:"); /* no 100-continue for a few hundred bytes */
    for (size_t i = 0; ok && request->headers && request->headers[i]; i++)
        ok = client_add_header(headers, request->headers[i]);
    if (request->body) {
        curl_easy_setopt(handle, CURLOPT_POST, 1L);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_length);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDS, request->body);
    }
    ok = ok && curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request->method) == CURLE_OK;
    return ok && curl_easy_setopt(handle, CURLOPT_HTTPHEADER, *headers) == CURLE_OK;
}

static void set_reply(CURL *handle, struct client_response *reply) {
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, reply);
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, reply);
}

static void read_reply(CURL *handle, struct client_response *reply) {
    long status = 0;
    curl_off_t retry_after = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &retry_after);
    reply->status = (int)status;
    if (retry_after > 0)
        reply->retry_after_s =
            retry_after > RETRY_AFTER_LIMIT_S ? RETRY_AFTER_LIMIT_S : (int)retry_after;
}

static bool perform(CURL *handle, const struct client_request *request,
                    struct client_response *reply, struct error *error) {
    struct client_call call = {
        .watch.rule = request->addresses ? *request->addresses : (struct address_rule){true, true}};
    struct client_options options = {
        .url = request->url,
        .ca_file = request->ca_file,
        .no_proxy = request->no_proxy,
        .connect_timeout_ms =
            request->connect_timeout_ms ? request->connect_timeout_ms : CONNECT_TIMEOUT_MS,
    };
    long total = request->total_timeout_ms ? request->total_timeout_ms : TOTAL_TIMEOUT_MS;
    __attribute__((cleanup(client_wipe_headers))) struct curl_slist *headers = NULL;
    if (!client_prepare(handle, &options, &call, error))
        return false;
    if (!set_request(handle, request, &headers))
        return error_set(error, ERROR_MEMORY, "out of memory");
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, total);
    set_reply(handle, reply);
    CURLcode code = curl_easy_perform(handle);
    bool ok = code == CURLE_OK;
    if (code == CURLE_WRITE_ERROR && reply->body.failed)
        error_set(error, ERROR_UNAVAILABLE, "the reply is longer than %zu bytes",
                  reply->body.limit);
    else if (!ok)
        client_failure(handle, code, &call, error);
    else
        read_reply(handle, reply);
    curl_easy_reset(handle); /* before what it points at ends with this scope */
    return ok;
}

bool client_request(const struct client_request *request, struct client_response *reply,
                    struct error *error) {
    *reply = (struct client_response){0};
    reply->body.limit = request->body_limit ? request->body_limit : BODY_LIMIT;
    CURL *handle = take_handle();
    bool ok = handle ? perform(handle, request, reply, error)
                     : error_set(error, ERROR_MEMORY, "out of memory");
    give_handle(handle);
    if (!ok) {
        client_response_free(reply);
        /* A query may hold secrets (a signed URL's), and so may a user in the URL. */
        const char *host = strstr(request->url, "://"), *start = host ? host + 3 : request->url;
        int length = (int)strcspn(request->url, "?#");
        bool has_user = memchr(start, '@', strcspn(start, "/?#"));
        error_wrap(error, "%s %.*s", request->method, has_user ? 0 : length, request->url);
    }
    return ok;
}

void client_response_free(struct client_response *reply) {
    if (reply->body.bytes)
        explicit_bzero(reply->body.bytes, reply->body.capacity);
    buffer_free(&reply->body);
    *reply = (struct client_response){0};
}
