/*
 * What every libcurl transfer of this program has in common: http and https only, no redirects of
 * libcurl's own, no credentials of libcurl's own finding, verified TLS, the environment's proxies,
 * checked addresses; and failures in people's words.
 *
 * Threads: any; a handle belongs to one thread at a time.
 */
#ifndef CLIENT_HANDLE_H
#define CLIENT_HANDLE_H

#include <curl/curl.h>
#include <stdbool.h>
#include "base/error.h"
#include "client/address.h"
#include "client/origin.h"

/* Everything that must stay valid while the handle is at work. */
struct client_call {
    struct address_watch watch; /* `rule` set by the caller */
    char reason[CURL_ERROR_SIZE];
};

struct client_options {
    const char *url;
    const char *ca_file; /* PEM bundle instead of the system's; NULL: the system's */
    bool no_proxy;
    int64_t connect_timeout_ms;
};

/* A new easy handle, libcurl initialised; NULL when out of memory. */
CURL *client_handle_new(void);

/* Resets the handle (its connections stay) and sets it up for one transfer. False: the URL is none
 * that may be asked, or its host's literal address is refused by the rule (ERROR_DENIED). */
bool client_prepare(CURL *handle, const struct client_options *options, struct client_call *call,
                    struct error *error);

/* Why a transfer failed: ERROR_TIMEOUT, ERROR_DENIED for a refused address, or ERROR_UNAVAILABLE;
 * the text is the reason alone ("no such host ghcr.io", "connection refused"). */
bool client_failure(CURL *handle, CURLcode code, const struct client_call *call,
                    struct error *error);

/* A list of header lines that may hold secrets: grown, then wiped and freed. */
bool client_add_header(struct curl_slist **list, const char *header);
void client_wipe_headers(struct curl_slist **list);

#endif
