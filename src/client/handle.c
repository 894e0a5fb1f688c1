/* Sets up a libcurl handle for one request, and words its failures. */
#include "client/handle.h"

#include <stdio.h>
#include <string.h>
#include "client/client_private.h"
#include "client/origin.h"
#include "client/proxy.h"
#include "client/tls.h"

enum { CONNECT_TIMEOUT_MS = 5000 };

/* The address of a name is checked again when it is connected to. This check comes first because a
 * proxy connects without our check, and because an error about the URL is easier to understand
 * than one about an address. */
static bool check_host(const struct origin *origin, const struct address_rule *rule,
                       struct error *error) {
    enum address_class class = address_classify_host(origin->host);
    if (address_allowed(class, rule))
        return true;
    error_set(error, ERROR_DENIED, "refused to connect to %s: it is %s", origin->host,
              class == ADDRESS_LOOPBACK  ? "this machine itself"
              : class == ADDRESS_PRIVATE ? "an address of a private network"
                                         : "a link-local or metadata address");
    return error_because(error, ERROR_REASON_ADDRESS);
}

static bool set_destination(struct lane *lane, const struct client_request *request, bool https,
                            const char *proxy) {
    CURL *handle = lane->handle;
    bool ok = curl_easy_setopt(handle, CURLOPT_URL, request->url) == CURLE_OK &&
              curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
              curl_easy_setopt(handle, CURLOPT_PROXY, proxy ? proxy : "") == CURLE_OK &&
              curl_easy_setopt(handle, CURLOPT_NOPROXY, "") == CURLE_OK &&
              curl_easy_setopt(handle, CURLOPT_USERAGENT, "tarn/" TARN_VERSION) == CURLE_OK;
    bool own = request->tls ? request->tls->authorities.length || request->tls->insecure
                            : request->ca_file != NULL;
    if (ok && https && !own)
        trust_apply(&lane->client->trust, handle);
    if (ok && request->accepts_gzip)
        ok = curl_easy_setopt(handle, CURLOPT_ACCEPT_ENCODING, "gzip") == CURLE_OK;
    return ok;
}

/* The proxy to use; NULL: none. */
static const char *choose_proxy(const struct client_request *request, const struct origin *origin) {
    if (request->no_proxy)
        return NULL;
    if (request->proxy)
        return request->proxy;
    return proxy_for(origin->https ? "https" : "http", origin->host, origin->port);
}

static bool set_trust(struct lane *lane, const struct client_request *request,
                      struct client_call *call, struct error *error) {
    if (request->tls)
        return client_tls_apply(lane->handle, request, call, error);
    return !request->ca_file ||
           trust_apply_file(&lane->client->trust, lane->handle, request->ca_file, error);
}

bool client_prepare(struct lane *lane, const struct client_request *request,
                    struct client_call *call, struct error *error) {
    CURL *handle = lane->handle;
    struct origin origin;
    *call = (struct client_call){.watch.rule = request->addresses
                                                   ? *request->addresses
                                                   : (struct address_rule){true, true, true}};
    if (!origin_parse(request->url, &origin))
        return error_set(error, ERROR_INVALID, "no http or https URL without a user in it");
    if (!check_host(&origin, &call->watch.rule, error))
        return false;
    const char *proxy = choose_proxy(request, &origin);
    call->url = request->url;
    call->watch.proxied = proxy != NULL;

    curl_easy_reset(handle);
    if (!set_destination(lane, request, origin.https, proxy))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (origin.https && !set_trust(lane, request, call, error))
        return false;
    long connect_timeout_ms =
        (long)(request->connect_timeout_ms ? request->connect_timeout_ms : CONNECT_TIMEOUT_MS);
    curl_easy_setopt(handle, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    /* A request that ends early does not wait for a name server that stays silent. */
    curl_easy_setopt(handle, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 1L);
    curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
    /* Firewalls drop idle connections without a sign; older ones than this are not used again. */
    curl_easy_setopt(handle, CURLOPT_MAXAGE_CONN, 50L);
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, connect_timeout_ms);
    curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, address_open);
    curl_easy_setopt(handle, CURLOPT_OPENSOCKETDATA, &call->watch);
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, call->reason);
    return true;
}

void client_call_finish(struct client_call *call) {
    curl_slist_free_all(call->connect_to);
    call->connect_to = NULL;
}

static const char *host_of(const struct client_call *call, char *out, size_t size) {
    struct origin origin;
    if (!origin_parse(call->url, &origin))
        return "its host";
    snprintf(out, size, "%s", origin.host);
    return out;
}

/* libcurl's own words, but for those about a proxy that it does not understand: they quote the
 * proxy's URL, which may hold a password. */
static const char *words_of(CURLcode code, const struct client_call *call) {
    if (strstr(call->reason, "nsupported proxy"))
        return "the proxy (proxy-url, or the environment's https_proxy, http_proxy, all_proxy) is "
               "no "
               "URL of a proxy that tarn can use";
    return call->reason[0] ? call->reason : curl_easy_strerror(code);
}

bool client_failure(CURL *handle, CURLcode code, const struct client_call *call,
                    struct error *error) {
    char host[256], reason[128];
    long number = 0;
    const char *said = words_of(code, call);
    if (call->watch.refused) {
        error_set(error, ERROR_DENIED,
                  "refused to connect to %s: it resolves to %s, a private, loopback, "
                  "link-local or metadata address",
                  host_of(call, host, sizeof host), call->watch.refused_address);
        return error_because(error, ERROR_REASON_ADDRESS);
    }
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        error_set(error, ERROR_UNAVAILABLE, "no such host %s (name lookup failed)",
                  host_of(call, host, sizeof host));
        return error_because(error, ERROR_REASON_NO_HOST);
    case CURLE_COULDNT_RESOLVE_PROXY:
        error_set(error, ERROR_UNAVAILABLE, "no such host as the proxy's: %s", said);
        return error_because(error, ERROR_REASON_NO_HOST);
    case CURLE_COULDNT_CONNECT:
        curl_easy_getinfo(handle, CURLINFO_OS_ERRNO, &number);
        if (number == 0)
            error_set(error, ERROR_UNAVAILABLE, "%s", said);
        else
            error_set(error, ERROR_UNAVAILABLE, "no connection to %s: %s",
                      host_of(call, host, sizeof host),
                      strerror_r((int)number, reason, sizeof reason));
        return error_because(error, ERROR_REASON_NO_CONNECTION);
    case CURLE_OPERATION_TIMEDOUT:
        return error_set(error, ERROR_TIMEOUT, "%s", said);
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_SEND_FAIL_REWIND: /* client_request.once */
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        error_set(error, ERROR_UNAVAILABLE, "the connection was cut (%s)", said);
        error->reached = true;
        return false;
    case CURLE_PARTIAL_FILE:
        error_set(error, ERROR_UNAVAILABLE, "the body was cut short (%s)", said);
        error->reached = true;
        return false;
    case CURLE_SSL_CACERT_BADFILE: /* libcurl's text names the file */
        error_set(error, ERROR_UNAVAILABLE, TRUST_UNREADABLE);
        return error_because(error, ERROR_REASON_CERTIFICATE);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
        error_set(error, ERROR_UNAVAILABLE, "no trusted TLS connection: %s", said);
        return error_because(error, code == CURLE_SSL_CONNECT_ERROR ? ERROR_REASON_TLS
                                                                    : ERROR_REASON_CERTIFICATE);
    case CURLE_OUT_OF_MEMORY:
        return error_set(error, ERROR_MEMORY, "out of memory");
    default:
        return error_set(error, ERROR_UNAVAILABLE, "%s", said);
    }
}

bool client_add_header(struct curl_slist **list, const char *header) {
    struct curl_slist *longer = curl_slist_append(*list, header);
    if (longer)
        *list = longer;
    return longer != NULL;
}

void client_wipe_headers(struct curl_slist **list) {
    for (struct curl_slist *at = *list; at; at = at->next)
        explicit_bzero(at->data, strlen(at->data));
    curl_slist_free_all(*list);
    *list = NULL;
}
