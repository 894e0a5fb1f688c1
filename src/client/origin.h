/* The scheme, host and port of a URL (RFC 6454): the unit to which a credential belongs. Pure. */
#ifndef CLIENT_ORIGIN_H
#define CLIENT_ORIGIN_H

#include <stdbool.h>

enum { URL_LIMIT = 16 * 1024 }; /* bytes; longer URLs are refused wherever they come from */

struct origin {
    bool https;
    char host[256]; /* lower case, no final dot, no brackets around an IPv6 address */
    unsigned port;
};

/* False: no http or https URL, one with a user or password in it, or one beyond the limit. */
bool origin_parse(const char *url, struct origin *out);
bool origin_equal(const struct origin *a, const struct origin *b);

/* "host" or "host:port", the port only where it is not the scheme's own; an IPv6 address in
 * brackets. `out` holds at least ORIGIN_HOST_SIZE bytes. Gives `out`. */
enum { ORIGIN_HOST_SIZE = 256 + 2 + 6 };
const char *origin_host(const struct origin *origin, char out[static ORIGIN_HOST_SIZE]);

#endif
