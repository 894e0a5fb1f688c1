/*
 * Private to client/: makes a prepared handle use what a request says about TLS (struct client_tls
 * of client/request.h). Certificates and keys are handed over in memory and are never in a file.
 */
#ifndef CLIENT_TLS_H
#define CLIENT_TLS_H

#include <curl/curl.h>
#include "base/error.h"
#include "client/handle.h"
#include "client/request.h"

/* Sets authorities, certificate and the name to check. `call` keeps what must outlive the setting.
 * False: ERROR_INVALID (the name is none), ERROR_MEMORY. */
bool client_tls_apply(CURL *handle, const struct client_request *request, struct client_call *call,
                      struct error *error);

/* Appends the field Host when it is not the host of the URL that libcurl sees. False: out of
 * memory. */
bool client_tls_add_host(const struct client_request *request, struct curl_slist **headers);

#endif
