/* The challenges in a WWW-Authenticate field (RFC 9110 §11.6.1, RFC 6750 §3, Docker's token spec).
 * Pure; hostile input. */
#ifndef CLIENT_CHALLENGE_H
#define CLIENT_CHALLENGE_H

#include <stdbool.h>
#include "base/text.h"

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
    enum challenge_scheme scheme;
    char realm[2048];  /* of BEARER: a URL that nobody has checked yet, never "" */
    char service[256]; /* "" when absent */
    char scope[1024];  /* "" when absent */
};

/*
 * Reads the challenges of one field's value into *out, which is zeroed before the first field. The
 * first Bearer with a realm is preferred to any Basic, and both to other schemes. Values may be
 * tokens or quoted strings; a malformed part is skipped up to the next comma.
 */
void challenge_read(struct text value, struct challenge *out);

#endif
