/*
 * Chooses the proxy for a URL by the environment: http_proxy, https_proxy, all_proxy and no_proxy,
 * in lower or upper case. Libcurl could choose as well, but the check of addresses must know
 * whether the address is a proxy's, and libcurl ignores HTTP_PROXY in upper case (a rule for CGI
 * programs, and tarn is none).
 */
#ifndef CLIENT_PROXY_H
#define CLIENT_PROXY_H

#include <stdbool.h>

/* The proxy for a URL with this scheme, host (no brackets) and port; NULL: no proxy. The text
 * belongs to the environment. */
const char *proxy_for(const char *scheme, const char *host, unsigned port);

/* Whether `list`, separated by commas or blanks as in no_proxy, names `host`. An entry is "*", a
 * name (which stands for all names below it, too), an address, or address/bits; each but "*" may
 * end with
 * ":port". Pure. */
bool proxy_exempt(const char *list, const char *host, unsigned port);

#endif
