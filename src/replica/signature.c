/* Signatures of requests between replicas. */
#include "replica/signature.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/base64.h"
#include "base/buffer.h"

/* The label of the signature in both fields. */
#define LABEL   "tarn="
/* What is covered. */
#define COVERED "(\"@method\" \"@path\" \"@query\" \"tarn-ask\")"

/* A line of the signature base (RFC 9421 §2.5). */
static void add_line(struct buffer *base, const char *name, const char *before, struct text value) {
    buffer_append(base, "\"", 1);
    buffer_append_string(base, name);
    buffer_append(base, "\": ", 3);
    buffer_append_string(base, before);
    buffer_append(base, value.at, value.length);
    buffer_append(base, "\n", 1);
}

bool signature_mac(const void *key, size_t length, struct text base, char out[static MAC_SIZE]) {
    unsigned char mac[SHA256_DIGEST_LENGTH];
    unsigned mac_length = 0;
    if (!HMAC(EVP_sha256(), key, (int)length, (const unsigned char *)base.at, base.length, mac,
              &mac_length))
        return false;
    char *text = base64_encode(mac, mac_length);
    if (text)
        text_copy(text_of(text), out, MAC_SIZE);
    free(text);
    return text != NULL;
}

/* Writes the value of the field Signature. False: out of memory. */
static bool sign(const struct secret *secret, const struct signed_request *request,
                 const char *input, char out[static SIGNATURE_SIZE]) {
    cleanup_buffer struct buffer base = {0};
    char mac[MAC_SIZE];
    add_line(&base, "@method", "", request->method);
    add_line(&base, "@path", "", request->path);
    add_line(&base, "@query", "?", request->query);
    add_line(&base, "tarn-ask", "", request->ask);
    buffer_append_string(&base, "\"@signature-params\": ");
    buffer_append_string(&base, input + strlen(LABEL));
    if (base.failed ||
        !signature_mac(secret->bytes, secret->length, (struct text){base.bytes, base.length}, mac))
        return false;
    snprintf(out, SIGNATURE_SIZE, LABEL ":%s:", mac);
    return true;
}

/* Writes the value of the field Signature-Input. What follows its label are the parameters, which
 * are signed. */
static void write_input(char out[static SIGNATURE_INPUT_SIZE], int64_t created_s,
                        const struct secret *secret) {
    snprintf(out, SIGNATURE_INPUT_SIZE,
             LABEL COVERED ";created=%" PRId64 ";keyid=\"%s\";alg=\"hmac-sha256\"", created_s,
             secret->id);
}

bool signature_make(const struct secrets *secrets, const struct signed_request *request,
                    int64_t now_s, char input[static SIGNATURE_INPUT_SIZE],
                    char signature[static SIGNATURE_SIZE]) {
    const struct secret *secret = secrets_first(secrets);
    write_input(input, now_s, secret);
    return sign(secret, request, input, signature);
}

/* Finds the time and the secret in a Signature-Input. False: another form, or an unknown secret. */
static bool read_input(const struct secrets *secrets, struct text input, int64_t *created_s,
                       const struct secret **secret) {
    static const char begin[] = LABEL COVERED ";created=";
    struct text key_id;
    uint64_t number;
    if (!text_starts(input, begin))
        return false;
    struct text created = text_cut(text_from(input, sizeof begin - 1), ';', &key_id);
    if (!key_id.at || !text_to_u64(created, &number) || number > INT64_MAX ||
        !text_starts(key_id, "keyid=\""))
        return false;
    key_id = text_from(key_id, strlen("keyid=\""));
    key_id.length = key_id.length < SECRET_ID_SIZE - 1 ? key_id.length : SECRET_ID_SIZE - 1;
    *created_s = (int64_t)number;
    *secret = secrets_find(secrets, key_id);
    return *secret != NULL;
}

static bool is_now(int64_t created_s, int64_t now_s) {
    return created_s >= now_s - SIGNATURE_SKEW_S && created_s <= now_s + SIGNATURE_SKEW_S;
}

bool signature_is_good(const struct secrets *secrets, const struct signed_request *request,
                       struct text input, struct text signature, int64_t now_s) {
    const struct secret *secret;
    int64_t created_s;
    char right_input[SIGNATURE_INPUT_SIZE], right_signature[SIGNATURE_SIZE];
    if (!input.at || !signature.at || !read_input(secrets, input, &created_s, &secret) ||
        !is_now(created_s, now_s))
        return false;
    /* The rest of the field must be what we would have written, byte for byte. */
    write_input(right_input, created_s, secret);
    if (!text_is(input, right_input) || !sign(secret, request, right_input, right_signature))
        return false;
    return signature.length == strlen(right_signature) &&
           CRYPTO_memcmp(signature.at, right_signature, signature.length) == 0;
}
