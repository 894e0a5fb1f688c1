/* Checks the passwords of an htpasswd file, and remembers right and wrong ones: see clients.h.
 * Private to login/. Threads: any. */
#ifndef LOGIN_PASSWORDS_H
#define LOGIN_PASSWORDS_H

#include "login/clients.h"
#include "login/failures.h"

struct passwords;

/* The caller has the one reference. They hold a reference to `failures`, whose key hides what they
 * remember. NULL: an error is set. */
struct passwords *passwords_new(const char *htpasswd, struct failures *failures,
                                struct error *error);
struct passwords *passwords_hold(struct passwords *passwords); /* one more reference */
void passwords_release(struct passwords *passwords);           /* NULL is allowed */

/* Whether they are those of this file. */
bool passwords_are_of(const struct passwords *passwords, const char *htpasswd);
/* From now on so many requests may wait, as in struct clients_limits. */
void passwords_change(struct passwords *passwords, unsigned waiting);

/* For clients_identify(), clients_known() and clients_look(), when the field is one of the scheme
 * Basic. */
struct clients_answer passwords_check(struct passwords *passwords,
                                      const struct clients_login *login,
                                      struct clients_identity *identity);
struct clients_answer passwords_known(struct passwords *passwords,
                                      const struct clients_login *login,
                                      struct clients_identity *identity);
void passwords_look(struct passwords *passwords);
/* Looks also if somebody has looked a moment ago. */
void passwords_look_now(struct passwords *passwords);

#endif
