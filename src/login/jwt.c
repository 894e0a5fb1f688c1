/* Verifies tokens. */
#include "login/jwt.h"

#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/json.h"

enum { ES256_HALF = 32 /* bytes of each of the two numbers of a signature */ };

const char *jwt_fault_words(enum jwt_fault fault) {
    static const char *const words[] = {
        [JWT_FINE] = "it is right",
        [JWT_MALFORMED] = "it is malformed",
        [JWT_ALGORITHM] = "it is not signed with RS256 or ES256",
        [JWT_UNKNOWN_KEY] = "no key of the JWK set may have signed it",
        [JWT_FORGED] = "its signature is wrong",
        [JWT_OTHER_ISSUER] = "its issuer is another one",
        [JWT_OTHER_SERVICE] = "it is for another service",
        [JWT_EXPIRED] = "it has expired",
        [JWT_TOO_EARLY] = "it is not valid yet",
    };
    return words[fault];
}

/* ---- the parts ---- */

struct parts {
    struct text header, payload, signature;
    struct text signed_bytes; /* header and payload as they stand */
};

static bool split(struct text token, struct parts *out) {
    struct text rest;
    out->header = text_cut(token, '.', &rest);
    if (!rest.at)
        return false;
    out->payload = text_cut(rest, '.', &rest);
    if (!rest.at || memchr(rest.at, '.', rest.length))
        return false;
    out->signature = rest;
    out->signed_bytes = (struct text){token.at, token.length - rest.length - 1};
    return out->header.length && out->payload.length && out->signature.length;
}

/* The JSON object that a part holds; NULL: it holds none, or there is no memory. */
static json_t *object_of(struct text part) {
    size_t length;
    cleanup_free char *bytes = base64_decode_url(part, &length);
    json_t *json = bytes ? bounded_json_load_by(JSON_REJECT_DUPLICATES, bytes, length, NULL) : NULL;
    if (json && !json_is_object(json)) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* ---- the signature ---- */

/* The DER form, which OpenSSL verifies, of the two numbers that a token has. The caller frees it by
 * OPENSSL_free(). */
static unsigned char *es256_to_der(const unsigned char *bytes, size_t length, size_t *der_length) {
    unsigned char *der = NULL;
    if (length != 2 * ES256_HALF)
        return NULL;
    ECDSA_SIG *signature = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(bytes, ES256_HALF, NULL),
           *s = BN_bin2bn(bytes + ES256_HALF, ES256_HALF, NULL);
    if (signature && r && s && ECDSA_SIG_set0(signature, r, s) == 1) {
        r = s = NULL; /* they belong to the signature */
        int made = i2d_ECDSA_SIG(signature, &der);
        *der_length = made > 0 ? (size_t)made : 0;
        if (made <= 0)
            der = NULL;
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(signature);
    return der;
}

static bool is_signed_by(const struct jwk *jwk, struct text bytes, const unsigned char *signature,
                         size_t length) {
    unsigned char *der = NULL;
    if (jwk->algorithm == JWK_ES256) {
        der = es256_to_der(signature, length, &length);
        signature = der;
    }
    EVP_MD_CTX *context = signature ? EVP_MD_CTX_new() : NULL;
    bool is_right = context &&
                    EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, jwk->key) == 1 &&
                    EVP_DigestVerify(context, signature, length, (const unsigned char *)bytes.at,
                                     bytes.length) == 1;
    EVP_MD_CTX_free(context);
    OPENSSL_free(der);
    ERR_clear_error(); /* a wrong signature leaves reasons on this thread */
    return is_right;
}

/* Whether the key may have signed the token with this header. A key without a name may have signed
 * any, and a token that names no key may be of any key. */
static bool may_be_by(const struct jwk *jwk, enum jwk_algorithm algorithm, const char *id) {
    return jwk->algorithm == algorithm && (!id || !jwk->id || strcmp(jwk->id, id) == 0);
}

static enum jwt_fault check_signature(const struct parts *parts, const struct jwks *jwks) {
    cleanup_json json_t *header = object_of(parts->header);
    const char *name = json_string_value(json_object_get(header, "alg"));
    const json_t *id = json_object_get(header, "kid");
    size_t length = 0;
    if (!header || (id && !json_is_string(id)))
        return JWT_MALFORMED;
    bool is_rs256 = name && strcmp(name, "RS256") == 0;
    if (json_object_get(header, "crit") || (!is_rs256 && (!name || strcmp(name, "ES256") != 0)))
        return JWT_ALGORITHM;
    cleanup_free char *signature = base64_decode_url(parts->signature, &length);
    if (!signature)
        return JWT_MALFORMED;
    enum jwt_fault fault = JWT_UNKNOWN_KEY;
    for (size_t i = 0; i < jwks->count; i++) {
        const struct jwk *jwk = &jwks->keys[i];
        if (!may_be_by(jwk, is_rs256 ? JWK_RS256 : JWK_ES256, json_string_value(id)))
            continue;
        if (is_signed_by(jwk, parts->signed_bytes, (const unsigned char *)signature, length))
            return JWT_FINE;
        fault = JWT_FORGED;
    }
    return fault;
}

/* ---- the claims ---- */

/* `aud` is a name or a list of names. */
static bool is_for(const json_t *audience, const char *service) {
    size_t index;
    const json_t *item;
    const char *name = json_string_value(audience);
    if (name)
        return strcmp(name, service) == 0;
    json_array_foreach (audience, index, item) {
        name = json_string_value(item);
        if (name && strcmp(name, service) == 0)
            return true;
    }
    return false;
}

/* Seconds since 1970, of a number that may have a fraction. False: it is none, or before 1970 or
 * absurdly late. */
static bool read_time(const json_t *value, int64_t *out) {
    if (!json_is_number(value))
        return false;
    double number = json_number_value(value);
    if (!(number >= 0 && number < 1e15))
        return false;
    *out = (int64_t)number;
    return true;
}

static enum jwt_fault check_claims(const json_t *json, const struct jwt_rules *rules,
                                   int64_t *expires_s) {
    const char *issuer = json_string_value(json_object_get(json, "iss"));
    const json_t *begins = json_object_get(json, "nbf");
    int64_t begins_s = 0;
    if (!issuer || strcmp(issuer, rules->issuer) != 0)
        return JWT_OTHER_ISSUER;
    if (!is_for(json_object_get(json, "aud"), rules->service))
        return JWT_OTHER_SERVICE;
    if (begins && !read_time(begins, &begins_s))
        return JWT_MALFORMED;
    if (!read_time(json_object_get(json, "exp"), expires_s))
        return JWT_EXPIRED;
    *expires_s += JWT_LEEWAY_S;
    if (rules->now_s >= *expires_s)
        return JWT_EXPIRED;
    return rules->now_s + JWT_LEEWAY_S < begins_s ? JWT_TOO_EARLY : JWT_FINE;
}

enum jwt_fault jwt_verify(struct text token, const struct jwks *jwks, const struct jwt_rules *rules,
                          struct jwt_claims *claims) {
    struct parts parts;
    if (token.length > JWT_SIZE_LIMIT || !split(token, &parts))
        return JWT_MALFORMED;
    enum jwt_fault fault = check_signature(&parts, jwks);
    if (fault != JWT_FINE)
        return fault;
    json_t *json = object_of(parts.payload);
    fault = json ? check_claims(json, rules, &claims->expires_s) : JWT_MALFORMED;
    if (fault == JWT_FINE)
        claims->json = json;
    else
        json_decref(json);
    return fault;
}
