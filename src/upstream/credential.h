/* The credential of a location, as its requests need it. Errors are not NULL here. */
#ifndef UPSTREAM_CREDENTIAL_H
#define UPSTREAM_CREDENTIAL_H

#include "upstream/location.h"

/* Asks the location's credential source; `renew` passes over what the source remembers. A broken
 * source is ERROR_UNAVAILABLE, and never leads to an anonymous request. */
bool location_credential(struct location *location, bool renew, struct credential *out,
                         struct error *error);

/* "Authorization: Basic ..." on the heap, for secret_free(); NULL when out of memory. */
char *credential_basic_header(const struct credential *credential);

#endif
