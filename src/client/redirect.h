/* Where a Location leads (RFC 9110 §10.2.2, RFC 3986 §5). Pure; hostile input. */
#ifndef CLIENT_REDIRECT_H
#define CLIENT_REDIRECT_H

#include <stdbool.h>
#include "base/error.h"
#include "base/text.h"
#include "client/origin.h"

enum { REDIRECT_LIMIT = 5 }; /* hops */

/* `reference` resolved against `base` (a whole URL), without a fragment; the caller's to free().
 * NULL: neither http nor https, with a user in it, malformed or over URL_LIMIT. */
char *redirect_resolve(const char *base, const char *reference, struct error *error);

/* Whether a request to `url` may carry the Authorization that belongs to `origin`: only at that
 * origin, and not for Artifact Registry's download links, which need none and leave the registry's
 * own code. */
bool redirect_keeps_authorization(const struct origin *origin, const char *url);

/* The path and query of rel="next" in a Link header's value (RFC 8288), when it stays at the origin
 * of `base`. False, and "" in `out`: none, elsewhere, or too long. */
bool redirect_next_page(const char *base, struct text link, char *out, size_t size);

#endif
