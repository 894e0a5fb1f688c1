/*
 * The secrets that all replicas have. A file has one in each line: the first signs, all are
 * accepted, so that one can be exchanged for another while the replicas run. A signature names its
 * secret by the first 8 hexadecimal digits of the secret's SHA-256.
 *
 * Pure; any thread. Secrets are wiped when they are freed.
 */
#ifndef REPLICA_SECRETS_H
#define REPLICA_SECRETS_H

#include <stddef.h>
#include "base/error.h"
#include "base/text.h"

enum {
    SECRET_LEAST = 32,  /* bytes of a line */
    SECRET_MOST = 1024, /* the same */
    SECRETS_LIMIT = 8,  /* lines */
    SECRET_ID_SIZE = 9, /* 8 digits and the NUL */
};

struct secret {
    char id[SECRET_ID_SIZE];
    size_t length;
    unsigned char bytes[SECRET_MOST];
};

struct secrets;

/* Reads the lines of a file; the caller wipes the text. Empty lines at the end are none; the line
 * end ("\n" or "\r\n") belongs to no secret. NULL: there is no secret, one is too short or too
 * long, there are too many, or out of memory; the error says which line. */
struct secrets *secrets_parse(struct text text, struct error *error);
void secrets_free(struct secrets *secrets); /* NULL is fine */

/* The one that signs. */
const struct secret *secrets_first(const struct secrets *secrets);
/* The one in this line, from 0 on; NULL: there are fewer. */
const struct secret *secrets_at(const struct secrets *secrets, size_t line);
/* The one with this id; NULL: there is none. */
const struct secret *secrets_find(const struct secrets *secrets, struct text id);

#endif
