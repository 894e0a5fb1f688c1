/* Hashes the body of a request. */
#include "bucket/payload.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/file.h"

enum { PIECE = 256 * 1024 };

static bool hash_file(EVP_MD_CTX *hash, const struct client_body *body, struct error *error) {
    cleanup_free unsigned char *piece = malloc(PIECE);
    if (!piece)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (uint64_t at = 0; at < body->length;) {
        size_t wanted = body->length - at < PIECE ? (size_t)(body->length - at) : PIECE;
        if (!file_read_all_at(body->fd, piece, wanted, body->offset + at, error))
            return error_wrap(error, "cannot read the file to send");
        if (EVP_DigestUpdate(hash, piece, wanted) != 1)
            return error_set(error, ERROR_MEMORY, "out of memory");
        at += wanted;
    }
    return true;
}

bool bucket_payload_hash(const struct client_body *body, char out[static BUCKET_PAYLOAD_SIZE],
                         struct error *error) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool ok = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1;
    if (ok && body->bytes)
        ok = EVP_DigestUpdate(hash, body->bytes, body->length) == 1;
    bool hashed = ok;
    if (ok && !body->bytes && body->length)
        hashed = hash_file(hash, body, error);
    ok = ok && hashed && EVP_DigestFinal_ex(hash, digest, NULL) == 1;
    EVP_MD_CTX_free(hash);
    for (size_t i = 0; ok && i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return ok || (hashed && error_set(error, ERROR_MEMORY, "out of memory")) || false;
}
