/* Where a federation's subject token comes from: a file, a URL, or a program. Inside google/. */
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

/* On the heap, to be wiped; NULL with the error set. Read anew each time: such tokens rotate. */
char *subject_token_get(const struct subject_question *question, struct error *error);

/* credential_source.executable: see there. */
char *subject_program_token(const struct subject_question *question, struct error *error);

/*
 * The pure half: what such a program printed, or its output file holds. NULL with the error set;
 * ERROR_NOT_FOUND: it has expired. `needs_end`: expiration_time must be there.
 */
char *subject_program_read(const char *text, int64_t now_s, bool needs_end, struct error *error);

/* The token out of what a file or URL holds, by credential_source.format: text, with white space
 * around it cut, or a member of a JSON object. */
char *subject_token_extract(const char *text, const json_t *source, struct error *error);

#endif
