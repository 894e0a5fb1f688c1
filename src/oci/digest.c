/* Digests: parsing, formatting, and hashing with OpenSSL. */
#include "oci/digest.h"

#include <openssl/evp.h>
#include <stdlib.h>

static size_t digest_size(enum digest_algorithm algorithm) {
    switch (algorithm) {
    case DIGEST_SHA256:
        return 32;
    case DIGEST_SHA512:
        return 64;
    }
    return 0;
}

const char *digest_algorithm_name(enum digest_algorithm algorithm) {
    switch (algorithm) {
    case DIGEST_SHA256:
        return "sha256";
    case DIGEST_SHA512:
        return "sha512";
    }
    return "";
}

/* Lower case only (image-spec descriptor.md), because two spellings of one digest would be two
 * cache keys. */
static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool digest_parse(struct text text, struct digest *out) {
    struct digest parsed = {0};
    if (text_starts(text, "sha256:"))
        parsed.algorithm = DIGEST_SHA256;
    else if (text_starts(text, "sha512:"))
        parsed.algorithm = DIGEST_SHA512;
    else
        return false;
    struct text hex = text_from(text, strlen("sha256:"));
    size_t size = digest_size(parsed.algorithm);
    if (hex.length != size * 2)
        return false;
    for (size_t i = 0; i < size; i++) {
        int high = hex_value(hex.at[i * 2]), low = hex_value(hex.at[i * 2 + 1]);
        if (high < 0 || low < 0)
            return false;
        parsed.bytes[i] = (uint8_t)(high * 16 + low);
    }
    *out = parsed;
    return true;
}

const char *digest_format(const struct digest *digest, char out[static DIGEST_STRING_SIZE]) {
    static const char digits[] = "0123456789abcdef";
    size_t size = digest_size(digest->algorithm);
    char *end = out;
    if (size)
        end = stpcpy(stpcpy(out, digest_algorithm_name(digest->algorithm)), ":");
    for (size_t i = 0; i < size; i++) {
        *end++ = digits[digest->bytes[i] >> 4];
        *end++ = digits[digest->bytes[i] & 15];
    }
    *end = '\0';
    return out;
}

bool digest_equal(const struct digest *a, const struct digest *b) {
    return digest_size(a->algorithm) && a->algorithm == b->algorithm &&
           memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

struct digest_hash {
    enum digest_algorithm algorithm;
    EVP_MD_CTX *context;
    bool failed;
};

struct digest_hash *digest_hash_new(enum digest_algorithm algorithm) {
    const EVP_MD *kind = algorithm == DIGEST_SHA512 ? EVP_sha512() : EVP_sha256();
    struct digest_hash *hash = calloc(1, sizeof *hash);
    if (!hash || digest_size(algorithm) == 0) {
        free(hash);
        return NULL;
    }
    hash->algorithm = algorithm;
    hash->context = EVP_MD_CTX_new();
    if (!hash->context || EVP_DigestInit_ex(hash->context, kind, NULL) != 1) {
        digest_hash_free(hash);
        return NULL;
    }
    return hash;
}

void digest_hash_free(struct digest_hash *hash) {
    if (!hash)
        return;
    EVP_MD_CTX_free(hash->context);
    free(hash);
}

void digest_hash_update(struct digest_hash *hash, const void *bytes, size_t length) {
    if (length && EVP_DigestUpdate(hash->context, bytes, length) != 1)
        hash->failed = true;
}

void digest_hash_finish(struct digest_hash *hash, struct digest *out) {
    *out = (struct digest){0};
    if (!hash->failed && EVP_DigestFinal_ex(hash->context, out->bytes, NULL) == 1)
        out->algorithm = hash->algorithm;
}

bool digest_of(enum digest_algorithm algorithm, const void *bytes, size_t length,
               struct digest *out) {
    struct digest_hash *hash = digest_hash_new(algorithm);
    *out = (struct digest){0};
    if (!hash)
        return false;
    digest_hash_update(hash, bytes, length);
    digest_hash_finish(hash, out);
    digest_hash_free(hash);
    return out->algorithm != 0;
}

bool digest_format_text(struct text text, char out[static DIGEST_STRING_SIZE]) {
    struct digest digest;
    if (!digest_of(DIGEST_SHA256, text.at, text.length, &digest))
        return false;
    digest_format(&digest, out);
    return true;
}
