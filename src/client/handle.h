/*
 * Private to client/: what every request over libcurl has in common. http and https only, no
 * redirects followed by libcurl, no credentials found by libcurl, verified TLS, the environment's
 * proxies, checked addresses; and the text of each failure.
 *
 * Threads: any; a handle belongs to one thread at a time.
 */
#ifndef CLIENT_HANDLE_H
#define CLIENT_HANDLE_H

#include <curl/curl.h>
#include <stdbool.h>
#include "base/error.h"
#include "client/address.h"
#include "client/lane.h"
#include "client/request.h"

/* Everything that must stay valid while the handle is at work. */
struct client_call {
    struct address_watch watch;
    const char *url; /* the request's */
    struct curl_slist *connect_to;
    char reason[CURL_ERROR_SIZE];
};

/* Resets the lane's handle (its connections stay) and sets it up for one request. False: the URL
 * is no http or https URL, or its host's literal address is refused by the rule (ERROR_DENIED). */
bool client_prepare(struct lane *lane, const struct client_request *request,
                    struct client_call *call, struct error *error);
/* Frees what the call holds, when the handle is at rest. */
void client_call_finish(struct client_call *call);

/* Why a request failed: ERROR_TIMEOUT, ERROR_DENIED for a refused address, or ERROR_UNAVAILABLE;
 * the text is the reason alone ("no such host ghcr.io", "connection refused"). */
bool client_failure(CURL *handle, CURLcode code, const struct client_call *call,
                    struct error *error);

/* A list of header lines that may hold secrets: grown, then wiped and freed. */
bool client_add_header(struct curl_slist **list, const char *header);
void client_wipe_headers(struct curl_slist **list);
#define cleanup_client_headers __attribute__((cleanup(client_wipe_headers)))

#endif
