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
 * A changed file counts for every request that comes later than three seconds after the change.
 *
 * Threads: any number.
 */
#ifndef REGISTRY_CLIENTS_H
#define REGISTRY_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/text.h"

struct clients;

/* What clients that log in may cost. */
struct clients_limits {
    unsigned failures; /* wrong passwords from one address within `within_ms` before it must wait */
    int64_t within_ms;
    unsigned waiting; /* requests that wait for a password's hash at the same time */
};

/* The limits with every default. */
struct clients_limits clients_limits_default(void);

/* ERROR_INVALID names the file, the line, and the right form. */
struct clients *clients_new(const char *htpasswd_file, struct error *error);
void clients_free(struct clients *clients); /* NULL is allowed */

/* Whether the value of an Authorization field (at == NULL: there was none) is Basic with a known
 * user and the right password. `user` gets the name, or "" when refused. May take the time of a
 * password hash. */
bool clients_allow(struct clients *clients, struct text authorization_header, char *user,
                   size_t size);

enum clients_verdict {
    CLIENTS_ALLOWED,   /* *user is the name */
    CLIENTS_REFUSED,   /* no credentials, or malformed ones */
    CLIENTS_MUST_CHECK /* only clients_allow() can tell */
};

/* The same for a thread that must not wait, from memory alone: it makes no system call and does not
 * allocate, and no lock that it takes is held over I/O or a hash. A wrong password and an unknown
 * user are CLIENTS_MUST_CHECK, and cost the same. So is, once a second, one request, whose
 * clients_allow() then checks the file, and every request when nobody has checked it for three
 * seconds; unless clients_look() is called each second. */
enum clients_verdict clients_known(struct clients *clients, struct text authorization_header,
                                   char *user, size_t size);

/* Checks whether the file has changed, if nobody has for a second. May wait for the disk.
 * clients_allow() begins with it. */
void clients_look(struct clients *clients);

#endif
