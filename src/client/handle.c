#include "client/handle.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "client/proxy.h"
#include "client/trust.h"

static void start_libcurl(void) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

CURL *client_handle_new(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_libcurl);
    return curl_easy_init();
}

/* A name is checked again, as an address, when it is connected to; but behind a proxy that check
 * is the proxy's, and an error about the URL reads better than one about an address. */
static bool check_host(const struct origin *origin, const struct address_rule *rule,
                       struct error *error) {
    enum address_class class = address_classify_host(origin->host);
    if (address_allowed(class, rule))
        return true;
    return error_set(error, ERROR_DENIED, "refused to connect to %s: it is %s", origin->host,
                     class == ADDRESS_LOOPBACK ? "this machine itself"
                                               : "a link-local or metadata address");
}

bool client_prepare(CURL *handle, const struct client_options *options, struct client_call *call,
                    struct error *error) {
    struct origin origin;
    if (!origin_parse(options->url, &origin))
        return error_set(error, ERROR_INVALID, "no http or https URL without a user in it");
    if (!check_host(&origin, &call->watch.rule, error))
        return false;
    const char *proxy = options->no_proxy
                            ? NULL
                            : proxy_for(origin.https ? "https" : "http", origin.host, origin.port);
    call->watch.proxied = proxy != NULL;
    call->watch.refused = false;
    call->watch.was_loopback = false;
    call->reason[0] = '\0';

    curl_easy_reset(handle);
    bool ok = curl_easy_setopt(handle, CURLOPT_URL, options->url) == CURLE_OK &&
              curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
              curl_easy_setopt(handle, CURLOPT_PROXY, proxy ? proxy : "") == CURLE_OK &&
              curl_easy_setopt(handle, CURLOPT_NOPROXY, "") == CURLE_OK &&
              curl_easy_setopt(handle, CURLOPT_USERAGENT, "tarn/" TARN_VERSION) == CURLE_OK;
    if (ok && options->ca_file) /* instead of the system's bundle: its directory is not looked at */
        ok = curl_easy_setopt(handle, CURLOPT_CAINFO, options->ca_file) == CURLE_OK &&
             curl_easy_setopt(handle, CURLOPT_CAPATH, NULL) == CURLE_OK;
    else if (ok && origin.https)
        trust_system(handle);
    if (!ok)
        return error_set(error, ERROR_MEMORY, "out of memory");
    curl_easy_setopt(handle, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    /* A transfer that is given up does not wait for a name server that stays silent. */
    curl_easy_setopt(handle, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 1L);
    curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
    /* Firewalls forget idle connections without telling; those older than this are not reused. */
    curl_easy_setopt(handle, CURLOPT_MAXAGE_CONN, 50L);
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, (long)options->connect_timeout_ms);
    curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, address_open);
    curl_easy_setopt(handle, CURLOPT_OPENSOCKETDATA, &call->watch);
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, call->reason);
    return true;
}

static const char *host_of(CURL *handle, char *out, size_t size) {
    char *url = NULL;
    struct origin origin;
    if (curl_easy_getinfo(handle, CURLINFO_EFFECTIVE_URL, &url) != CURLE_OK || !url ||
        !origin_parse(url, &origin))
        return "its host";
    snprintf(out, size, "%s", origin.host);
    return out;
}

bool client_failure(CURL *handle, CURLcode code, const struct client_call *call,
                    struct error *error) {
    char host[256], reason[128];
    long number = 0;
    const char *said = call->reason[0] ? call->reason : curl_easy_strerror(code);
    if (call->watch.refused)
        return error_set(error, ERROR_DENIED,
                         "refused to connect to %s: it resolves to %s, a loopback, link-local or "
                         "metadata address",
                         host_of(handle, host, sizeof host), call->watch.refused_address);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return error_set(error, ERROR_UNAVAILABLE, "no such host %s (name lookup failed)",
                         host_of(handle, host, sizeof host));
    case CURLE_COULDNT_RESOLVE_PROXY:
        return error_set(error, ERROR_UNAVAILABLE, "no such host as the proxy's: %s", said);
    case CURLE_COULDNT_CONNECT:
        curl_easy_getinfo(handle, CURLINFO_OS_ERRNO, &number);
        if (number == 0)
            return error_set(error, ERROR_UNAVAILABLE, "%s", said);
        return error_set(error, ERROR_UNAVAILABLE, "no connection to %s: %s",
                         host_of(handle, host, sizeof host),
                         strerror_r((int)number, reason, sizeof reason));
    case CURLE_OPERATION_TIMEDOUT:
        return error_set(error, ERROR_TIMEOUT, "%s", said);
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        return error_set(error, ERROR_UNAVAILABLE, "the connection was cut (%s)", said);
    case CURLE_PARTIAL_FILE:
        return error_set(error, ERROR_UNAVAILABLE, "the body was cut short (%s)", said);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
        return error_set(error, ERROR_UNAVAILABLE, "no trusted TLS connection: %s", said);
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
