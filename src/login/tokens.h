/* Checks bearer tokens by a JWK set, and remembers right ones: see clients.h. Private to login/.
 * Threads: any. */
#ifndef LOGIN_TOKENS_H
#define LOGIN_TOKENS_H

#include "base/siphash.h"
#include "login/clients.h"
#include "login/failures.h"

struct tokens;

/* `failures` and `secret` must outlive the tokens; the settings are copied. NULL: an error is set.
 */
struct tokens *tokens_new(const struct clients_token_settings *settings, struct failures *failures,
                          const struct siphash_key *secret, struct error *error);
void tokens_free(struct tokens *tokens); /* NULL is allowed */

/* For clients_identify(), clients_known() and clients_look(), when the field is one of the scheme
 * Bearer. */
struct clients_answer tokens_check(struct tokens *tokens, const struct clients_login *login,
                                   struct clients_identity *identity);
struct clients_answer tokens_known(struct tokens *tokens, const struct clients_login *login,
                                   struct clients_identity *identity);
void tokens_look(struct tokens *tokens);

#endif
