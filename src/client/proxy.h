/*
 * Which proxy a URL goes through, from the environment: http_proxy, https_proxy, all_proxy and
 * no_proxy, in lower or upper case. Chosen here rather than by libcurl, because whoever checks
 * addresses has to know whether it is the proxy's that is connected to, and because libcurl leaves
 * HTTP_PROXY in upper case out (a rule for CGI programs, which this is not).
 */
#ifndef CLIENT_PROXY_H
#define CLIENT_PROXY_H

#include <stdbool.h>

/* The proxy for a URL with this scheme, host (no brackets) and port, or NULL: straight there.
 * Borrowed from the environment. */
const char *proxy_for(const char *scheme, const char *host, unsigned port);

/* The pure half: whether the comma- or space-separated `list` (as in no_proxy) names `host`. An
 * entry is "*", a name (it and every name below it), an address, or an address/bits; each but "*"
 * may carry ":port". */
bool proxy_exempt(const char *list, const char *host, unsigned port);

#endif
