/* What of a configured value, or of a server's text, may stand in a message. Pure. */
#ifndef AUTH_SHOWN_H
#define AUTH_SHOWN_H

#include <stdbool.h>

/* Whether a value that ought to be a path or a name looks like a credential: JSON, a key, a token,
 * or anything of more than one line. People paste these where a path belongs. */
bool shown_is_secret(const char *value);

/* The value itself, or words that take its place. */
const char *shown_value(const char *value);

/* Overwrites each place where the text holds the secret with stars of the same length. A secret of
 * less than four bytes stays, and NULL is fine. */
void shown_black_out(char *text, const char *secret);

#endif
