/* Checks bearer tokens by a JWK set, and remembers right ones: see clients.h. Private to login/.
 * Threads: any. */
#ifndef LOGIN_TOKENS_H
#define LOGIN_TOKENS_H

#include "login/clients.h"
#include "login/failures.h"

struct tokens;

/* The caller has the one reference. They hold a reference to `failures`, whose key hides what they
 * remember; the settings are copied. NULL: an error is set. */
struct tokens *tokens_new(const struct clients_token_settings *settings, struct failures *failures,
                          struct error *error);
struct tokens *tokens_hold(struct tokens *tokens); /* one more reference */
void tokens_release(struct tokens *tokens);        /* NULL is allowed */

/* Whether they are those of this issuer, service and file. */
bool tokens_are_of(const struct tokens *tokens, const struct clients_token_settings *settings);

/* For clients_identify(), clients_known() and clients_look(), when the field is one of the scheme
 * Bearer. */
struct clients_answer tokens_check(struct tokens *tokens, const struct clients_login *login,
                                   struct clients_identity *identity);
struct clients_answer tokens_known(struct tokens *tokens, const struct clients_login *login,
                                   struct clients_identity *identity);
void tokens_look(struct tokens *tokens);
/* Looks also if somebody has looked a moment ago. */
void tokens_look_now(struct tokens *tokens);

#endif
