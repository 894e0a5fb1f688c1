/* What a request says about TLS, as options of libcurl. */
#include "client/tls.h"

#include <stdio.h>
#include <string.h>
#include "client/origin.h"

static struct curl_blob blob_of(struct text text) {
    return (struct curl_blob){.data = (void *)text.at, .len = text.length, .flags = CURL_BLOB_COPY};
}

/* libcurl checks the certificate against the host of its URL and also sends that name to the server
 * (SNI). So the URL gets the name, and libcurl is told to connect to the real host instead. */
static bool set_server_name(CURL *handle, const struct client_request *request,
                            struct client_call *call, struct error *error) {
    struct origin origin, named;
    char line[ORIGIN_HOST_SIZE + 16], url[URL_LIMIT + 300];
    const char *name = request->tls->server_name, *path = strstr(request->url, "://");
    path += 3 + strcspn(path + 3, "/?#");
    if (!origin_parse(request->url, &origin))
        return error_set(error, ERROR_INVALID, "no http or https URL without a user in it");
    bool fits =
        snprintf(url, sizeof url, "https://%s:%u%s", name, origin.port, path) < (int)sizeof url;
    if (!fits || !origin_parse(url, &named) || strcasecmp(named.host, name) != 0)
        return error_set(error, ERROR_INVALID, "the server's name for TLS is no host name");
    snprintf(line, sizeof line, strchr(origin.host, ':') ? "::[%s]:%u" : "::%s:%u", origin.host,
             origin.port);
    return (client_add_header(&call->connect_to, line) &&
            curl_easy_setopt(handle, CURLOPT_URL, url) == CURLE_OK &&
            curl_easy_setopt(handle, CURLOPT_CONNECT_TO, call->connect_to) == CURLE_OK) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

static bool set_authorities(CURL *handle, const struct client_tls *tls) {
    struct curl_blob blob = blob_of(tls->authorities);
    if (tls->insecure)
        return curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, 0L) == CURLE_OK &&
               curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, 0L) == CURLE_OK;
    return !blob.len || (curl_easy_setopt(handle, CURLOPT_CAINFO_BLOB, &blob) == CURLE_OK &&
                         curl_easy_setopt(handle, CURLOPT_CAINFO, NULL) == CURLE_OK &&
                         curl_easy_setopt(handle, CURLOPT_CAPATH, NULL) == CURLE_OK);
}

static bool set_certificate(CURL *handle, const struct client_tls *tls) {
    struct curl_blob certificate = blob_of(tls->certificate), key = blob_of(tls->key);
    return !certificate.len ||
           (curl_easy_setopt(handle, CURLOPT_SSLCERTTYPE, "PEM") == CURLE_OK &&
            curl_easy_setopt(handle, CURLOPT_SSLKEYTYPE, "PEM") == CURLE_OK &&
            curl_easy_setopt(handle, CURLOPT_SSLCERT_BLOB, &certificate) == CURLE_OK &&
            curl_easy_setopt(handle, CURLOPT_SSLKEY_BLOB, &key) == CURLE_OK);
}

bool client_tls_apply(CURL *handle, const struct client_request *request, struct client_call *call,
                      struct error *error) {
    const struct client_tls *tls = request->tls;
    if (!set_authorities(handle, tls) || !set_certificate(handle, tls))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return !tls->server_name || set_server_name(handle, request, call, error);
}

bool client_tls_add_host(const struct client_request *request, struct curl_slist **headers) {
    struct origin origin;
    char host[ORIGIN_HOST_SIZE], line[ORIGIN_HOST_SIZE + 8];
    if (!request->tls || !request->tls->server_name || !origin_parse(request->url, &origin) ||
        !origin.https)
        return true;
    snprintf(line, sizeof line, "Host: %s", origin_host(&origin, host));
    return client_add_header(headers, line);
}
