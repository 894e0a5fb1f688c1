/*
 * One request that writes to a registry, or that asks how a write stands: with its Authorization,
 * its 401 and its redirects. It is sent once; what follows a failure is the caller's to decide.
 *
 * Private to upstream/. Threads: any; a request blocks the thread that makes it. Errors are not
 * NULL here.
 */
#ifndef UPSTREAM_WRITE_H
#define UPSTREAM_WRITE_H

#include "base/cancel.h"
#include "client/origin.h"
#include "client/request.h"
#include "upstream/peer.h"

struct write_request {
    const char *method;
    const char *url;           /* whole; only at the registry's own origin it gets a credential */
    const char *repository;    /* as the location knows it: its prefix is in front */
    const char *scope;         /* as authorization_need.scope */
    const char *const *fields; /* further lines of the head, NULL-terminated; may be NULL */
    struct client_body body;
    bool is_long;                /* the body may take its time, and comes after other requests */
    int64_t answer_ms;           /* for the response, behind the body */
    const struct cancel *cancel; /* may be NULL */
    /* So long a request that is under way waits for its response although it was cancelled, because
     * the caller has to undo what it did. 0: not at all. */
    int64_t late_ms;
};

/* On the heap, because a Location may be long. write_response_wipe() is owed. */
struct write_response {
    struct client_response http; /* its body is a refusal's */
    struct challenge challenge;
    char location[URL_LIMIT + 1];
    char range[64];
    char digest[160];     /* Docker-Content-Digest */
    char subject[160];    /* OCI-Subject */
    char uuid[160];       /* Docker-Upload-UUID */
    char least_chunk[24]; /* OCI-Chunk-Min-Length */
    char api_version[32];
    struct client_field fields[7];
    char *url;      /* owned: that responded; a Location is relative to it */
    bool elsewhere; /* it is at another origin, and got no credential */
    bool anonymous; /* no credential was shown */
    char from[160]; /* where the credential came from, for people */
};
void write_response_wipe(struct write_response *response);

/* True: a response is here, whatever its status. False: there is none (as client_stream()), no
 * token or credential (as authorizer_get()), or no connection in time (BUSY). */
bool write_perform(struct peer *peer, const struct write_request *request,
                   struct write_response *response, struct error *error);

/* Sets the error that a refusal means: its status, code and message, and the credential that was
 * used. Returns false. */
bool write_refused(const struct peer *peer, const struct write_response *response,
                   struct error *error);

#endif
