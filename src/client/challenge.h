/* WWW-Authenticate (RFC 9110 §11.6.1, RFC 6750 §3, Docker's token spec). Pure; hostile input. */
#ifndef CLIENT_CHALLENGE_H
#define CLIENT_CHALLENGE_H

#include <stdbool.h>
#include "base/text.h"

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
    enum challenge_scheme scheme;
    char realm[2048];  /* of BEARER: never "", a URL that nobody has checked yet */
    char service[256]; /* "" when not said */
    char scope[1024];  /* "" when not said */
};

/*
 * Takes the challenges in one header's value into *out (zeroed before the first header): the first
 * Bearer with a realm wins over any Basic, and both over other schemes. Values may be tokens or
 * quoted strings; what is malformed is skipped to the next comma.
 */
void challenge_read(struct text value, struct challenge *out);

#endif
