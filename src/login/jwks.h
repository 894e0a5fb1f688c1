/*
 * The public keys that tokens are signed with: a JWK set (RFC 7517) from a file.
 *
 * RSA keys of 2,048 to 8,192 bits, for RS256, and keys on the curve P-256, for ES256. A key for
 * another algorithm or another use is left out, so that a set may serve several programs; a set
 * without a usable key is refused. A symmetric key (`oct`) is never used: whoever verifies with it
 * could sign, too.
 *
 * A set is immutable. Any thread may use it.
 */
#ifndef LOGIN_JWKS_H
#define LOGIN_JWKS_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include "base/error.h"
#include "base/text.h"

enum { JWKS_SIZE_LIMIT = 1 << 20, JWKS_KEYS_LIMIT = 64, JWKS_ID_LIMIT = 255 };

enum jwk_algorithm { JWK_RS256, JWK_ES256 };

struct jwk {
    enum jwk_algorithm algorithm;
    char *id; /* NULL: the key has none, and may have signed any token */
    EVP_PKEY *key;
};

struct jwks { /* zeroed is empty */
    size_t count;
    struct jwk keys[JWKS_KEYS_LIMIT];
};

/* False: *out is empty, and the error says what is wrong (ERROR_INVALID, ERROR_MEMORY). */
bool jwks_parse(struct text bytes, struct jwks *out, struct error *error);

/* The same with the bytes of a file, which the error then names. *identity is that of the file. */
bool jwks_read(const char *path, struct jwks *out, struct stat *identity, struct error *error);

void jwks_finish(struct jwks *jwks);

#endif
