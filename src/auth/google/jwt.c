/* JSON Web Tokens signed by OpenSSL with a service account's key. */
#include "auth/google/jwt.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/secret.h"

enum { LEAST_BITS = 2048 };

static void free_key(EVP_PKEY **key) {
    EVP_PKEY_free(*key);
}

static void free_bio(BIO **bio) {
    BIO_free(*bio);
}

static void free_context(EVP_MD_CTX **context) {
    EVP_MD_CTX_free(*context);
}

#define cleanup_key     __attribute__((cleanup(free_key)))
#define cleanup_bio     __attribute__((cleanup(free_bio)))
#define cleanup_context __attribute__((cleanup(free_context)))

/* Without this, OpenSSL asks for an encrypted key's passphrase at the terminal. */
static int no_passphrase(char *out, int size, int writing, void *context) {
    (void)out, (void)size, (void)writing, (void)context;
    return -1;
}

static EVP_PKEY *read_key(const char *pem, struct error *error) {
    cleanup_bio BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    ERR_clear_error();
    if (!key) {
        error_set(error, ERROR_INVALID, "private_key is not a private key in PEM");
    } else if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA || EVP_PKEY_get_bits(key) < LEAST_BITS) {
        error_set(error, ERROR_INVALID, "private_key is not an RSA key of at least %d bits",
                  LEAST_BITS);
        EVP_PKEY_free(key);
        key = NULL;
    }
    return key;
}

/* RFC 7515 §2: base64url without padding. */
static void append_base64url(struct buffer *out, const void *bytes, size_t length) {
    cleanup_secret char *encoded = base64_encode(bytes, length);
    if (!encoded) {
        out->failed = true;
        return;
    }
    encoded[strcspn(encoded, "=")] = '\0';
    for (char *c = encoded; *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    buffer_append_string(out, encoded);
}

static bool append_signature(struct buffer *token, EVP_PKEY *key) {
    cleanup_context EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t length = (size_t)EVP_PKEY_get_size(key);
    cleanup_buffer struct buffer signature = {0};
    bool ok = context && buffer_reserve(&signature, length) &&
              EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestSign(context, (unsigned char *)signature.bytes, &length,
                             (const unsigned char *)token->bytes, token->length) == 1;
    ERR_clear_error();
    if (!ok)
        return false;
    buffer_append_string(token, ".");
    append_base64url(token, signature.bytes, length);
    return true;
}

char *jwt_sign(const char *key, const char *key_id, const char *claims, struct error *error) {
    cleanup_key EVP_PKEY *rsa = read_key(key, error);
    if (!rsa)
        return NULL;
    cleanup_buffer struct buffer header = {0};
    buffer_append_string(&header, "{\"alg\":\"RS256\",\"typ\":\"JWT\"");
    if (key_id) {
        buffer_append_string(&header, ",\"kid\":\"");
        buffer_append_json(&header, text_of(key_id));
        buffer_append_string(&header, "\"");
    }
    buffer_append_string(&header, "}");

    cleanup_secret_buffer struct buffer token = {0};
    buffer_reserve(&token, 2 * (strlen(claims) + header.length) + 2048);
    if (!header.failed)
        append_base64url(&token, header.bytes, header.length);
    buffer_append_string(&token, ".");
    append_base64url(&token, claims, strlen(claims));
    if (header.failed || token.failed || !append_signature(&token, rsa) || token.failed) {
        error_set(error, ERROR_MEMORY, "out of memory signing a token");
        return NULL;
    }
    return take(token.bytes);
}
