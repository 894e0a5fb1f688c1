/* What a token service responds: the token and its life. Private to auth/google/. Pure. */
#ifndef AUTH_GOOGLE_TOKEN_RESPONSE_H
#define AUTH_GOOGLE_TOKEN_RESPONSE_H

#include "auth/google/google.h"
#include "base/buffer.h"

/*
 * Reads the token of an OAuth response,
 * {"access_token":…,"expires_in":…,"token_type":"Bearer"}, whose life began no earlier than
 * `asked_ms` (clock_ms()). Sets secret and expires_ms of `out`.
 */
bool token_response_read(const struct buffer *body, int64_t asked_ms, struct google_token *out,
                         struct error *error);

/* Copies `secret` as the token, if it can stand in a header: printable ASCII, not empty. */
bool google_token_set(struct google_token *out, const char *secret, int64_t expires_ms,
                      struct error *error);

#endif
