/*
 * The replicas of this tarn while it runs: it keeps the list of members, knows the own one, and has
 * the secrets that requests between replicas are signed with.
 *
 * The members are those of a fixed list, or all addresses of a name, which is resolved every five
 * seconds. An empty or failing answer keeps the last list. The file of secrets is looked at every
 * second and read again when it has changed; what is wrong in it is logged, and what was read
 * before stays in use.
 *
 * The own member is the one that `self` names; else the one that an address of `listen` names
 * literally; else the one whose address is on an interface of this machine, with the own port. A
 * tarn that finds none is a guest.
 *
 * Threads: any, but for replicas_start() and replicas_free(). Only replicas_start() waits.
 */
#ifndef REPLICA_REPLICAS_H
#define REPLICA_REPLICAS_H

#include "replica/members.h"
#include "replica/signature.h"

struct file_reader;

struct replicas_settings {
    const char *dns;           /* the name of all members; NULL: there are peers */
    const char *const *peers;  /* their addresses, NULL at the end; NULL: there is dns */
    unsigned port;             /* of the members that dns names, 1 to 65535 */
    const char *secret_file;   /* NULL: there are no replicas, and nothing else is set */
    const char *self;          /* "ADDRESS" or "ADDRESS:PORT"; NULL: see above */
    const char *const *listen; /* the server's own addresses, NULL at the end */
    const char *tls_ca;        /* PEM file of authorities to trust between replicas; NULL: none */
    const char *tls_name;      /* the name in the members' certificates; NULL: their address */
};

/* Whether the settings are of replicas at all. */
static inline bool replicas_settings_are_given(const struct replicas_settings *given) {
    return given->secret_file != NULL;
}
/* Whether replicas speak https with each other. */
static inline bool replicas_settings_have_tls(const struct replicas_settings *given) {
    return given->tls_ca || given->tls_name;
}

/* The port that an address to listen on names; 0: none, or any. */
unsigned replicas_listen_port(const char *address);

/* Reads a file of secrets; a file system that does not answer within five seconds counts as hung.
 * *is_open: others than its owner and its group may read it. NULL: the error says why. `files`
 * NULL: out of memory. */
struct secrets *replicas_read_secrets(struct file_reader *files, const char *file, bool *is_open,
                                      struct error *error);
#define REPLICAS_OPEN_SECRETS "replicas.secret_file %s can be read by others; chmod 640 it"

struct replicas;

/* Reads the secrets, and takes peers. The settings must outlive the replicas. NULL: the secrets
 * cannot be used, or out of memory. */
struct replicas *replicas_new(const struct replicas_settings *settings, struct error *error);
/* Starts the threads, and waits for the first answer to dns, two seconds at most. */
bool replicas_start(struct replicas *replicas, struct error *error);
/* Ends the threads and frees all. False: the resolver hangs, and nothing was freed. NULL is fine.
 */
bool replicas_free(struct replicas *replicas);

const struct replicas_settings *replicas_settings(const struct replicas *replicas);
/* The members, for members.h. */
struct members *replicas_members(const struct replicas *replicas);

/* Whether work that one replica does for all, named by the key, is for this one: it owns the key,
 * or no member can be asked. Without replicas (NULL) all work is. */
bool replicas_own(const struct replicas *replicas, const char *key);

/* Whether this tarn is a member, and no guest. */
bool replicas_has_self(const struct replicas *replicas);
/* The same; *self is the own member. */
bool replicas_self(const struct replicas *replicas, struct member *self);

enum { REPLICAS_KEY_SIZE = 32 };

/* Makes a key for another purpose than signing, from the secret in a line of the file: 0 is the one
 * that signs. All replicas make the same one. False: there is no such line, or no memory. */
bool replicas_derive_key(struct replicas *replicas, size_t line, const char *purpose,
                         unsigned char out[static REPLICAS_KEY_SIZE]);

/* signature_make() and signature_is_good(), with the secrets of now. */
bool replicas_sign(struct replicas *replicas, const struct signed_request *request,
                   char input[static SIGNATURE_INPUT_SIZE], char signature[static SIGNATURE_SIZE]);
bool replicas_verify(struct replicas *replicas, const struct signed_request *request,
                     struct text input, struct text signature);

/* Names the metrics of the list before there is one. */
void replicas_declare_metrics(void);
/* Sets the gauge of members by state. NULL: there are none. */
void replicas_update_metrics(const struct replicas *replicas);

#endif
