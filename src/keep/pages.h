/*
 * The pages of `tarn keep`: cachemachine's, nublado's and tarn's own.
 *
 *   /livez /readyz /metrics                   open to everybody
 *   /                                         metadata as JSON; for a browser, the page for people
 *   /PREFIX/ /PREFIX/NAME[/available|/desired]  cachemachine
 *   /nublado/spawner/v1/images, /prepulls     nublado
 *   /tarn/v1/keeps[/NAME]                     tarn
 *
 * Who may ask is decided by the caller. Threads: any; a response is made from memory, except that
 * a POST and a DELETE ask the cluster.
 */
#ifndef KEEP_PAGES_H
#define KEEP_PAGES_H

#include "http/http.h"
#include "keep/keeper.h"

/* Whether the request is for a probe or a collector, which log in nowhere. */
bool keep_pages_is_open(const struct http_request *request);
/* Whether the request changes what is kept. */
bool keep_pages_is_change(const struct http_request *request);

/* `prefix` is cachemachine's, without slashes. */
void keep_pages_respond(struct keeper *keeper, const char *prefix, struct http_exchange *exchange);

/* An error of cachemachine's kind: "404: Not Found" as plain text, or the status and `why`. */
void keep_pages_refuse(struct http_exchange *exchange, int status, const char *why);

#endif
