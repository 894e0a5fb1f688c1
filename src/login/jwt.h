/*
 * JSON Web Tokens (RFC 7519) in the compact form, signed with RS256 or ES256 (RFC 7515, 7518).
 *
 * The algorithm follows from the key, never from the token: a token that names another one, or
 * none, is refused, and so is one with a critical extension. What a token says of keys (`jwk`,
 * `jku`, `x5c`) is not heeded. Pure; any thread.
 */
#ifndef LOGIN_JWT_H
#define LOGIN_JWT_H

#include <jansson.h>
#include <stdint.h>
#include "base/text.h"
#include "login/jwks.h"

enum {
    JWT_SIZE_LIMIT = 12 << 10, /* bytes of a token */
    JWT_LEEWAY_S = 30,         /* by which two clocks may differ */
};

enum jwt_fault {
    JWT_FINE,
    JWT_MALFORMED,     /* it is no token */
    JWT_ALGORITHM,     /* it is not signed with RS256 or ES256 */
    JWT_UNKNOWN_KEY,   /* no key of the set may have signed it */
    JWT_FORGED,        /* the signature is wrong */
    JWT_OTHER_ISSUER,  /* somebody else has issued it */
    JWT_OTHER_SERVICE, /* it is for somebody else */
    JWT_EXPIRED,       /* it has no end, or that is past */
    JWT_TOO_EARLY,     /* it is not valid yet */
};

/* What a token must say. */
struct jwt_rules {
    const char *issuer, *service;
    int64_t now_s; /* wall time */
};

struct jwt_claims {
    json_t *json;      /* the payload, the caller's to json_decref() */
    int64_t expires_s; /* wall time after which it is not valid any more */
};

/* Whether the token is right. *claims is set then only. */
enum jwt_fault jwt_verify(struct text token, const struct jwks *jwks, const struct jwt_rules *rules,
                          struct jwt_claims *claims);

/* The fault in a few words, for the log. */
const char *jwt_fault_words(enum jwt_fault fault);

#endif
