/*
 * Which clients may read: an htpasswd file of tarn's own clients.
 *
 * Every hash that libcrypt knows is accepted (bcrypt, as `htpasswd -B` writes it, is recommended).
 * A plain-text password is refused. The file is read again when it changes. If it has become
 * unreadable or wrong, that is logged, and the users known before stay. A successful check is
 * remembered for a minute under a keyed hash, so that an image's many requests cost one bcrypt; a
 * user that does not exist costs as much time as one that does. At most as many hashes are computed
 * at once as there are processors.
 *
 * Threads: any number.
 */
#ifndef REGISTRY_CLIENTS_H
#define REGISTRY_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "base/text.h"

struct clients;

/* ERROR_INVALID names the file, the line, and the right form. */
struct clients *clients_new(const char *htpasswd_file, struct error *error);
void clients_free(struct clients *clients); /* NULL is allowed */

/* Whether the value of an Authorization field (at == NULL: there was none) is Basic with a known
 * user and the right password. `user` gets the name, or "" when refused. May take the time of a
 * password hash. */
bool clients_allow(struct clients *clients, struct text authorization_header, char *user,
                   size_t size);

#endif
