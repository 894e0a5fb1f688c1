/* The origin of a URL: scheme, host and port (RFC 6454). A credential belongs to one origin. Pure.
 */
#ifndef CLIENT_ORIGIN_H
#define CLIENT_ORIGIN_H

#include <stdbool.h>

enum { URL_LIMIT = 16 * 1024 }; /* bytes; a longer URL is refused wherever it comes from */

struct origin {
    bool https;
    char host[256]; /* lower case, no final dot, no brackets around an IPv6 address */
    unsigned port;
};

/* False: not an http or https URL, or it contains a user or password, or it is too long. */
bool origin_parse(const char *url, struct origin *out);
bool origin_equal(const struct origin *a, const struct origin *b);

/* Whether a list of the configuration ("HOST" or "HOST:PORT"; NULL-terminated; NULL: empty) names
 * the host of the origin, and whether it does so with the port. */
enum origin_listing { ORIGIN_UNLISTED, ORIGIN_LISTED, ORIGIN_LISTED_WITH_PORT };
enum origin_listing origin_is_listed(const struct origin *origin, const char *const *list);

/* Writes "host", or "host:port" when the port is not the scheme's own, with brackets around an IPv6
 * address. Returns `out`. */
enum { ORIGIN_HOST_SIZE = 256 + 2 + 6 };
const char *origin_host(const struct origin *origin, char out[static ORIGIN_HOST_SIZE]);

#endif
