/* Reads and checks what the configuration says about the bucket. */
#include "bucket/settings.h"

#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "client/address.h"
#include "client/origin.h"

#define LETTERS_AND_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789"

enum {
    CONNECTIONS = 8,
    UPLOADS = 4,
    PATIENCE_MS = 1000,
    NAME_LEAST = 3,
    REGION_LIMIT = 63, /* a region is a label of a host name */
    HEADER_LIMIT = 1024,
};
#define PART_SIZE    ((uint64_t)16 << 20)
#define RETENTION_MS ((int64_t)30 * 24 * 3600 * 1000)

struct bucket_settings bucket_settings_default(void) {
    return (struct bucket_settings){
        .connections = CONNECTIONS,
        .uploads = UPLOADS,
        .part_size = PART_SIZE,
        .patience_ms = PATIENCE_MS,
        .retention_ms = RETENTION_MS,
    };
}

enum bucket_credentials bucket_settings_credentials(const struct bucket_settings *settings) {
    if (settings->credentials != BUCKET_CREDENTIALS_DEFAULT)
        return settings->credentials;
    return settings->address.kind == BUCKET_GOOGLE ? BUCKET_CREDENTIALS_GOOGLE
                                                   : BUCKET_CREDENTIALS_AWS;
}

/* ---- the url ---- */

static bool is_edge(char byte) {
    return byte && strchr(LETTERS_AND_DIGITS, byte);
}

static bool read_name(struct text name, struct bucket_address *out, struct error *error) {
    bool google = out->kind == BUCKET_GOOGLE;
    const char *allowed = google ? LETTERS_AND_DIGITS ".-_" : LETTERS_AND_DIGITS ".-";
    if (name.length == 0)
        return error_set(error, ERROR_INVALID,
                         "names no bucket: write %s://NAME or "
                         "%s://NAME/PREFIX",
                         google ? "gs" : "s3", google ? "gs" : "s3");
    if (name.length < NAME_LEAST || name.length > BUCKET_NAME_LIMIT)
        return error_set(error, ERROR_INVALID, "the bucket's name must have %d to %d characters",
                         NAME_LEAST, BUCKET_NAME_LIMIT);
    for (size_t i = 0; i < name.length; i++) {
        if (!name.at[i] || !strchr(allowed, name.at[i]))
            return error_set(error, ERROR_INVALID,
                             "the bucket's name may have a-z, 0-9, '.'%s and "
                             "'-' only",
                             google ? ", '_'" : "");
    }
    if (!is_edge(name.at[0]) || !is_edge(name.at[name.length - 1]))
        return error_set(error, ERROR_INVALID,
                         "the bucket's name must begin and end with a letter or a digit");
    return text_copy(name, out->name, sizeof out->name);
}

static bool read_prefix(struct text prefix, struct bucket_address *out, struct error *error) {
    struct text rest = prefix;
    for (size_t i = 0; i < prefix.length; i++) {
        if (!prefix.at[i] ||
            !strchr(LETTERS_AND_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ._/-", prefix.at[i]))
            return error_set(error, ERROR_INVALID,
                             "the prefix may have A-Z, a-z, 0-9, '.', '_', '/' and '-' only");
    }
    do {
        struct text part = text_cut(rest, '/', &rest);
        if (part.length == 0 || text_is(part, ".") || text_is(part, ".."))
            return error_set(error, ERROR_INVALID,
                             "the prefix must not have an empty, '.' or '..' part");
    } while (rest.at);
    return text_copy(prefix, out->prefix, sizeof out->prefix) ||
           error_set(error, ERROR_INVALID, "the prefix is longer than %d characters",
                     BUCKET_PREFIX_LIMIT);
}

bool bucket_address_parse(const char *url, struct bucket_address *out, struct error *error) {
    struct text prefix;
    *out = (struct bucket_address){0};
    struct bucket_address read = {.kind = strncmp(url, "s3://", 5) == 0   ? BUCKET_S3
                                          : strncmp(url, "gs://", 5) == 0 ? BUCKET_GOOGLE
                                                                          : BUCKET_NONE};
    if (read.kind == BUCKET_NONE)
        return error_set(error, ERROR_INVALID,
                         "must be s3://NAME, s3://NAME/PREFIX, gs://NAME or gs://NAME/PREFIX");
    struct text name = text_cut(text_of(url + 5), '/', &prefix);
    if (!read_name(name, &read, error) || (prefix.at && !read_prefix(prefix, &read, error)))
        return false;
    *out = read;
    return true;
}

const char *bucket_address_write(const struct bucket_address *address,
                                 char out[static BUCKET_LABEL_SIZE]) {
    snprintf(out, BUCKET_LABEL_SIZE, "%s://%s%s%s", address->kind == BUCKET_GOOGLE ? "gs" : "s3",
             address->name, address->prefix[0] ? "/" : "", address->prefix);
    return out;
}

/* ---- what must fit together ---- */

static bool check_endpoint(const struct bucket_settings *settings, struct error *error) {
    struct origin origin;
    if (!settings->endpoint)
        return true;
    if (!origin_parse(settings->endpoint, &origin))
        return error_set(error, ERROR_INVALID,
                         "must be https://HOST[:PORT] or http://HOST[:PORT], without a user");
    const char *host = strstr(settings->endpoint, "://") + 3, *end = strpbrk(host, "/?#");
    if (end && strcmp(end, "/") != 0)
        return error_set(error, ERROR_INVALID,
                         "must end after the host or the port: a prefix belongs in url");
    if (!origin.https && bucket_settings_credentials(settings) == BUCKET_CREDENTIALS_GOOGLE &&
        address_classify_host(origin.host) != ADDRESS_LOOPBACK)
        return error_set(error, ERROR_INVALID,
                         "must be https: a Google token is sent over http to this machine only");
    return true;
}

static bool check_region(const char *region, struct error *error) {
    size_t length = region ? strlen(region) : 0;
    if (!region ||
        (length > 0 && length <= REGION_LIMIT && is_edge(region[0]) &&
         is_edge(region[length - 1]) && strspn(region, LETTERS_AND_DIGITS "-") == length))
        return true;
    return error_set(error, ERROR_INVALID,
                     "must be the name of a region, of a-z, 0-9 and '-', as eu-central-1");
}

/* Whether a text can stand in a header. */
static bool check_word(const char *word, struct error *error) {
    size_t length = word ? strlen(word) : 1;
    for (const char *at = word; at && *at; at++) {
        if (*at <= ' ' || *at > '~')
            return error_set(error, ERROR_INVALID,
                             "must be of visible ASCII characters, without spaces");
    }
    if (length == 0 || length > HEADER_LIMIT)
        return error_set(error, ERROR_INVALID, "must have 1 to %d characters", HEADER_LIMIT);
    return true;
}

static bool check_encryption(const char *encryption, struct error *error) {
    if (!encryption || strcmp(encryption, "AES256") == 0 || strcmp(encryption, "aws:kms") == 0 ||
        strcmp(encryption, "aws:kms:dsse") == 0)
        return true;
    return error_set(error, ERROR_INVALID, "must be AES256, aws:kms or aws:kms:dsse");
}

static bool check_kms_key(const struct bucket_settings *settings, struct error *error) {
    const char *encryption = settings->encryption;
    if (settings->kms_key && (!encryption || strncmp(encryption, "aws:kms", 7) != 0))
        return error_set(error, ERROR_INVALID, "needs encryption: aws:kms");
    return check_word(settings->kms_key, error);
}

static bool check_part_size(uint64_t size, struct error *error) {
    if (size >= BUCKET_PART_SIZE_LEAST && size <= BUCKET_PART_SIZE_MOST)
        return true;
    return error_set(error, ERROR_INVALID, "must be from 5MiB to 512MiB");
}

bool bucket_settings_check(const struct bucket_settings *settings, const char **key,
                           struct error *error) {
    *key = "endpoint";
    if (!check_endpoint(settings, error))
        return false;
    *key = "region";
    if (!check_region(settings->region, error))
        return false;
    *key = "credentials.key_id";
    if (!check_word(settings->key_id, error))
        return false;
    *key = "part_size";
    if (!check_part_size(settings->part_size, error))
        return false;
    *key = "storage_class";
    if (!check_word(settings->storage_class, error))
        return false;
    *key = "encryption";
    if (!check_encryption(settings->encryption, error))
        return false;
    *key = "kms_key";
    return check_kms_key(settings, error);
}

/* ---- change ---- */

static bool same(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_google(const struct google_settings *a, const struct google_settings *b) {
    return same(a->file, b->file) && same(a->metadata, b->metadata) && a->gcloud == b->gcloud &&
           same(a->impersonate, b->impersonate) && text_lists_equal(a->scopes, b->scopes);
}

static bool same_credentials(const struct bucket_settings *a, const struct bucket_settings *b) {
    return bucket_settings_credentials(a) == bucket_settings_credentials(b) &&
           same(a->aws_profile, b->aws_profile) && same(a->aws_file, b->aws_file) &&
           same_google(&a->google, &b->google) && same(a->key_id, b->key_id) &&
           same(a->secret_file, b->secret_file) && same(a->secret, b->secret);
}

bool bucket_settings_equal(const struct bucket_settings *a, const struct bucket_settings *b) {
    return a->address.kind == b->address.kind && strcmp(a->address.name, b->address.name) == 0 &&
           strcmp(a->address.prefix, b->address.prefix) == 0 && same(a->endpoint, b->endpoint) &&
           same(a->region, b->region) && a->path_style == b->path_style && same_credentials(a, b) &&
           same(a->ca_file, b->ca_file) && a->connections == b->connections &&
           a->uploads == b->uploads && a->part_size == b->part_size &&
           a->patience_ms == b->patience_ms && a->read_only == b->read_only &&
           a->retention_ms == b->retention_ms && a->max_size == b->max_size &&
           same(a->storage_class, b->storage_class) && same(a->encryption, b->encryption) &&
           same(a->kms_key, b->kms_key);
}
