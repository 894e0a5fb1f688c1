/* The credential of a location, as its requests need it. Errors are not NULL here. */
#ifndef UPSTREAM_CREDENTIAL_H
#define UPSTREAM_CREDENTIAL_H

#include "upstream/location.h"

/* Asks the location's credential source for a repository, as requests to the location name it;
 * `renew` passes over what the source remembers. One that
 * does not answer until `deadline_ms` (clock_ms()) is ERROR_TIMEOUT. A broken source is
 * ERROR_UNAVAILABLE, and never leads to an anonymous request. */
bool location_credential(struct location *location, const char *repository, bool renew,
                         int64_t deadline_ms, struct credential *out, struct error *error);

/* What there is for a request that was refused because it carried no credential. */
enum second_look {
    LOOK_NOTHING, /* the refusal stands */
    LOOK_FOUND,   /* a credential has come since: ask again with it */
    LOOK_FAILED, /* the error says why, and takes the place of the refusal: the source is broken, or
                    cannot be sure yet that it has nothing */
};

/* Asks the source again, past what it remembers, because a refusal proves nothing about a machine
 * whose credentials are not there yet. `status` is the refusal's. */
enum second_look location_look_again(struct location *location, const char *repository, int status,
                                     int64_t deadline_ms, struct error *error);

/* "Authorization: Basic ..." on the heap, for secret_free(); NULL when out of memory. */
char *credential_basic_header(const struct credential *credential);

#endif
