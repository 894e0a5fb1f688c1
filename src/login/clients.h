/*
 * Who a client is: the user that it logs in as, or nobody.
 *
 * A client logs in by a password (RFC 7617 Basic, against an htpasswd file), by a token (RFC 6750
 * Bearer, as the Docker registry's token protocol has it, against a JWK set), or by a certificate
 * that the TLS server has verified. What the request says itself goes before the certificate.
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
 * login is logged with its user and address. The files are read again when they change (watched.h).
 *
 * A token is signed with RS256 or ES256, names the issuer and the service, and is not past its end
 * (jwt.h). It is remembered until its end. It opens only those repositories that it grants, and its
 * user is its subject; a token without one is an anonymous client's. A token that has been made up
 * counts as a failed login, one that has expired does not.
 *
 * Threads: any number.
 */
#ifndef LOGIN_CLIENTS_H
#define LOGIN_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/siphash.h"
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

/* Whose tokens are accepted. */
struct clients_token_settings {
    const char *realm;   /* URL of the service that issues tokens; the clients ask it */
    const char *service; /* what tarn is called there: `aud` of its tokens */
    const char *issuer;  /* `iss` of its tokens */
    const char *jwks;    /* file with its public keys; NULL: no tokens, and the rest is not read */
};

/* By what clients can log in. Zeroed: nobody can. */
struct clients_settings {
    const char *htpasswd; /* NULL: not by a password */
    const char *realm;    /* what the password is for; NULL: "tarn" */
    struct clients_token_settings token;
    bool certificates; /* by the certificate that struct clients_login names */
    struct clients_limits limits;
};

/* Whether clients can log in with these settings. */
bool clients_are_asked(const struct clients_settings *settings);

/*
 * Copies the settings. The caller has the one reference. ERROR_INVALID names the file, the line,
 * and the right form.
 *
 * `before` (NULL: nobody could log in) are the clients whose place these are to take. What is known
 * stays: the failed logins, and the passwords and tokens of files that are the same. Nothing
 * changes for `before` until clients_begin().
 */
struct clients *clients_new(const struct clients_settings *settings, const struct clients *before,
                            struct error *error);
struct clients *clients_hold(struct clients *clients); /* one more reference, unless it is NULL */
void clients_release(struct clients *clients);         /* NULL is allowed */

/* Takes the limits of these clients' settings, and looks whether their files have changed: from now
 * on they are in the place of those before. Clients without any before have begun. */
void clients_begin(struct clients *clients);

struct clients_login {
    struct text authorization;          /* the field's value; at == NULL: there is none */
    const char *certificate;            /* the user that a verified certificate names, or NULL */
    const char *client;                 /* for the log: "1.2.3.4:567" */
    const struct http_address *address; /* NULL: the client is never locked out */
    const struct cancel *cancel;        /* whether the client still waits; NULL: it does */
};

enum { CLIENTS_USER_SIZE = 256, CLIENTS_GRANTS_LIMIT = 32 /* repositories of one token */ };

/* Who a client is. Zeroed: anonymous. */
struct clients_identity {
    char user[CLIENTS_USER_SIZE]; /* "": anonymous */
    bool is_by_token;             /* what follows limits what the client may read */
    bool may_list;                /* the catalog */
    unsigned grant_count;
    struct siphash_tag grants[CLIENTS_GRANTS_LIMIT]; /* names of repositories: clients_grants() */
    unsigned char granted[CLIENTS_GRANTS_LIMIT]; /* what may be done there: enum clients_action */
};

/* What a token lets its client do in a repository; a set of them is their sum. */
enum clients_action { CLIENTS_PULL = 1, CLIENTS_PUSH = 2, CLIENTS_DELETE = 4 };

enum clients_verdict {
    CLIENTS_LOGGED_IN,  /* the credentials are right */
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

/* Whether the client may do this in the repository that it calls `name`, as far as its token is
 * concerned. Never waits. */
bool clients_grants_action(const struct clients *clients, const struct clients_identity *identity,
                           struct text name, enum clients_action action);
/* The same for CLIENTS_PULL. */
bool clients_grants(const struct clients *clients, const struct clients_identity *identity,
                    struct text name);

/* Appends the value of WWW-Authenticate for a request without right credentials. `scope` is what a
 * token has to grant ("repository:org/app:pull"; may be empty), `fault` is what is wrong with the
 * token that was sent (RFC 6750 §3.1; NULL: nothing). `by_people`: a browser asks, which knows no
 * tokens. False: out of memory. */
bool clients_challenge(const struct clients *clients, struct text scope, const char *fault,
                       bool by_people, struct buffer *out);

/* What a client without right credentials needs, as a sentence for people. */
const char *clients_advice(const struct clients *clients);

#endif
