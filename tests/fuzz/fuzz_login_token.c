/* JWK sets, and tokens whose signature counts as right: whatever they hold is read whole or
 * refused.
 */
#include <openssl/evp.h>
#include <string.h>
#include "fuzz.h"
#include "login/jwt.h"

/* Every signature is right, so that the claims behind it are reached. */
int __wrap_EVP_DigestVerify(EVP_MD_CTX *context, const unsigned char *signature, size_t length,
                            const unsigned char *bytes, size_t bytes_length);
int __wrap_EVP_DigestVerify(EVP_MD_CTX *context, const unsigned char *signature, size_t length,
                            const unsigned char *bytes, size_t bytes_length) {
    (void)context;
    (void)signature;
    (void)length;
    (void)bytes;
    (void)bytes_length;
    return 1;
}

/* A point of P-256: its generator. */
static const char one_key[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"e\","
                              "\"x\":\"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY\","
                              "\"y\":\"T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU\"}]}";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static struct jwks known;
    const struct text text = {(const char *)bytes, length};
    const struct jwt_rules rules = {.issuer = "issuer", .service = "tarn", .now_s = 1800000000};
    struct jwks set;
    struct error error = {0};
    if (!known.count)
        MUST(jwks_parse(text_of(one_key), &known, &error));
    if (jwks_parse(text, &set, &error)) {
        MUST(set.count > 0 && set.count <= JWKS_KEYS_LIMIT);
        jwks_finish(&set);
    } else {
        MUST(error.kind != ERROR_NONE && set.count == 0);
    }
    struct jwt_claims claims = {0};
    enum jwt_fault fault = jwt_verify(text, &known, &rules, &claims);
    MUST(*jwt_fault_words(fault));
    MUST((fault == JWT_FINE) == (claims.json != NULL));
    if (fault == JWT_FINE)
        MUST(claims.expires_s > rules.now_s && length <= JWT_SIZE_LIMIT);
    json_decref(claims.json);
    return 0;
}
