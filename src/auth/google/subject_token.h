/* Where a federation's subject token comes from: a file, a URL, or a program. Private to
 * auth/google/. */
#ifndef AUTH_GOOGLE_SUBJECT_TOKEN_H
#define AUTH_GOOGLE_SUBJECT_TOKEN_H

#include <jansson.h>
#include "base/error.h"

enum { SUBJECT_TOKEN_LIMIT = 256 * 1024 };

struct subject_question {
    struct client *client;
    const json_t *source;   /* credential_source */
    const char *audience;   /* the federation's */
    const char *token_type; /* urn:ietf:params:oauth:token-type:… */
    const char *account;    /* the service account to act as; NULL: none */
};

/* The token on the heap, which the caller wipes; NULL with the error set. It is read each time,
 * because such tokens are replaced often. */
char *subject_token_get(const struct subject_question *question, struct error *error);

/* The same for credential_source.executable (subject_program.c). */
char *subject_program_token(const struct subject_question *question, struct error *error);

/*
 * Reads what such a program printed, or what its output file holds. `needs_end`: expiration_time
 * must be there. NULL with the error set; ERROR_NOT_FOUND: the token has expired. Pure.
 */
char *subject_program_read(const char *text, int64_t now_s, bool needs_end, struct error *error);

/* Reads the token from what a file or a URL holds, by credential_source.format: as text, without
 * white space around it, or as a member of a JSON object. Pure. */
char *subject_token_extract(const char *text, const json_t *source, struct error *error);

#endif
