/* One request to a token service. Errors are not NULL here. */
#ifndef UPSTREAM_TOKEN_FETCH_H
#define UPSTREAM_TOKEN_FETCH_H

#include "upstream/location.h"

struct fetched_token {
    char *value;        /* owned: visible ASCII */
    int64_t expires_ms; /* clock_ms() from which it is no longer to be used */
    bool anonymous;
    char from[160];
};

/* Fetches a token for `scope`; `renew` asks the credential source past its cache. */
bool token_fetch(struct location *location, const struct challenge *challenge, const char *scope,
                 bool renew, int64_t deadline_ms, struct fetched_token *out, bool *retry,
                 struct error *error);

/* The reply's token and its life in seconds (60 when not said). The pure half. */
bool token_read(const void *bytes, size_t length, char **value, int64_t *life_s,
                struct error *error);

/* "Authorization: Basic ..." on the heap; NULL when out of memory. */
char *credential_basic_header(const struct credential *credential);

/* Credentials for the location. A broken source is ERROR_UNAVAILABLE, never anonymous. */
bool location_credential(struct location *location, bool renew, struct credential *out,
                         struct error *error);

#endif
