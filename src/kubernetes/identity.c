/* As whom a cluster is asked: reads it, keeps it, renews it. */
#include "kubernetes/identity.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/once.h"
#include "base/secret.h"
#include "kubernetes/exec_credential.h"

enum {
    REREAD_MS = 60000,      /* Kubernetes replaces a token long before it ends */
    FAILED_MS = 5000,       /* then a file that could not be read is tried again */
    TOKEN_LIMIT = 64 << 10, /* bytes */
    PEM_LIMIT = 1 << 20,    /* bytes */
};

/* A proof with what it owns. */
struct held_proof {
    struct identity_proof proof; /* the first member, so that a pointer to it is one to this */
    atomic_uint holders;
    char *authorities, *certificate, *key;
};

struct identity {
    const struct kubeconfig *config;
    struct client *client;
    struct lock now_lock;
    struct condition read;
    struct once once GUARDED_BY(now_lock);
    struct held_proof *now GUARDED_BY(now_lock); /* NULL: nothing was read yet */
    int64_t reread_ms GUARDED_BY(now_lock);      /* clock_ms() at which `now` is too old */
    struct exec_credential printed;              /* by the program; for the thread that reads */
    bool has_printed;                            /* the same */
};

/* ---- a proof ---- */

static void proof_free(struct held_proof *proof) {
    if (!proof || atomic_fetch_sub(&proof->holders, 1) > 1)
        return;
    secret_free(&proof->proof.authorization);
    secret_free(&proof->key);
    free(proof->certificate);
    free(proof->authorities);
    free(proof);
}

static void cleanup_proof_call(struct held_proof **proof) {
    proof_free(*proof);
}
#define cleanup_proof __attribute__((cleanup(cleanup_proof_call)))

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* A copy of `data`, or what the file holds; NULL in *out when neither is given. */
static bool read_pem(const char *data, const char *file, const char *what, char **out,
                     struct error *error) {
    if (data)
        *out = strdup(data);
    else if (file)
        *out = file_read_small(file, PEM_LIMIT, FILE_REGULAR | FILE_TEXT, NULL, NULL, error);
    else
        return true;
    if (*out)
        return true;
    return data ? no_memory(error) : error_wrap(error, "%s %.200s", what, file);
}

/* ---- the header ---- */

/* A token is printable ASCII (RFC 6750 §2.1): a line break would end the header. */
static bool is_token(struct text token) {
    for (size_t i = 0; i < token.length; i++) {
        if (token.at[i] <= ' ' || token.at[i] > '~')
            return false;
    }
    return token.length > 0;
}

static bool set_bearer(struct held_proof *proof, struct text token, const char *from,
                       struct error *error) {
    while (token.length && strchr(" \t\r\n", token.at[token.length - 1]))
        token.length--;
    while (token.length && strchr(" \t\r\n", *token.at))
        token = text_from(token, 1);
    if (!is_token(token))
        return error_set(error, ERROR_INVALID, "%s is no token (printable characters, no spaces)",
                         from);
    proof->proof.authorization = malloc(sizeof "Authorization: Bearer " + token.length);
    if (!proof->proof.authorization)
        return no_memory(error);
    sprintf(proof->proof.authorization, "Authorization: Bearer %.*s", TEXT_PRINT(token));
    return true;
}

static bool set_basic(struct held_proof *proof, const struct kubeconfig *config,
                      struct error *error) {
    size_t length = strlen(config->username) + 1 + strlen(config->password);
    cleanup_secret char *pair = malloc(length + 1);
    if (!pair)
        return no_memory(error);
    sprintf(pair, "%s:%s", config->username, config->password);
    cleanup_secret char *encoded = base64_encode(pair, length);
    if (!encoded)
        return no_memory(error);
    proof->proof.authorization = malloc(sizeof "Authorization: Basic " + strlen(encoded));
    if (!proof->proof.authorization)
        return no_memory(error);
    sprintf(proof->proof.authorization, "Authorization: Basic %s", encoded);
    return true;
}

/* ---- reading ---- */

/* The token of the file; the kubeconfig's own token stands in while there is no such file. */
static bool read_token(const struct kubeconfig *config, struct held_proof *proof,
                       struct error *error) {
    char from[300];
    if (!config->token_file)
        return !config->token || set_bearer(proof, text_of(config->token), "`token`", error);
    cleanup_secret char *bytes =
        file_read_small(config->token_file, TOKEN_LIMIT, FILE_REGULAR, NULL, NULL, error);
    if (!bytes && config->token)
        return set_bearer(proof, text_of(config->token), "`token`", error);
    if (!bytes)
        return error_wrap(error, "the token in %.200s", config->token_file);
    snprintf(from, sizeof from, "%.200s", config->token_file);
    return set_bearer(proof, text_of(bytes), from, error);
}

/* Whether what the program printed can still be used. */
static bool is_printed_usable(const struct identity *identity) {
    return identity->has_printed && clock_wall_s() < identity->printed.expires_s;
}

static bool read_program(struct identity *identity, struct held_proof *proof, bool renew,
                         struct error *error) {
    if (renew || !is_printed_usable(identity)) {
        struct text authority = text_of(proof->authorities);
        struct exec_credential printed;
        if (!exec_credential_run(identity->client, identity->config, authority, &printed, error))
            return false;
        exec_credential_wipe(&identity->printed);
        identity->printed = printed;
        identity->has_printed = true;
    }
    const struct exec_credential *printed = &identity->printed;
    if (printed->certificate) {
        free(proof->certificate);
        secret_free(&proof->key);
        proof->certificate = strdup(printed->certificate);
        proof->key = strdup(printed->key);
        if (!proof->certificate || !proof->key)
            return no_memory(error);
    }
    return !printed->token ||
           set_bearer(proof, text_of(printed->token), "the program's output", error);
}

/* Reads all that a proof is made of. NULL: the error is set. */
static struct held_proof *read_proof(struct identity *identity, bool renew, struct error *error) {
    const struct kubeconfig *config = identity->config;
    cleanup_proof struct held_proof *proof = calloc(1, sizeof *proof);
    if (!proof) {
        no_memory(error);
        return NULL;
    }
    atomic_init(&proof->holders, 1);
    bool ok = read_pem(config->authority_data, config->authority_file, "certificate-authority",
                       &proof->authorities, error) &&
              read_pem(config->certificate_data, config->certificate_file, "client-certificate",
                       &proof->certificate, error) &&
              read_pem(config->key_data, config->key_file, "client-key", &proof->key, error) &&
              (config->exec.command ? read_program(identity, proof, renew, error)
               : config->username   ? set_basic(proof, config, error)
                                    : read_token(config, proof, error));
    if (!ok)
        return NULL;
    proof->proof.tls = (struct client_tls){
        .authorities = text_of(proof->authorities),
        .certificate = text_of(proof->certificate),
        .key = text_of(proof->key),
        .server_name = config->server_name,
        .insecure = config->insecure,
    };
    return take(proof);
}

/* When what was read now is too old, on clock_ms(). */
static int64_t find_reread(const struct identity *identity) {
    const struct kubeconfig *config = identity->config;
    bool files = config->authority_file || config->certificate_file || config->token_file;
    int64_t now = clock_ms(), due = files ? now + REREAD_MS : INT64_MAX;
    if (config->exec.command && identity->printed.expires_s != INT64_MAX) {
        int64_t left_s = identity->printed.expires_s - clock_wall_s();
        int64_t ends = now + (left_s > 0 && left_s < 1 << 30 ? left_s * 1000 : 0);
        if (left_s < 1 << 30 && ends < due)
            due = ends;
    }
    return due;
}

/* Without the lock: reads. With the lock again: stores what was read. */
static void renew_now(struct identity *identity, bool renew) REQUIRES(identity->now_lock);

static void renew_now(struct identity *identity, bool renew) {
    struct error error = {0};
    bool expired = identity->config->exec.command && !is_printed_usable(identity);
    lock_release(&identity->now_lock);
    struct held_proof *proof = read_proof(identity, renew, &error);
    lock_acquire(&identity->now_lock);
    if (proof) {
        proof_free(identity->now);
        identity->now = proof;
        identity->reread_ms = find_reread(identity);
        once_publish(&identity->once, &identity->read, NULL);
        return;
    }
    if (identity->now && !expired && error.kind != ERROR_MEMORY) {
        log_at(LOG_WARN, "cannot read the Kubernetes credentials again",
               LOG_STRING("error", error.text));
        identity->reread_ms = clock_ms() + FAILED_MS;
        once_publish(&identity->once, &identity->read, NULL);
        return;
    }
    once_publish(&identity->once, &identity->read, &error);
}

/* ---- for the others ---- */

struct identity *identity_new(const struct kubeconfig *config, struct client *client) {
    struct identity *identity = calloc(1, sizeof *identity);
    if (!identity)
        return NULL;
    identity->config = config;
    identity->client = client;
    identity->printed.expires_s = INT64_MAX;
    lock_init(&identity->now_lock);
    condition_init(&identity->read);
    return identity;
}

void identity_free(struct identity *identity) {
    if (!identity)
        return;
    proof_free(identity->now);
    exec_credential_wipe(&identity->printed);
    condition_finish(&identity->read);
    lock_finish(&identity->now_lock);
    free(identity);
}

static const struct identity_proof *hold_now(struct identity *identity)
    REQUIRES(identity->now_lock);

static const struct identity_proof *hold_now(struct identity *identity) {
    atomic_fetch_add(&identity->now->holders, 1);
    return &identity->now->proof;
}

const struct identity_proof *identity_hold(struct identity *identity,
                                           const struct identity_proof *refused,
                                           struct error *error) {
    const struct identity_proof *held = NULL;
    bool settled = false, failed = false;
    lock_acquire(&identity->now_lock);
    while (!settled) {
        bool renew = refused && identity->now && &identity->now->proof == refused;
        if (identity->now && !renew && clock_ms() < identity->reread_ms)
            break;
        switch (once_take_turn(&identity->once, &identity->read, &identity->now_lock, renew,
                               INT64_MAX)) {
        case ONCE_ASK:
            renew_now(identity, renew);
            settled = true;
            break;
        case ONCE_SHARED:
            settled = true;
            break;
        case ONCE_LATE:
        case ONCE_LOOK:
            break;
        }
        failed = settled && once_failed(&identity->once, error);
    }
    if (!failed && identity->now)
        held = hold_now(identity);
    lock_release(&identity->now_lock);
    return held;
}

void identity_release(const struct identity_proof *proof) {
    proof_free((struct held_proof *)proof);
}

bool identity_is_renewable(const struct identity *identity) {
    const struct kubeconfig *config = identity->config;
    return config->token_file || config->exec.command || config->authority_file ||
           config->certificate_file;
}

const char *identity_kind(const struct identity *identity, char *out, size_t size) {
    const struct kubeconfig *config = identity->config;
    if (config->exec.command)
        snprintf(out, size, "the program %.150s", config->exec.command);
    else if (config->token_file)
        snprintf(out, size, "the token in %.150s", config->token_file);
    else if (config->token)
        snprintf(out, size, "a token of the kubeconfig");
    else if (config->username)
        snprintf(out, size, "a user name and a password");
    else if (config->certificate_data)
        snprintf(out, size, "a certificate of the kubeconfig");
    else if (config->certificate_file)
        snprintf(out, size, "the certificate in %.150s", config->certificate_file);
    else
        snprintf(out, size, "no credential");
    return out;
}
