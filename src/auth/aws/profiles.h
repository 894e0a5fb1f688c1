/*
 * The profiles of AWS's shared files, ~/.aws/config and ~/.aws/credentials (AWS SDK reference,
 * "Shared config and credentials files"). Private to auth/aws/. Pure; hostile input.
 *
 * A file has sections `[NAME]`, or `[profile NAME]` in the config file, and in them lines
 * `key = value`. A line that begins with # or ; is a comment, and one that begins with a blank
 * belongs to the key before it. Keys have no case. A section that comes twice is one, and of a key
 * that comes twice the last counts.
 */
#ifndef AUTH_AWS_PROFILES_H
#define AUTH_AWS_PROFILES_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "base/text.h"

enum { AWS_PROFILES_FILE_LIMIT = 1 << 20, AWS_PROFILES_KEYS_LIMIT = 20000 };

enum aws_profiles_kind { AWS_PROFILES_CREDENTIALS, AWS_PROFILES_CONFIG };

struct aws_profiles_entry {
    struct text profile; /* "default"; empty: of a section that is no profile */
    struct text key;     /* empty: the section's beginning */
    const char *value;
};

/* All texts are in `bytes`, which the caller keeps, and wipes. */
struct aws_profiles {
    struct aws_profiles_entry *entries; /* owned */
    size_t count;
};
void aws_profiles_finish(struct aws_profiles *profiles); /* safe on zeroed */
#define cleanup_aws_profiles __attribute__((cleanup(aws_profiles_finish)))

/* Reads `bytes`, which end with NUL, and puts a NUL behind each value. False: ERROR_INVALID, which
 * says in which line, or ERROR_MEMORY; *out is then empty. */
bool aws_profiles_read(char *bytes, enum aws_profiles_kind kind, struct aws_profiles *out,
                       struct error *error);

bool aws_profiles_has(const struct aws_profiles *profiles, const char *profile);
/* The value of a key; NULL: the profile does not have it, or has it without a value. */
const char *aws_profiles_get(const struct aws_profiles *profiles, const char *profile,
                             const char *key);

#endif
