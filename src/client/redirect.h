/* Where a Location or a Link leads (RFC 9110 §10.2.2, RFC 8288, RFC 3986 §5), and what may go
 * along. Pure; hostile input. */
#ifndef CLIENT_REDIRECT_H
#define CLIENT_REDIRECT_H

#include <stdbool.h>
#include "base/error.h"
#include "base/text.h"
#include "client/origin.h"

enum { REDIRECT_LIMIT = 5 }; /* hops */

/* Resolves `reference` against `base` (a whole URL) and drops its fragment. Returns a URL that is
 * the caller's to free(). NULL: the result is neither http nor https, contains a user, is
 * malformed, or is longer than URL_LIMIT. */
char *redirect_resolve(const char *base, const char *reference, struct error *error);

/* Whether a request to `url` may carry the Authorization that belongs to `origin`. It may only at
 * that origin, and not for Artifact Registry's download links: they need no Authorization, and
 * other code than the registry's handles them. */
bool redirect_keeps_authorization(const struct origin *origin, const char *url);

/*
 * Writes the path and query of rel="next" in a Link field's value to `out`; "": there is no such
 * link. The scheme and host of the link do not count, because a registry behind a proxy often names
 * the wrong ones: the page is to be asked for where the list came from. False, and "" in `out`:
 * there is such a link, or there may be one, but it is malformed, no URL of a page, or too long.
 */
bool redirect_next_page(const char *base, struct text link, char *out, size_t size);

#endif
