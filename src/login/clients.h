/*
 * Who a client is: the user that it logs in as, or nobody.
 *
 * A client logs in by a password (RFC 7617 Basic, against an htpasswd file).
 *
 * A client that sends no credentials is anonymous. So is one that sends Basic credentials of an
 * empty user and an empty password, as skopeo and podman do when they have none. What each may read
 * is not decided here.
 *
 * Every hash that libcrypt knows is accepted (bcrypt, as `htpasswd -B` writes it, is recommended).
 * A plain-text password is refused. A successful check is remembered for a minute under a keyed
 * hash, so that an image's many requests cost one bcrypt, and a failed one for ten seconds. A user
 * that does not exist costs as much time as one that does. At most as many hashes are computed at
 * once as there are processors, and a bounded number of logins waits for its turn (turns.h). A
 * client address with too many failed logins is locked out for a while (failures.h). Each failed
 * login is logged with its user and address. The file is read again when it changes (watched.h).
 *
 * Threads: any number.
 */
#ifndef LOGIN_CLIENTS_H
#define LOGIN_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cancel.h"
#include "base/error.h"
#include "base/text.h"
#include "http/http.h"

struct clients;

/* What clients that log in may cost. */
struct clients_limits {
    unsigned failures; /* wrong passwords from one address within `within_ms` before it must wait */
    int64_t within_ms;
    unsigned waiting; /* requests that wait for a password's hash at the same time */
};

/* The limits with every default. */
struct clients_limits clients_limits_default(void);

/* By what clients can log in. Zeroed: nobody can. */
struct clients_settings {
    const char *htpasswd; /* NULL: not by a password */
    struct clients_limits limits;
};

/* Whether clients can log in with these settings. */
bool clients_are_asked(const struct clients_settings *settings);

/* Copies the settings. ERROR_INVALID names the file, the line, and the right form. */
struct clients *clients_new(const struct clients_settings *settings, struct error *error);
void clients_free(struct clients *clients); /* NULL is allowed */

struct clients_login {
    struct text authorization;          /* the field's value; at == NULL: there is none */
    const char *client;                 /* for the log: "1.2.3.4:567" */
    const struct http_address *address; /* NULL: the client is never locked out */
    const struct cancel *cancel;        /* whether the client still waits; NULL: it does */
};

enum { CLIENTS_USER_SIZE = 256 };

/* Who a client is. Zeroed: anonymous. */
struct clients_identity {
    char user[CLIENTS_USER_SIZE]; /* "": anonymous */
};

enum clients_verdict {
    CLIENTS_LOGGED_IN,
    CLIENTS_ANONYMOUS,  /* no credentials */
    CLIENTS_REFUSED,    /* malformed or wrong credentials */
    CLIENTS_MUST_CHECK, /* only clients_identify() can tell */
    CLIENTS_LOCKED_OUT, /* too many failed logins from this address */
    CLIENTS_TOO_MANY,   /* too many logins wait */
    CLIENTS_GONE        /* the client has left */
};

struct clients_answer {
    enum clients_verdict verdict;
    int retry_after_s; /* LOCKED_OUT, TOO_MANY */
};

/* Finds out who the client is. *identity is anonymous unless it is LOGGED_IN. May take the time of
 * a password hash, and wait for the turn to compute it; never CLIENTS_MUST_CHECK. */
struct clients_answer clients_identify(struct clients *clients, const struct clients_login *login,
                                       struct clients_identity *identity);

/* The same for a thread that must not wait, from memory alone: it makes no system call and does not
 * allocate, and no lock that it takes is held over I/O or a hash. A wrong password and an unknown
 * user are CLIENTS_MUST_CHECK, and cost the same. So is, once a second, one request, whose
 * clients_identify() then looks at the file, and every request when nobody has for three seconds;
 * unless clients_look() is called each second. */
struct clients_answer clients_known(struct clients *clients, const struct clients_login *login,
                                    struct clients_identity *identity);

/* Looks whether a file has changed, if nobody has for a second. May wait for the disk.
 * clients_identify() begins with it. */
void clients_look(struct clients *clients);

#endif
