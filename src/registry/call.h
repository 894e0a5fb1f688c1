/*
 * One request on its way through the room: what was asked, of which upstream, and what became of
 * it, for the handlers, the error answers and the access log. Inside the room.
 */
#ifndef REGISTRY_CALL_H
#define REGISTRY_CALL_H

#include "base/metric.h"
#include "registry/registry.h"
#include "registry/route.h"

enum proxied { PROXIED_MANIFEST, PROXIED_BLOB, PROXIED_TYPES };

struct registry {
    struct registry_settings settings;
    const struct http_server *server;
    struct {
        struct metric *requests, *hits, *misses, *pushed;
    } proxied[PROXIED_TYPES]; /* the CNCF registry's names */
};

struct call {
    struct registry *registry;
    struct http_exchange *exchange;
    const struct http_request *request;
    struct route route;
    char ns[HOST_LIMIT + 1];      /* the ns parameter, "" when there is none */
    struct repository repository; /* its upstream is NULL until it is named */
    bool has_outcome;
    enum cache_outcome outcome;
    char reference[DIGEST_STRING_SIZE]; /* tag or digest, for the log */
    char error[160]; /* the beginning of an error answer's message, for the log */
    int64_t began_us;
};

/* ---- answer.c ---- */

/* Fields that every answer of the API carries; before http_reply() or http_begin(). */
void call_add_fields(struct call *call);
/* Docker-Content-Digest, ETag and Cache-Status of an answer that has content. */
void call_add_content_fields(struct call *call, const struct digest *digest);
/* True (and a 304 sent) when If-None-Match holds this digest. */
bool call_not_modified(struct call *call, const struct digest *digest);
/* An OCI error body. */
void call_fail(struct call *call, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The answer to an error from below, by the design's table of statuses. */
void call_fail_error(struct call *call, const struct error *error);
void call_note_outcome(struct call *call, enum cache_outcome outcome);

/* ---- name.c ---- */

/* Finds upstream and repository for the route's name. False: answered. */
bool call_name_upstream(struct call *call);

/* ---- handlers ---- */

void handle_manifest(struct call *call);
void handle_blob(struct call *call);
void handle_tags(struct call *call);
void handle_referrers(struct call *call);
void handle_catalog(struct call *call);
void handle_page(struct call *call);
void handle_flights(struct call *call);
void handle_metrics(struct call *call);

#endif
