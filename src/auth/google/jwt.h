/* JSON Web Tokens signed with a service account's key: RS256 (RFC 7515, RFC 7518 §3.3). Private to
 * auth/google/. Pure. */
#ifndef AUTH_GOOGLE_JWT_H
#define AUTH_GOOGLE_JWT_H

#include <stdbool.h>
#include "base/error.h"

/* HEADER.CLAIMS.SIGNATURE over exactly these `claims`, on the heap; the caller wipes it. `key` is a
 * private key in PEM; `key_id` may be NULL. NULL: the key is no RSA key (ERROR_INVALID), or out of
 * memory. */
char *jwt_sign(const char *key, const char *key_id, const char *claims, struct error *error);

#endif
