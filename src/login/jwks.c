/* Reads JWK sets. */
#include "login/jwks.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdlib.h>
#include <string.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"

enum { RSA_LEAST_BITS = 2048, RSA_MOST_BITS = 8192, COORDINATE = 32 /* bytes, of P-256 */ };

void jwks_finish(struct jwks *jwks) {
    for (size_t i = 0; i < jwks->count; i++) {
        EVP_PKEY_free(jwks->keys[i].key);
        free(jwks->keys[i].id);
    }
    *jwks = (struct jwks){0};
}

/* ---- one key ---- */

static const char *string_of(const json_t *jwk, const char *member) {
    return json_string_value(json_object_get(jwk, member));
}

/* The bytes of a member in base64url; NULL: it is missing or malformed. */
static unsigned char *bytes_of(const json_t *jwk, const char *member, size_t *length) {
    const char *text = string_of(jwk, member);
    return text ? (unsigned char *)base64_decode_url(text_of(text), length) : NULL;
}

/* The key that `build` describes; NULL: OpenSSL does not take it. Frees `build`. */
static EVP_PKEY *make_key(const char *type, OSSL_PARAM_BLD *build) {
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;
    if (parameters && context && EVP_PKEY_fromdata_init(context) == 1 &&
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(parameters);
    EVP_PKEY_CTX *check = key ? EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL) : NULL;
    if (key && (!check || EVP_PKEY_public_check(check) != 1)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    EVP_PKEY_CTX_free(check);
    return key;
}

static EVP_PKEY *make_rsa(const json_t *jwk) {
    size_t n_length = 0, e_length = 0;
    cleanup_free unsigned char *n = bytes_of(jwk, "n", &n_length);
    cleanup_free unsigned char *e = bytes_of(jwk, "e", &e_length);
    if (!n || !e || n_length > RSA_MOST_BITS / 8 || e_length > 8)
        return NULL;
    BIGNUM *modulus = BN_bin2bn(n, (int)n_length, NULL);
    BIGNUM *exponent = BN_bin2bn(e, (int)e_length, NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    if (modulus && exponent && build && BN_num_bits(modulus) >= RSA_LEAST_BITS &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
        key = make_key("RSA", build);
    OSSL_PARAM_BLD_free(build);
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

static EVP_PKEY *make_ec(const json_t *jwk) {
    size_t x_length = 0, y_length = 0;
    cleanup_free unsigned char *x = bytes_of(jwk, "x", &x_length);
    cleanup_free unsigned char *y = bytes_of(jwk, "y", &y_length);
    unsigned char point[1 + 2 * COORDINATE] = {4 /* uncompressed */};
    if (!x || !y || x_length != COORDINATE || y_length != COORDINATE)
        return NULL;
    memcpy(point + 1, x, COORDINATE);
    memcpy(point + 1 + COORDINATE, y, COORDINATE);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    if (build &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point) == 1)
        key = make_key("EC", build);
    OSSL_PARAM_BLD_free(build);
    return key;
}

/* Whether a member, if the key has it, says that the key may verify. */
static bool may_verify(const json_t *jwk) {
    const char *use = string_of(jwk, "use");
    const json_t *operations = json_object_get(jwk, "key_ops"), *operation;
    size_t index;
    if (use && strcmp(use, "sig") != 0)
        return false;
    if (!operations)
        return true;
    json_array_foreach (operations, index, operation) {
        const char *name = json_string_value(operation);
        if (name && strcmp(name, "verify") == 0)
            return true;
    }
    return false;
}

/* Whether the key is of a kind that tokens may be signed with. A key that names another algorithm
 * is for that one alone. */
static bool find_algorithm(const json_t *jwk, enum jwk_algorithm *algorithm) {
    const char *type = string_of(jwk, "kty"), *curve = string_of(jwk, "crv");
    const char *named = string_of(jwk, "alg");
    if (!type || !may_verify(jwk))
        return false;
    if (strcmp(type, "RSA") == 0) {
        *algorithm = JWK_RS256;
        return !named || strcmp(named, "RS256") == 0;
    }
    *algorithm = JWK_ES256;
    return strcmp(type, "EC") == 0 && curve && strcmp(curve, "P-256") == 0 &&
           (!named || strcmp(named, "ES256") == 0);
}

/* Adds the key, unless it is one to be left out. */
static bool add_key(struct jwks *out, const json_t *jwk, size_t index, struct error *error) {
    enum jwk_algorithm algorithm;
    const json_t *id = json_object_get(jwk, "kid");
    if (!json_is_object(jwk))
        return error_set(error, ERROR_INVALID, "keys[%zu] is no object", index);
    if (!find_algorithm(jwk, &algorithm))
        return true;
    if (id && (!json_is_string(id) || json_string_length(id) > JWKS_ID_LIMIT))
        return error_set(error, ERROR_INVALID, "keys[%zu]: kid is no string of at most %d bytes",
                         index, JWKS_ID_LIMIT);
    if (out->count == JWKS_KEYS_LIMIT)
        return error_set(error, ERROR_INVALID, "it has more than %d keys", JWKS_KEYS_LIMIT);
    char *copy = id ? strdup(json_string_value(id)) : NULL;
    if (id && !copy)
        return error_set(error, ERROR_MEMORY, "out of memory");
    EVP_PKEY *key = algorithm == JWK_RS256 ? make_rsa(jwk) : make_ec(jwk);
    if (!key) {
        free(copy);
        return error_set(error, ERROR_INVALID, "keys[%zu] is no %s", index,
                         algorithm == JWK_RS256 ? "RSA key of 2048 to 8192 bits"
                                                : "point on the curve P-256");
    }
    out->keys[out->count++] = (struct jwk){.algorithm = algorithm, .id = copy, .key = key};
    return true;
}

/* ---- the set ---- */

static bool read_keys(const json_t *keys, struct jwks *out, struct error *error) {
    size_t index;
    const json_t *jwk;
    if (!json_is_array(keys))
        return error_set(error, ERROR_INVALID,
                         "it is no JWK set; expected {\"keys\": [{\"kty\": \"RSA\", …}]}");
    json_array_foreach (keys, index, jwk)
        if (!add_key(out, jwk, index, error))
            return false;
    return out->count > 0 ||
           error_set(error, ERROR_INVALID,
                     "it has no key that tokens can be signed with; expected one of type RSA, or "
                     "of type EC with the curve P-256");
}

bool jwks_parse(struct text bytes, struct jwks *out, struct error *error) {
    *out = (struct jwks){0};
    cleanup_json json_t *json =
        bounded_json_load_by(JSON_REJECT_DUPLICATES, bytes.at, bytes.length, error);
    if (!json)
        return false;
    bool fine = read_keys(json_object_get(json, "keys"), out, error);
    if (!fine)
        jwks_finish(out);
    return fine;
}

bool jwks_read(const char *path, struct jwks *out, struct stat *identity, struct error *error) {
    struct text bytes;
    *out = (struct jwks){0};
    cleanup_free char *text = file_read_small(path, JWKS_SIZE_LIMIT, FILE_REGULAR | FILE_TEXT,
                                              &bytes.length, identity, error);
    bytes.at = text;
    return (text && jwks_parse(bytes, out, error)) || error_wrap(error, "JWK set %s", path);
}
