/* Tokens: only those that the issuer's key has signed, for this service and this moment, let a
 * client in; and what they grant is all that they open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/base64.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "login/bench.h"
#include "login/clients.h"
#include "login/jwt.h"

static char file[] = "/tmp/tarn-jwks-XXXXXX";
static EVP_PKEY *rsa, *other_rsa, *ec;

/* ---- the other clock, and the signatures ---- */

int64_t __real_clock_wall_s(void);
int64_t __wrap_clock_wall_s(void);
int64_t __wrap_clock_wall_s(void) {
    return __real_clock_wall_s() + later_ms / 1000;
}

static unsigned verified; /* how often a signature was checked */

int __real_EVP_DigestVerify(EVP_MD_CTX *context, const unsigned char *signature, size_t length,
                            const unsigned char *bytes, size_t bytes_length);
int __wrap_EVP_DigestVerify(EVP_MD_CTX *context, const unsigned char *signature, size_t length,
                            const unsigned char *bytes, size_t bytes_length);
int __wrap_EVP_DigestVerify(EVP_MD_CTX *context, const unsigned char *signature, size_t length,
                            const unsigned char *bytes, size_t bytes_length) {
    verified++;
    return __real_EVP_DigestVerify(context, signature, length, bytes, bytes_length);
}

/* ---- keys and tokens ---- */

static void append_url(struct buffer *out, const void *bytes, size_t length) {
    cleanup_free char *text = base64_encode(bytes, length);
    assert_non_null(text);
    for (char *c = text; *c && *c != '='; c++)
        buffer_append(out, *c == '+' ? "-" : *c == '/' ? "_" : c, 1);
}

static void append_number(struct buffer *out, const EVP_PKEY *key, const char *name) {
    BIGNUM *number = NULL;
    unsigned char bytes[1024];
    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &number), 1);
    int length = strlen(name) == 2 ? BN_bn2binpad(number, bytes, 32) : BN_bn2bin(number, bytes);
    append_url(out, bytes, (size_t)length);
    BN_free(number);
}

/* {"kty":…} of a public key, with further members. */
static void append_jwk(struct buffer *out, const EVP_PKEY *key, const char *more) {
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        buffer_append_string(out, "{\"kty\":\"RSA\",\"n\":\"");
        append_number(out, key, OSSL_PKEY_PARAM_RSA_N);
        buffer_append_string(out, "\",\"e\":\"");
        append_number(out, key, OSSL_PKEY_PARAM_RSA_E);
    } else {
        buffer_append_string(out, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"");
        append_number(out, key, OSSL_PKEY_PARAM_EC_PUB_X);
        buffer_append_string(out, "\",\"y\":\"");
        append_number(out, key, OSSL_PKEY_PARAM_EC_PUB_Y);
    }
    buffer_printf(out, "\"%s}", more);
}

static void write_text(const char *text) {
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

/* A set of `rsa` as "r" and of `ec` as "e". */
static void write_both(void) {
    cleanup_buffer struct buffer set = {0};
    buffer_append_string(&set, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\",\"kid\":\"r\"},");
    append_jwk(&set, rsa, ",\"kid\":\"r\",\"use\":\"sig\",\"alg\":\"RS256\"");
    buffer_append_string(&set, ",");
    append_jwk(&set, ec, ",\"kid\":\"e\"");
    buffer_append_string(&set, "]}");
    write_text(set.bytes);
}

/* Two numbers of 32 bytes each, of a signature in DER. */
static void to_raw(unsigned char *bytes, size_t *length) {
    const unsigned char *at = bytes;
    ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &at, (long)*length);
    assert_non_null(signature);
    BN_bn2binpad(ECDSA_SIG_get0_r(signature), bytes, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(signature), bytes + 32, 32);
    ECDSA_SIG_free(signature);
    *length = 64;
}

/* "Bearer HEADER.CLAIMS.SIGNATURE". */
static char *token_of(EVP_PKEY *key, const char *header, const char *claims) {
    struct buffer out = {0};
    unsigned char signature[1024];
    size_t length = sizeof signature;
    buffer_append_string(&out, "Bearer ");
    append_url(&out, header, strlen(header));
    buffer_append_string(&out, ".");
    append_url(&out, claims, strlen(claims));
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(context, signature, &length,
                                    (const unsigned char *)out.bytes + 7, out.length - 7),
                     1);
    EVP_MD_CTX_free(context);
    if (key == ec)
        to_raw(signature, &length);
    buffer_append_string(&out, ".");
    append_url(&out, signature, length);
    return out.bytes;
}

#define RS256 "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"r\"}"
#define ES256 "{\"alg\":\"ES256\",\"kid\":\"e\"}"

/* Claims of alice that are right for five minutes, with `more` behind them. */
static const char *claims_of(const char *more) {
    static char text[4096];
    int64_t now = clock_wall_s();
    snprintf(text, sizeof text,
             "{\"iss\":\"issuer\",\"aud\":\"tarn\",\"sub\":\"alice\",\"exp\":%lld,\"nbf\":%lld%s}",
             (long long)now + 300, (long long)now, more);
    return text;
}

/* Claims with other times, in seconds from now, and another audience in JSON. */
static const char *claims_at(int64_t begins, int64_t ends, const char *audience) {
    static char text[512];
    int64_t now = clock_wall_s();
    snprintf(text, sizeof text,
             "{\"iss\":\"issuer\",\"aud\":%s,\"sub\":\"alice\",\"exp\":%lld,\"nbf\":%lld.5}",
             audience, (long long)(now + ends), (long long)(now + begins));
    return text;
}

static struct clients *open_clients(void) {
    const struct clients_settings settings = {.token = {.realm = "https://auth.example/token",
                                                        .service = "tarn",
                                                        .issuer = "issuer",
                                                        .jwks = file},
                                              .limits = clients_limits_default()};
    struct error error = {0};
    struct clients *clients = clients_new(&settings, NULL, &error);
    if (!clients)
        fail_msg("refused: %s", error.text);
    return clients;
}

static struct clients_identity who; /* of the last login */

static enum clients_verdict login(struct clients *clients, const char *header) {
    const struct clients_login attempt = {.authorization = text_of(header), .client = "unix"};
    return clients_identify(clients, &attempt, &who).verdict;
}

static enum clients_verdict known(struct clients *clients, const char *header) {
    const struct clients_login attempt = {.authorization = text_of(header), .client = "unix"};
    forbidden = true;
    enum clients_verdict verdict = clients_known(clients, &attempt, &who).verdict;
    forbidden = false;
    return verdict;
}

/* What a client gets that logs in once by a token. */
static enum clients_verdict login_by(struct clients *clients, EVP_PKEY *key, const char *header,
                                     const char *claims) {
    cleanup_free char *token = token_of(key, header, claims);
    return login(clients, token);
}

static bool grants(const struct clients *clients, const char *name) {
    forbidden = true;
    bool granted = clients_grants(clients, &who, text_of(name));
    forbidden = false;
    return granted;
}

/* ---- the tests ---- */

static void test_a_right_token_names_its_user(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    assert_int_equal(login_by(clients, rsa, RS256, claims_of("")), CLIENTS_LOGGED_IN);
    assert_string_equal(who.user, "alice");
    assert_true(who.is_by_token);
    assert_int_equal(login_by(clients, ec, ES256, claims_of("")), CLIENTS_LOGGED_IN);
    assert_string_equal(who.user, "alice");
    /* A token need not name its key. */
    assert_int_equal(login_by(clients, rsa, "{\"alg\":\"RS256\"}", claims_of("")),
                     CLIENTS_LOGGED_IN);
    clients_release(clients);
}

static void test_only_a_key_of_the_set_can_sign(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    static const struct {
        EVP_PKEY **key;
        const char *header;
    } cases[] = {
        {&other_rsa, RS256},
        {&other_rsa, "{\"alg\":\"RS256\"}"},
        {&rsa, "{\"alg\":\"RS256\",\"kid\":\"other\"}"},
        {&rsa, "{\"alg\":\"RS256\",\"kid\":7}"},
        {&rsa, "{\"alg\":\"ES256\",\"kid\":\"r\"}"},
        {&ec, "{\"alg\":\"RS256\",\"kid\":\"e\"}"},
        {&rsa, "{\"alg\":\"RS384\",\"kid\":\"r\"}"},
        {&rsa, "{\"alg\":\"PS256\",\"kid\":\"r\"}"},
        {&rsa, "{\"alg\":\"none\",\"kid\":\"r\"}"},
        {&rsa, "{\"alg\":\"None\"}"},
        {&rsa, "{\"alg\":\"HS256\",\"kid\":\"r\"}"},
        {&rsa, "{\"alg\":\"rs256\",\"kid\":\"r\"}"},
        {&rsa, "{\"alg\":[\"RS256\"]}"},
        {&rsa, "{\"kid\":\"r\"}"},
        {&rsa, "{\"alg\":\"RS256\",\"alg\":\"RS256\",\"kid\":\"r\"}"},
        {&rsa, "{\"alg\":\"RS256\",\"kid\":\"r\",\"crit\":[\"exp\"]}"},
        {&rsa, "[\"RS256\"]"},
        {&rsa, "RS256"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (login_by(clients, *cases[i].key, cases[i].header, claims_of("")) != CLIENTS_REFUSED)
            fail_msg("%s was accepted", cases[i].header);
    clients_release(clients);
}

/* The set is public, so whoever wants can compute an HMAC with what stands in it. */
static void test_a_public_key_is_no_secret(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    cleanup_buffer struct buffer out = {0};
    unsigned char mac[32];
    static const char header[] = "{\"alg\":\"HS256\",\"kid\":\"r\"}";
    const char *claims = claims_of("");
    append_url(&out, header, strlen(header));
    buffer_append_string(&out, ".");
    append_url(&out, claims, strlen(claims));
    HMAC(EVP_sha256(), "secret", 6, (unsigned char *)out.bytes, out.length, mac, NULL);
    cleanup_buffer struct buffer token = {0};
    buffer_printf(&token, "Bearer %s.", out.bytes);
    append_url(&token, mac, sizeof mac);
    assert_int_equal(login(clients, token.bytes), CLIENTS_REFUSED);
    clients_release(clients);
}

static void test_malformed_tokens_are_refused(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    cleanup_free char *right = token_of(rsa, RS256, claims_of(""));
    cleanup_free char *none = token_of(rsa, "{\"alg\":\"none\"}", claims_of(""));
    cleanup_buffer struct buffer changed = {0}, longest = {0};
    assert_int_equal(login(clients, right), CLIENTS_LOGGED_IN);
    strrchr(none, '.')[1] = '\0'; /* an empty signature */
    assert_int_equal(login(clients, none), CLIENTS_REFUSED);
    strrchr(none, '.')[0] = '\0';
    assert_int_equal(login(clients, none), CLIENTS_REFUSED);
    static const char *const more[] = {"=", ".", ".e30", "x", "\"", "!"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        buffer_clear(&changed);
        buffer_printf(&changed, "%s%s", right, more[i]);
        assert_int_equal(login(clients, changed.bytes), CLIENTS_REFUSED);
    }
    static const char *const headers[] = {"Bearer",
                                          "Bearer ",
                                          "Bearer .",
                                          "Bearer ..",
                                          "Bearer e30.e30.",
                                          "Bearer e30.e30.e30",
                                          "Basic YW5uOnNlc2FtZQ=="};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        assert_int_equal(login(clients, headers[i]), CLIENTS_REFUSED);
    }
    buffer_append_string(&longest, "Bearer ");
    for (int i = 0; i < JWT_SIZE_LIMIT; i++)
        buffer_append_string(&longest, "e30.");
    assert_int_equal(login(clients, longest.bytes), CLIENTS_REFUSED);
    clients_release(clients);
}

static void test_a_token_is_for_this_service_by_this_issuer(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    static const struct {
        const char *audience;
        enum clients_verdict verdict;
    } cases[] = {
        {"\"tarn\"", CLIENTS_LOGGED_IN},
        {"[\"tarn\"]", CLIENTS_LOGGED_IN},
        {"[\"other\",7,\"tarn\"]", CLIENTS_LOGGED_IN},
        {"\"tarn2\"", CLIENTS_REFUSED},
        {"\"\"", CLIENTS_REFUSED},
        {"[]", CLIENTS_REFUSED},
        {"[[\"tarn\"]]", CLIENTS_REFUSED},
        {"{\"tarn\":1}", CLIENTS_REFUSED},
        {"null", CLIENTS_REFUSED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(login_by(clients, rsa, RS256, claims_at(0, 300, cases[i].audience)),
                         cases[i].verdict);
    static const char *const others[] = {
        "{\"iss\":\"other\",\"aud\":\"tarn\",\"exp\":99999999999}",
        "{\"aud\":\"tarn\",\"exp\":99999999999}",
        "{\"iss\":\"issuer\",\"exp\":99999999999}",
        "{\"iss\":[\"issuer\"],\"aud\":\"tarn\",\"exp\":99999999999}",
        "[]",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(login_by(clients, rsa, RS256, others[i]), CLIENTS_REFUSED);
    clients_release(clients);
}

static void test_a_token_is_valid_in_its_time(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    const char *tarn = "\"tarn\"";
    assert_int_equal(login_by(clients, rsa, RS256, claims_at(0, 5, tarn)), CLIENTS_LOGGED_IN);
    assert_int_equal(login_by(clients, rsa, RS256, claims_at(-60, -10, tarn)), CLIENTS_LOGGED_IN);
    assert_int_equal(login_by(clients, rsa, RS256, claims_at(-600, -60, tarn)), CLIENTS_REFUSED);
    assert_int_equal(login_by(clients, rsa, RS256, claims_at(10, 300, tarn)), CLIENTS_LOGGED_IN);
    assert_int_equal(login_by(clients, rsa, RS256, claims_at(60, 300, tarn)), CLIENTS_REFUSED);
    static const char *const others[] = {
        "{\"iss\":\"issuer\",\"aud\":\"tarn\"}", /* without an end */
        "{\"iss\":\"issuer\",\"aud\":\"tarn\",\"exp\":\"99999999999\"}",
        "{\"iss\":\"issuer\",\"aud\":\"tarn\",\"exp\":-1}",
        "{\"iss\":\"issuer\",\"aud\":\"tarn\",\"exp\":1e300}",
        "{\"iss\":\"issuer\",\"aud\":\"tarn\",\"exp\":99999999999,\"nbf\":\"0\"}",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(login_by(clients, rsa, RS256, others[i]), CLIENTS_REFUSED);
    clients_release(clients);
}

static void test_a_token_opens_what_it_grants(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    assert_int_equal(
        login_by(clients, rsa, RS256,
                 claims_of(",\"access\":["
                           "{\"type\":\"repository\",\"name\":\"org/app\",\"actions\":[\"pull\"]},"
                           "{\"type\":\"repository\",\"name\":\"org/two\","
                           "\"actions\":[\"push\",\"pull\"]},"
                           "{\"type\":\"repository\",\"name\":\"org/push\",\"actions\":[\"push\"]},"
                           "{\"type\":\"plugin\",\"name\":\"org/plug\",\"actions\":[\"pull\"]},"
                           "{\"type\":\"repository\",\"name\":\"org/none\"},"
                           "{\"type\":\"repository\",\"actions\":[\"pull\"]},"
                           "{\"type\":\"registry\",\"name\":\"catalog\",\"actions\":[\"pull\"]},"
                           "7]")),
        CLIENTS_LOGGED_IN);
    assert_true(grants(clients, "org/app"));
    assert_true(grants(clients, "org/two"));
    static const char *const others[] = {"org/push", "org/plug", "org/none", "org",     "org/ap",
                                         "org/app2", "ORG/app",  "",         "org/app/"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(grants(clients, others[i]));
    assert_false(who.may_list);
    assert_int_equal(login_by(clients, rsa, RS256,
                              claims_of(",\"access\":[{\"type\":\"registry\",\"name\":\"catalog\","
                                        "\"actions\":[\"*\"]}]")),
                     CLIENTS_LOGGED_IN);
    assert_true(who.may_list);
    assert_false(grants(clients, "org/app"));
    clients_release(clients);
}

static void test_a_token_without_a_subject_is_anonymous(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    assert_int_equal(
        login_by(clients, rsa, RS256, "{\"iss\":\"issuer\",\"aud\":\"tarn\",\"exp\":99999999999}"),
        CLIENTS_LOGGED_IN);
    assert_string_equal(who.user, "");
    assert_true(who.is_by_token);
    assert_false(grants(clients, "org/app"));
    clients_release(clients);
}

static void test_a_token_with_too_much_is_refused_and_not_cut(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    cleanup_buffer struct buffer more = {0};
    buffer_append_string(&more, ",\"access\":[");
    for (int i = 0; i < CLIENTS_GRANTS_LIMIT; i++)
        buffer_printf(&more, "%s{\"type\":\"repository\",\"name\":\"r%d\",\"actions\":[\"pull\"]}",
                      i ? "," : "", i);
    size_t length = more.length;
    buffer_append_string(&more, "]");
    assert_int_equal(login_by(clients, rsa, RS256, claims_of(more.bytes)), CLIENTS_LOGGED_IN);
    assert_true(grants(clients, "r31"));
    more.length = length;
    buffer_append_string(&more,
                         ",{\"type\":\"repository\",\"name\":\"x\",\"actions\":[\"pull\"]}]");
    assert_int_equal(login_by(clients, rsa, RS256, claims_of(more.bytes)), CLIENTS_REFUSED);
    assert_false(who.is_by_token);
    clients_release(clients);
}

static void test_a_right_token_is_remembered_until_its_end(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    cleanup_free char *token = token_of(
        rsa, RS256,
        claims_of(",\"access\":[{\"type\":\"repository\",\"name\":\"a\",\"actions\":[\"pull\"]}]"));
    assert_int_equal(known(clients, token), CLIENTS_MUST_CHECK);
    assert_int_equal(login(clients, token), CLIENTS_LOGGED_IN);
    unsigned before = verified;
    for (int i = 0; i < 50; i++)
        assert_int_equal(known(clients, token), CLIENTS_LOGGED_IN);
    assert_int_equal(verified, before);
    assert_string_equal(who.user, "alice");
    assert_true(grants(clients, "a"));
    assert_false(grants(clients, "b"));
    later_ms += 250 * 1000;
    clients_look(clients);
    assert_int_equal(known(clients, token), CLIENTS_LOGGED_IN);
    later_ms += 100 * 1000; /* its end and the leeway are past */
    clients_look(clients);
    assert_int_equal(known(clients, token), CLIENTS_MUST_CHECK);
    assert_int_equal(login(clients, token), CLIENTS_REFUSED);
    clients_release(clients);
}

static void test_the_keys_are_read_again_when_they_change(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    cleanup_free char *token = token_of(rsa, RS256, claims_of(""));
    cleanup_free char *other = token_of(other_rsa, RS256, claims_of(""));
    cleanup_buffer struct buffer set = {0};
    assert_int_equal(login(clients, token), CLIENTS_LOGGED_IN); /* remembered from here on */
    buffer_append_string(&set, "{\"keys\":[");
    append_jwk(&set, other_rsa, "");
    buffer_append_string(&set, "]}");
    write_text(set.bytes);
    later_ms += 1100;
    assert_int_equal(login(clients, token), CLIENTS_REFUSED);
    assert_int_equal(login(clients, other), CLIENTS_LOGGED_IN);
    write_text("{\"keys\":[");
    later_ms += 1100;
    assert_int_equal(login(clients, other), CLIENTS_LOGGED_IN); /* half written */
    unlink(file);
    later_ms += 1100;
    assert_int_equal(login(clients, other), CLIENTS_REFUSED);
    write_both();
    later_ms += 1100;
    assert_int_equal(login(clients, token), CLIENTS_LOGGED_IN);
    clients_release(clients);
}

/* Expired tokens come in the course of things; made-up ones do not. */
static void test_only_made_up_tokens_lock_an_address_out(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    const struct http_address address = {{[10] = 0xff, 0xff, 10, 0, 0, 1}};
    cleanup_free char *right = token_of(rsa, RS256, claims_of(""));
    cleanup_free char *expired = token_of(rsa, RS256, claims_at(-600, -60, "\"tarn\""));
    cleanup_free char *forged = token_of(other_rsa, RS256, claims_of(""));
    struct clients_login attempt = {.client = "10.0.0.1:1", .address = &address};
    attempt.authorization = text_of(expired);
    for (int i = 0; i < 30; i++)
        assert_int_equal(clients_identify(clients, &attempt, &who).verdict, CLIENTS_REFUSED);
    attempt.authorization = text_of(forged);
    for (int i = 0; i < 10; i++)
        assert_int_equal(clients_identify(clients, &attempt, &who).verdict, CLIENTS_REFUSED);
    attempt.authorization = text_of(right);
    assert_int_equal(clients_identify(clients, &attempt, &who).verdict, CLIENTS_LOCKED_OUT);
    assert_int_equal(clients_known(clients, &attempt, &who).verdict, CLIENTS_LOCKED_OUT);
    attempt.address = NULL;
    assert_int_equal(clients_identify(clients, &attempt, &who).verdict, CLIENTS_LOGGED_IN);
    clients_release(clients);
}

static void test_sets_that_are_none_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *told;
    } cases[] = {
        {"", "not JSON"},
        {"[]", "it is no JWK set; expected {\"keys\""},
        {"{\"keys\":{}}", "it is no JWK set"},
        {"{\"keys\":[]}", "it has no key that tokens can be signed with"},
        {"{\"keys\":[7]}", "keys[0] is no object"},
        {"{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}", "it has no key"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
         "keys[0] is no RSA key of 2048 to 8192 bits"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"use\":\"enc\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
         "it has no key"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AQAB\",\"y\":\"AQAB\"}]}",
         "keys[0] is no point on the curve P-256"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
         "\"x\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\","
         "\"y\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\"}]}",
         "keys[0] is no point on the curve P-256"},
        {"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"AQAB\",\"y\":\"AQAB\"}]}",
         "it has no key"},
        {"{\"keys\":[{\"kty\":\"RSA\",\"kid\":7}]}", "keys[0]: kid is no string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        struct jwks set;
        write_text(cases[i].text);
        assert_false(jwks_read(file, &set, NULL, &error));
        assert_int_equal(set.count, 0);
        if (!strstr(error.text, cases[i].told) || !strstr(error.text, file))
            fail_msg("%s: %s", cases[i].text, error.text);
    }
}

static void test_the_challenge_says_where_tokens_are(void **state) {
    (void)state;
    struct clients *clients = open_clients();
    cleanup_buffer struct buffer out = {0};
    assert_true(clients_challenge(clients, text_of("repository:a:pull"), NULL, false, &out));
    assert_string_equal(out.bytes, "Bearer realm=\"https://auth.example/token\",service=\"tarn\","
                                   "scope=\"repository:a:pull\"");
    buffer_clear(&out);
    assert_true(clients_challenge(clients, text_of(""), "invalid_token", true, &out));
    assert_string_equal(out.bytes, "Bearer realm=\"https://auth.example/token\",service=\"tarn\","
                                   "error=\"invalid_token\"");
    clients_release(clients);
}

static int begin_test(void **state) {
    (void)state;
    later_ms = 0;
    write_both();
    return 0;
}

static int make_keys(void **state) {
    (void)state;
    log_configure(LOG_ERROR, LOG_TEXT);
    rsa = EVP_RSA_gen(2048);
    other_rsa = EVP_RSA_gen(2048);
    ec = EVP_EC_gen("P-256");
    int fd = mkstemp(file);
    return !rsa || !other_rsa || !ec || fd < 0 ? -1 : close(fd);
}

static int free_keys(void **state) {
    (void)state;
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(other_rsa);
    EVP_PKEY_free(ec);
    unlink(file);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_right_token_names_its_user, begin_test),
        cmocka_unit_test_setup(test_only_a_key_of_the_set_can_sign, begin_test),
        cmocka_unit_test_setup(test_a_public_key_is_no_secret, begin_test),
        cmocka_unit_test_setup(test_malformed_tokens_are_refused, begin_test),
        cmocka_unit_test_setup(test_a_token_is_for_this_service_by_this_issuer, begin_test),
        cmocka_unit_test_setup(test_a_token_is_valid_in_its_time, begin_test),
        cmocka_unit_test_setup(test_a_token_opens_what_it_grants, begin_test),
        cmocka_unit_test_setup(test_a_token_without_a_subject_is_anonymous, begin_test),
        cmocka_unit_test_setup(test_a_token_with_too_much_is_refused_and_not_cut, begin_test),
        cmocka_unit_test_setup(test_a_right_token_is_remembered_until_its_end, begin_test),
        cmocka_unit_test_setup(test_the_keys_are_read_again_when_they_change, begin_test),
        cmocka_unit_test_setup(test_only_made_up_tokens_lock_an_address_out, begin_test),
        cmocka_unit_test_setup(test_sets_that_are_none_are_refused, begin_test),
        cmocka_unit_test_setup(test_the_challenge_says_where_tokens_are, begin_test),
    };
    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
