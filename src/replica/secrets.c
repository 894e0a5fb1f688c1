/* The lines of the file that all replicas have. */
#include "replica/secrets.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

struct secrets {
    size_t count;
    struct secret each[SECRETS_LIMIT];
};

static void write_id(struct secret *secret) {
    unsigned char hash[SHA256_DIGEST_LENGTH];
    SHA256(secret->bytes, secret->length, hash);
    snprintf(secret->id, sizeof secret->id, "%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
}

static bool add_secret(struct secrets *secrets, struct text line, struct error *error) {
    const size_t number = secrets->count + 1;
    if (line.length < SECRET_LEAST)
        return error_set(
            error, ERROR_INVALID,
            "line %zu has %zu bytes; a secret has at least %d (write one with: openssl "
            "rand -hex 32)",
            number, line.length, SECRET_LEAST);
    if (line.length > SECRET_MOST)
        return error_set(error, ERROR_INVALID, "line %zu has more than %d bytes", number,
                         SECRET_MOST);
    if (secrets->count == SECRETS_LIMIT)
        return error_set(error, ERROR_INVALID, "there are more than %d lines", SECRETS_LIMIT);
    struct secret *secret = &secrets->each[secrets->count++];
    memcpy(secret->bytes, line.at, line.length);
    secret->length = line.length;
    write_id(secret);
    return true;
}

static struct text without_line_end(struct text text) {
    while (text.length && (text.at[text.length - 1] == '\n' || text.at[text.length - 1] == '\r'))
        text.length--;
    return text;
}

struct secrets *secrets_parse(struct text text, struct error *error) {
    struct secrets *secrets = calloc(1, sizeof *secrets);
    if (!secrets) {
        error_set(error, ERROR_MEMORY, "no memory for secrets");
        return NULL;
    }
    struct text rest = without_line_end(text);
    bool ok = rest.length || error_set(error, ERROR_INVALID, "the file is empty");
    while (ok && rest.at) {
        struct text line = text_cut(rest, '\n', &rest);
        ok = add_secret(secrets, text_ends(line, "\r") ? without_line_end(line) : line, error);
    }
    if (ok)
        return secrets;
    secrets_free(secrets);
    return NULL;
}

void secrets_free(struct secrets *secrets) {
    if (secrets)
        OPENSSL_cleanse(secrets, sizeof *secrets);
    free(secrets);
}

const struct secret *secrets_first(const struct secrets *secrets) {
    return &secrets->each[0];
}

const struct secret *secrets_at(const struct secrets *secrets, size_t line) {
    return line < secrets->count ? &secrets->each[line] : NULL;
}

const struct secret *secrets_find(const struct secrets *secrets, struct text id) {
    for (size_t i = 0; i < secrets->count; i++) {
        if (text_is(id, secrets->each[i].id))
            return &secrets->each[i];
    }
    return NULL;
}
