/*
 * What the configuration says about the bucket: where it is, who asks, and how. Pure.
 *
 * The strings are borrowed; bucket_new() copies them.
 */
#ifndef BUCKET_SETTINGS_H
#define BUCKET_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include "auth/google/google.h"
#include "base/error.h"

enum {
    BUCKET_NAME_LIMIT = 63,
    BUCKET_PREFIX_LIMIT = 255,
    BUCKET_CONNECTIONS_LIMIT = 64, /* the most that `connections` may be */
    BUCKET_UPLOADS_LIMIT = 64,     /* the most that `uploads` may be */
};
#define BUCKET_PART_SIZE_LEAST ((uint64_t)5 << 20)
#define BUCKET_PART_SIZE_MOST  ((uint64_t)512 << 20)

enum bucket_kind { BUCKET_NONE, BUCKET_S3, BUCKET_GOOGLE };

/* Where the bucket is: s3://NAME[/PREFIX] or gs://NAME[/PREFIX]. Zeroed: there is no bucket. */
struct bucket_address {
    enum bucket_kind kind;
    char name[BUCKET_NAME_LIMIT + 1];
    char prefix[BUCKET_PREFIX_LIMIT + 1]; /* without '/' at its ends; "": none */
};

/*
 * Reads a url. The name has 3 to 63 of a-z 0-9 . - (gs:// also _) and begins and ends with a letter
 * or digit. The prefix is of A-Z a-z 0-9 . _ / -, without an empty, "." or ".." part. False:
 * ERROR_INVALID, whose text says what is wrong without naming the key.
 */
bool bucket_address_parse(const char *url, struct bucket_address *out, struct error *error);

enum { BUCKET_LABEL_SIZE = 5 + BUCKET_NAME_LIMIT + 1 + BUCKET_PREFIX_LIMIT + 1 };
/* Writes "s3://NAME/PREFIX", or "s3://NAME" without a prefix. Returns `out`. */
const char *bucket_address_write(const struct bucket_address *address,
                                 char out[static BUCKET_LABEL_SIZE]);

enum bucket_style { BUCKET_STYLE_AUTO, BUCKET_STYLE_PATH, BUCKET_STYLE_HOST };

enum bucket_credentials {
    BUCKET_CREDENTIALS_DEFAULT, /* AWS's for s3://, Google's for gs:// */
    BUCKET_CREDENTIALS_AWS,
    BUCKET_CREDENTIALS_GOOGLE,
    BUCKET_CREDENTIALS_ANONYMOUS,
    BUCKET_CREDENTIALS_KEY, /* key_id and secret_file */
};

struct bucket_settings {
    struct bucket_address address; /* `url` */
    const char *endpoint;          /* "https://s3.example:9000"; NULL: AWS's, or Google's */
    const char *region;            /* NULL: environment, profile, machine, else learnt */
    enum bucket_style path_style;
    enum bucket_credentials credentials;
    const char *aws_profile;       /* AWS: NULL: $AWS_PROFILE */
    const char *aws_file;          /* AWS: the shared credentials file; NULL: the usual one */
    struct google_settings google; /* GOOGLE: zeroed: search */
    const char *key_id;            /* KEY */
    const char *secret_file;       /* KEY: holds the secret; read again when it is refused */
    const char *secret;            /* KEY: in place of secret_file, as CNCF's registry gives it */
    const char *ca_file;           /* PEM bundle; NULL: the system's */
    unsigned connections;          /* ranges at once for one blob; not 0 */
    unsigned uploads;              /* blobs uploaded at once; not 0 */
    uint64_t part_size;            /* bytes of a part */
    int64_t patience_ms;           /* a head that is not here by then is not waited for; not 0 */
    bool read_only;                /* nothing is written */
    int64_t retention_ms;          /* since last use; 0: tarn removes nothing by age */
    uint64_t max_size;             /* bytes; 0: no limit */
    const char *storage_class;     /* NULL: the bucket's */
    const char *encryption;        /* "AES256", "aws:kms", "aws:kms:dsse"; NULL: the bucket's */
    const char *kms_key;           /* with encryption aws:kms; NULL: the account's */
};

/* Settings with every default, and without a bucket. */
struct bucket_settings bucket_settings_default(void);

/* Whose credentials these settings mean: never BUCKET_CREDENTIALS_DEFAULT. */
enum bucket_credentials bucket_settings_credentials(const struct bucket_settings *settings);

/*
 * Whether the settings fit together: an endpoint is http or https, with a host and without path,
 * query and user; a token of Google's goes over http to this machine only; part_size is from 5 MiB
 * to 512 MiB; `encryption` is one that exists; kms_key needs aws:kms; what goes into a header is
 * printable ASCII. False: ERROR_INVALID, and *key is the key that is wrong ("endpoint",
 * "part_size", "credentials.key_id"), a literal. Files are not read.
 */
bool bucket_settings_check(const struct bucket_settings *settings, const char **key,
                           struct error *error);

/* Whether a bucket of the one would behave as a bucket of the other. */
bool bucket_settings_equal(const struct bucket_settings *a, const struct bucket_settings *b);

#endif
