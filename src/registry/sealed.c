/* Seals the addresses of upload sessions. */
#include "registry/sealed.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/base64.h"
#include "base/cleanup.h"

enum {
    NONCE = 12,
    TAG = 16,
    PLAIN_SIZE = 8 + 2 * 21 + SEALED_ID_SIZE + HOST_LIMIT + NAME_LIMIT + SEALED_HOLDER_SIZE +
                 SEALED_URL_SIZE,
};

#define VERSION "2"

/* Encrypts `length` bytes in place behind the nonce, and writes the tag behind them. */
static bool encrypt(const unsigned char *key, unsigned char *nonce, unsigned char *bytes,
                    size_t length) {
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int done = 0, rest = 0;
    bool ok = context && RAND_bytes(nonce, NONCE) == 1 &&
              EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
              EVP_EncryptUpdate(context, bytes, &done, bytes, (int)length) == 1 &&
              EVP_EncryptFinal_ex(context, bytes + done, &rest) == 1 &&
              EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG, bytes + length) == 1;
    EVP_CIPHER_CTX_free(context);
    return ok;
}

static bool decrypt(const unsigned char *key, const unsigned char *nonce, unsigned char *bytes,
                    size_t length) {
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int done = 0, rest = 0;
    bool ok = context && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
              EVP_DecryptUpdate(context, bytes, &done, bytes, (int)length) == 1 &&
              EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG, bytes + length) == 1 &&
              EVP_DecryptFinal_ex(context, bytes + done, &rest) == 1;
    EVP_CIPHER_CTX_free(context);
    return ok;
}

bool sealed_write(const unsigned char key[static SEALED_KEY_SIZE],
                  const struct sealed_session *session, char out[static SEALED_SIZE]) {
    cleanup_free unsigned char *bytes = malloc(NONCE + PLAIN_SIZE + TAG);
    if (!bytes)
        return false;
    int length = snprintf((char *)bytes + NONCE, PLAIN_SIZE,
                          VERSION "\n%s\n%s\n%s\n%s\n%" PRIu64 "\n%" PRIu64 "\n%s", session->id,
                          session->name.host, session->name.path, session->holder, session->base,
                          session->received, session->url);
    if (length < 0 || length >= PLAIN_SIZE || !encrypt(key, bytes, bytes + NONCE, (size_t)length))
        return false;
    cleanup_free char *text = base64_encode_url(bytes, NONCE + (size_t)length + TAG);
    return text && text_copy(text_of(text), out, SEALED_SIZE);
}

static bool read_plain(struct text plain, struct sealed_session *out) {
    struct text version = text_cut(plain, '\n', &plain);
    struct text id = text_cut(plain, '\n', &plain), host = text_cut(plain, '\n', &plain);
    struct text path = text_cut(plain, '\n', &plain), holder = text_cut(plain, '\n', &plain);
    struct text base = text_cut(plain, '\n', &plain), received = text_cut(plain, '\n', &plain);
    return plain.at && text_is(version, VERSION) && text_copy(id, out->id, sizeof out->id) &&
           repository_name_parse(host, path, &out->name) &&
           text_copy(holder, out->holder, sizeof out->holder) && text_to_u64(base, &out->base) &&
           text_to_u64(received, &out->received) && text_copy(plain, out->url, sizeof out->url);
}

bool sealed_read(const unsigned char key[static SEALED_KEY_SIZE], struct text text,
                 struct sealed_session *out) {
    size_t length;
    if (text.length >= SEALED_SIZE)
        return false;
    cleanup_free char *bytes = base64_decode_url(text, &length);
    if (!bytes || length < NONCE + TAG)
        return false;
    /* The last character of base64 may have bits that no byte has: those must be as they were
     * written, too. */
    cleanup_free char *again = base64_encode_url(bytes, length);
    if (!again || !text_is(text, again))
        return false;
    unsigned char *inside = (unsigned char *)bytes + NONCE;
    length -= NONCE + TAG;
    return decrypt(key, (const unsigned char *)bytes, inside, length) &&
           read_plain((struct text){(const char *)inside, length}, out);
}
