/* Checks the passwords of an htpasswd file, and remembers right and wrong ones: see clients.h.
 * Private to login/. Threads: any. */
#ifndef LOGIN_PASSWORDS_H
#define LOGIN_PASSWORDS_H

#include "base/siphash.h"
#include "login/clients.h"
#include "login/failures.h"

struct passwords;

/* `failures` and `secret` must outlive the passwords. `waiting` as in struct clients_limits. NULL:
 * an error is set. */
struct passwords *passwords_new(const char *htpasswd, unsigned waiting, struct failures *failures,
                                const struct siphash_key *secret, struct error *error);
void passwords_free(struct passwords *passwords); /* NULL is allowed */

/* For clients_identify(), clients_known() and clients_look(), when the field is one of the scheme
 * Basic. */
struct clients_answer passwords_check(struct passwords *passwords,
                                      const struct clients_login *login,
                                      struct clients_identity *identity);
struct clients_answer passwords_known(struct passwords *passwords,
                                      const struct clients_login *login,
                                      struct clients_identity *identity);
void passwords_look(struct passwords *passwords);

#endif
