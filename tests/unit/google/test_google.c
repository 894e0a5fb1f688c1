/* Google's access tokens: each kind of source, against servers that the test scripts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "auth/google/discover.h"
#include "auth/google/endpoint.h"
#include "auth/google/google.h"
#include "auth/google/jwt.h"
#include "auth/google/metadata.h"
#include "auth/google/request.h"
#include "auth/google/subject_token.h"
#include "auth/google/token_response.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "scripted_server.h"

/* The key of RFC 7515 A.2, as PEM: public for twenty years, and nobody's. */
static const char key_pem[] = "-----BEGIN PRIVATE KEY-----\n"
                              "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCh+BYK4uPJtGXO\n"
                              "jS1lYmM2K5J9vinh8CR3/BYlzJChNuOL2TSXxbbqY913EeZ8dCn5VrD7io8ImtxL\n"
                              "aYk8wTM/U+3QGbh3hCUv7JFP5IV3aVlL6kKA0ywPVb9ilE8TA5a8bpvfbr3SvaNn\n"
                              "juygxmj3AbONv/s4yDQs4v5tJ/reSlpIdJed1LnPmt7Ex1sFhSwsD174pcF1A5L5\n"
                              "ROjtZMEQxrZHYJqkeDrrnGya11UxMFBji4NmXG9veoKjlnAqH2QbgtPr8jkiGUkf\n"
                              "toaHLFcW9Qr4NY2ai50Xw0Byj3+H2JoY2PyrZ62EWQwuz3WTOTY8BwNNb2BvniHg\n"
                              "VFbK5emhAgMBAAECggEAEq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyW\n"
                              "PEAeP88vLNO97IjlA7/GQ5sLKMgvfTeXZx9SE+7YwVol2NXOoAJe46sui395IW/G\n"
                              "O+pWJ1O0BkTGoVEn2bKVRUCgu+GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzj\n"
                              "kn439X0M/V51gfpRLI9JYanrC4D4qAdGcopV/0ZHHzQlBjudU2QvXt4ehNYTCBr6\n"
                              "XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl/x/jTj3ccPDVZFD9pIuhLhBOneufuBiB\n"
                              "4cS98l2SR/RQyGWSeWjnczT0QU91p1DhOVRuOopznQKBgQDgHMQQ60imZV1URk0K\n"
                              "pLttoLhyt3SmqdEf/kgHePDdtzEafpAu+cS191R2JiuoF2yzWXnwFDcqGigp5BNr\n"
                              "0AHQfD8/Lk8l1Mk09jxxCfui5nYooNyac8YFjm3vItzVCVDnEd3BbVWG8qf6deqE\n"
                              "lMGAg+C2V0L4oNXnP7LZcPAZRwKBgQC5A8R+CZW2MvRTLLHzwZkUXV866cff7tx6\n"
                              "kqa0finGG0KgeqlaZPxgCZnFp7AeAcCMtiynVlJ7vMVgePsLq6XtON4tB5kP9jAP\n"
                              "rq3rbAOal78eUH5OcED6eNuCV8ixEu1eWcPNCS/l1OW1EnXUEoEHKl54Xrrz2uNw\n"
                              "kgMTP1FZ1wKBgAcCn1dwJKufzBWQxWQp1vsM5fggqPN1qGb5y0MAk3g7/Ls5bkUp\n"
                              "5u9SN0Ai3Ya6hNnvWJMb7sXQX6U/zyO2M/hTip7tUeh7CXgwo59dkpN75gJLVds2\n"
                              "9+DAncu3KXU4f2Fa+7bLNrur53k8KwPOq2bbuTG69QtV7Jr5MR0AHWKNAoGBAIf/\n"
                              "evpitUf+4JYbLpvNXWcY052Mpz22aR84mY3nh3F2LF2mjMJDpTg7FmuyPcVw6EcG\n"
                              "yoAe9fa65iNqCq+jdw6PVNGo2hxfjSiZ8IIzHdsPXI89//pMjZcQK9r+CCoRjaZj\n"
                              "OYiIDktVWZzmevJuv6WywUqd57LE3Zar3dLSIkx1AoGAIYd7DHOhrWvxkwPQsRM2\n"
                              "tOgrjbcrfvtQJipd+DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd/QJQ3\n"
                              "ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp/gh6A56\n"
                              "03k2+ZQwVK0JKSHuLFkuQ3U=\n"
                              "-----END PRIVATE KEY-----\n";

/* ---- signatures ---- */

static void test_assertion_is_signed_as_the_vector_says(void **state) {
    (void)state;
    struct error error = {0};
    cleanup_secret char *token = jwt_sign(
        key_pem, "1",
        "{\"iss\":\"sa@example-project.iam.gserviceaccount.com\",\"scope\":\"https://"
        "www.googleapis.com/auth/cloud-platform\",\"aud\":\"https://oauth2.googleapis.com/token\","
        "\"exp\":1700003600,\"iat\":1700000000}",
        &error);
    assert_string_equal(error.text, "");
    assert_string_equal(
        token,
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6IjEifQ.eyJpc3MiOiJzYUBleGFtcGxlLXByb2plY"
        "3QuaWFtLmdzZXJ2aWNlYWNjb3VudC5jb20iLCJzY29wZSI6Imh0dHBzOi8vd3d3Lmdvb2dsZWFwaXMuY29tL"
        "2F1dGgvY2xvdWQtcGxhdGZvcm0iLCJhdWQiOiJodHRwczovL29hdXRoMi5nb29nbGVhcGlzLmNvbS90b2tlb"
        "iIsImV4cCI6MTcwMDAwMzYwMCwiaWF0IjoxNzAwMDAwMDAwfQ.XLH8MWpYg5ajAmQNOQiJpZpohjywogCRMY"
        "oiDOnXDt1LcmtfENRlgeUooHflxHz6R2wvqVm6NMG-KHktNIw_kQrgSJtiP9xyU2qHfvzZ1K2KbGuRPdxG9k"
        "9znjE34gFMX1VEkmwIC9-LFYmvqvrSt-tMLwSFb8UCmqJOVVvJty_rHaC_DWahy5eO3838N6MIf_38l5uxjk"
        "iU80cjgXx-gB0Bs8hWvBC54aNK24ZVqXZuAlaTtNQf3QqkNXXSN7anKwwo4f4xZTN_vKH0x56DnMvsjCuWcB"
        "URUVhQtKHC2dgJ4RFQn4x7cR88gMitUCKKxr4WvoEb35fKlwYgJNWOow");
}

static void test_self_signed_token_is_signed_as_the_vector_says(void **state) {
    (void)state;
    cleanup_secret char *token = jwt_sign(
        key_pem, "1",
        "{\"iss\":\"sa@example-project.iam.gserviceaccount.com\",\"sub\":\"sa@example-project.iam."
        "gserviceaccount.com\",\"aud\":\"https://artifactregistry.googleapis.com/"
        "\",\"iat\":1700000000,\"exp\":1700003600}",
        NULL);
    assert_non_null(token);
    assert_string_equal(
        strrchr(token, '.') + 1,
        "FXFpELigPpGVRtxV1Z1VQVGeAS1zprssN82VaPjPdtg8Iup75cy14dpWFP6Gu-eXb_LTBuOJiOv--6b0Q63d"
        "mx3Q1DI8Da6PXXQUM0be3p16b1qkYTa6kvFGrsMMMMyaqOmb34z6fvxcoiDZwhTGOsXNC-dc2dveJqQHuUqD"
        "0bUsPVMK2OEi8klEDskOhSHIMehU1qonQwQNScXHXkSWL-GEReQZPpPsumbO8VIESo6hXfqY27iB4fwxEs4p"
        "D81s_2Y9Ad7jbk3U5Er520LfT2PPnuiQO4SrlD-u4x4uFGy4HfvqsmU9Dba4Xteld5Dsau6ZmLjOFcl2YJg7"
        "YZW2sw");
}

static void test_keys_that_cannot_sign_are_refused(void **state) {
    (void)state;
    static const char ec[] = "-----BEGIN PRIVATE KEY-----\n"
                             "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\n"
                             "OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n"
                             "1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\n"
                             "-----END PRIVATE KEY-----\n";
    const char *bad[] = {"", "secret",
                         "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", ec};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct error error = {0};
        assert_null(jwt_sign(bad[i], NULL, "{}", &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        assert_null(strstr(error.text, "AAAA"));
    }
}

/* ---- which hosts may be asked ---- */

static void fill_in(char *out, size_t size, const char *pattern, const char *service) {
    const char *mark = strstr(pattern, "%s");
    snprintf(out, size, "%.*s%s%s", mark ? (int)(mark - pattern) : (int)strlen(pattern), pattern,
             mark ? service : "", mark ? mark + 2 : "");
}

static void test_only_google_is_sent_credentials(void **state) {
    (void)state;
    /* The lists of Google's own libraries. */
    static const char *const good[] = {
        "https://%s.googleapis.com",
        "https://us-east-1.%s.googleapis.com",
        "https://US-EAST-1.%s.googleapis.com",
        "https://%s.us-east-1.googleapis.com",
        "https://%s.US-WEST-1.googleapis.com",
        "https://us-east-1-%s.googleapis.com",
        "https://us-west-1-%s.googleapis.com/path?query",
        "https://%s-us-east-1.p.googleapis.com",
    };
    static const char *const bad[] = {
        "%s.googleapis.com",
        "https://",
        "http://%s.googleapis.com",
        "https://st.s.googleapis.com",
        "https://us-eas\t-1.%s.googleapis.com",
        "https:/us-east-1.%s.googleapis.com",
        "https://US-WE/ST-1-%s.googleapis.com",
        "https://%s-us-east-1.googleapis.com",
        "https://%s-US-WEST-1.googleapis.com",
        "testhttps://us-east-1.%s.googleapis.com",
        "https://us-east-1.%s.googleapis.comevil.com",
        "https://us-east-1.us-east-1.%s.googleapis.com",
        "https://us-ea.s.t.%s.googleapis.com",
        "https://%s.googleapis.comevil.com",
        "hhttps://us-east-1.%s.googleapis.com",
        "https://us- -1.%s.googleapis.com",
        "https://-%s.googleapis.com",
        "https://us-east-1.%s.googleapis.com.evil.com",
        "https://%s.pgoogleapis.com",
        "https://p.googleapis.com",
        "https://%s.p.com",
        "http://%s.p.googleapis.com",
        "https://xyz-%s.p.googleapis.com",
        "https://%s-xyz.123.p.googleapis.com",
        "https://%s-xyz.p1.googleapis.com",
        "https://%s-xyz.p.foo.com",
        "https://%s-xyz.p.foo.googleapis.com",
        "https://user:password@%s.googleapis.com",
        "https://evil.com\\.%s.googleapis.com",
        "https://evil.com#.%s.googleapis.com",
        "file:///%s.googleapis.com",
        "http://localhost.evil.com",
        "http://127.0.0.2",
        "http://192.168.0.1",
    };
    static const enum endpoint kinds[] = {ENDPOINT_STS, ENDPOINT_IAM};
    static const char *const services[] = {"sts", "iamcredentials"};
    for (size_t kind = 0; kind < 2; kind++) {
        char url[200];
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
            fill_in(url, sizeof url, good[i], services[kind]);
            if (!endpoint_check(url, kinds[kind], GOOGLE_UNIVERSE, "token_url", NULL))
                fail_msg("refused: %s", url);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            struct error error = {0};
            fill_in(url, sizeof url, bad[i], services[kind]);
            if (endpoint_check(url, kinds[kind], GOOGLE_UNIVERSE, "token_url", &error))
                fail_msg("accepted: %s", url);
            assert_int_equal(error.kind, ERROR_INVALID);
            assert_null(strstr(error.text, "password"));
        }
        assert_false(endpoint_check(kind == 0 ? "https://iamcredentials.googleapis.com"
                                              : "https://sts.googleapis.com",
                                    kinds[kind], GOOGLE_UNIVERSE, "token_url", NULL));
    }
}

static void test_plain_http_is_for_this_machine_only(void **state) {
    (void)state;
    static const char *const good[] = {"http://127.0.0.1:8080/token", "http://[::1]/token",
                                       "http://localhost:1/token", "https://localhost/token"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        for (int kind = ENDPOINT_OAUTH; kind <= ENDPOINT_SUBJECT; kind++)
            assert_true(endpoint_check(good[i], (enum endpoint)kind, GOOGLE_UNIVERSE, "url", NULL));
    }
    assert_true(endpoint_check("http://169.254.169.254/metadata/identity/oauth2/token",
                               ENDPOINT_SUBJECT, GOOGLE_UNIVERSE, "url", NULL));
    assert_false(
        endpoint_check("http://169.254.169.254/token", ENDPOINT_STS, GOOGLE_UNIVERSE, "url", NULL));
    assert_false(
        endpoint_check("http://idp.example/token", ENDPOINT_SUBJECT, GOOGLE_UNIVERSE, "url", NULL));
    assert_true(endpoint_check("https://idp.example/token", ENDPOINT_SUBJECT, GOOGLE_UNIVERSE,
                               "url", NULL));
}

static void test_another_universe_has_its_own_hosts(void **state) {
    (void)state;
    assert_true(endpoint_check("https://sts.universe.test/v1/token", ENDPOINT_STS, "universe.test",
                               "u", NULL));
    assert_false(endpoint_check("https://sts.googleapis.com/v1/token", ENDPOINT_STS,
                                "universe.test", "u", NULL));
    assert_true(endpoint_universe_ok("universe.test"));
    static const char *const bad[] = {"", "com", ".com", "a..b", "a.b.", "a/b.c", "a.B", "-a.b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(endpoint_universe_ok(bad[i]));
}

static void test_registry_hosts_are_told_from_others(void **state) {
    (void)state;
    static const char *const good[] = {"gcr.io", "eu.gcr.io", "us-docker.pkg.dev",
                                       "us-central1-docker.pkg.dev", "docker.us-east1.rep.pkg.dev"};
    static const char *const bad[] = {"",
                                      "evilgcr.io",
                                      "a.b.gcr.io",
                                      "gcr.io.evil.com",
                                      "-docker.pkg.dev",
                                      "us-npm.pkg.dev",
                                      "a.us-docker.pkg.dev",
                                      "docker.pkg.dev",
                                      "docker.a.b.rep.pkg.dev",
                                      "docker..rep.pkg.dev",
                                      "index.docker.io",
                                      "us-docker.pkg.dev:5000"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(google_host_is_registry(text_of(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(google_host_is_registry(text_of(bad[i])));
    for (const char *const *host = google_registry_hosts(); *host; host++) {
        if (!google_host_is_registry(text_of(*host)))
            fail_msg("in the list, and none: %s", *host);
    }
    char host[64];
    assert_true(google_host_of(text_of("https://US-docker.pkg.dev:443/v2/"), host, sizeof host));
    assert_string_equal(host, "us-docker.pkg.dev");
    assert_true(google_host_of(text_of("gcr.io/"), host, sizeof host));
    assert_string_equal(host, "gcr.io");
    assert_false(google_host_of(text_of("https:///"), host, sizeof host));
    assert_false(google_host_of(text_of(""), host, sizeof host));
}

/* ---- what services answer ---- */

static struct buffer body_of(const char *text) {
    struct buffer body = {0};
    buffer_append_string(&body, text);
    return body;
}

static void test_token_replies_are_read_in_every_form(void **state) {
    (void)state;
    static const struct {
        const char *body;
        int64_t life_s; /* 0: refused */
    } cases[] = {
        {"{\"access_token\":\"ya29.a......\",\"expires_in\":3599,\"token_type\":\"Bearer\"}", 3599},
        {"{\"access_token\":\"a\",\"expires_in\":\"3599\",\"token_type\":\"bearer\"}", 3599},
        {"{\"access_token\":\"a\",\"expires_in\":3599.0}", 3599},
        {"{\"access_token\":\"a\"}", 60},
        {"{\"access_token\":\"a\",\"expires_in\":null}", 60},
        {"{\"access_token\":\"a\",\"expires_in\":1e300}", 43200},
        {"{\"access_token\":\"a\",\"expires_in\":0}", 0},
        {"{\"access_token\":\"a\",\"expires_in\":-5}", 0},
        {"{\"access_token\":\"a\",\"expires_in\":\"soon\"}", 0},
        {"{\"access_token\":\"a\",\"expires_in\":{}}", 0},
        {"{\"access_token\":\"a\",\"token_type\":\"mac\"}", 0},
        {"{\"access_token\":\"\"}", 0},
        {"{\"access_token\":\"a\\r\\nX: y\"}", 0},
        {"{\"access_token\":\"a b\"}", 0},
        {"{\"access_token\":7}", 0},
        {"{}", 0},
        {"[]", 0},
        {"", 0},
        {"<html>", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cleanup_secret_buffer struct buffer body = body_of(cases[i].body);
        cleanup_google_token struct google_token token = {0};
        struct error error = {0};
        bool ok = token_response_read(&body, 1000, &token, &error);
        if (ok != (cases[i].life_s != 0))
            fail_msg("%s: %s", cases[i].body, error.text);
        if (ok)
            assert_int_equal(token.expires_ms, 1000 + cases[i].life_s * 1000);
    }
}

static void test_forms_are_encoded(void **state) {
    (void)state;
    cleanup_buffer struct buffer form = {0};
    google_form_append(&form, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    google_form_append(&form, "a", "1//0g +&=\xc3\xa9");
    assert_string_equal(form.bytes,
                        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&"
                        "a=1%2F%2F0g%20%2B%26%3D%C3%A9");
}

/* ---- subject tokens ---- */

static char *extract(const char *text, const char *source, struct error *error) {
    json_t *json = json_loads(source, 0, NULL);
    char *token = subject_token_extract(text, json, error);
    json_decref(json);
    return token;
}

static void test_subject_tokens_are_text_or_a_member(void **state) {
    (void)state;
    static const char json_format[] =
        "{\"format\":{\"type\":\"json\",\"subject_token_field_name\":\"access_token\"}}";
    static const struct {
        const char *text, *source, *token; /* token NULL: refused */
    } cases[] = {
        {"HEADER.PAYLOAD.SIGNATURE\n", "{}", "HEADER.PAYLOAD.SIGNATURE"},
        {" \t\r\nA\n", "{\"format\":{\"type\":\"text\"}}", "A"},
        {"{\"access_token\":\"A\"}", json_format, "A"},
        {"\n", "{}", NULL},
        {"{\"access_token\":\"\"}", json_format, NULL},
        {"{\"access_token\":5}", json_format, NULL},
        {"{\"other\":\"A\"}", json_format, NULL},
        {"A", json_format, NULL},
        {"{}", "{\"format\":{\"type\":\"json\"}}", NULL},
        {"A", "{\"format\":{\"type\":\"xml\"}}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        cleanup_secret char *token = extract(cases[i].text, cases[i].source, &error);
        if (cases[i].token)
            assert_string_equal(token, cases[i].token);
        else
            assert_null(token);
        assert_int_equal(error.kind, cases[i].token ? ERROR_NONE : ERROR_INVALID);
    }
}

#define PROGRAM_TOKEN(type, member, end)                                                           \
    "{\"version\":1,\"success\":true,\"token_type\":\"urn:ietf:params:oauth:token-type:" type      \
    "\",\"" member "\":\"SUBJECT\"" end "}"

static void test_what_a_program_prints_is_read(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool needs_end, ok;
        enum error_kind kind;
    } cases[] = {
        {PROGRAM_TOKEN("id_token", "id_token", ""), false, true, ERROR_NONE},
        {PROGRAM_TOKEN("jwt", "id_token", ",\"expiration_time\":1001"), true, true, ERROR_NONE},
        {PROGRAM_TOKEN("saml2", "saml_response", ""), false, true, ERROR_NONE},
        {PROGRAM_TOKEN("id_token", "id_token", ""), true, false, ERROR_INVALID},
        {PROGRAM_TOKEN("id_token", "id_token", ",\"expiration_time\":1000"), false, false,
         ERROR_NOT_FOUND},
        {PROGRAM_TOKEN("id_token", "id_token", ",\"expiration_time\":\"2\""), false, false,
         ERROR_INVALID},
        {PROGRAM_TOKEN("saml2", "id_token", ""), false, false, ERROR_INVALID},
        {PROGRAM_TOKEN("magic", "id_token", ""), false, false, ERROR_UNSUPPORTED},
        {"{\"version\":2,\"success\":true}", false, false, ERROR_UNSUPPORTED},
        {"{\"success\":true}", false, false, ERROR_INVALID},
        {"{\"version\":1,\"success\":false,\"code\":\"401\",\"message\":\"Caller not "
         "authorized.\"}",
         false, false, ERROR_DENIED},
        {"nonsense", false, false, ERROR_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        cleanup_secret char *token =
            subject_program_read(cases[i].text, 1000, cases[i].needs_end, &error);
        if (cases[i].ok)
            assert_string_equal(token, "SUBJECT");
        else
            assert_null(token);
        assert_int_equal(error.kind, cases[i].kind);
    }
}

/* ---- a machine of our own: a folder, a clean environment, a service on loopback ---- */

static struct client *client; /* of the test that runs */

struct machine {
    char folder[64], file[128];
    struct server *server;
    server_answer *answer; /* what the service does, once a test has said so */
    void *context;
};

static const char *const variables[] = {"GOOGLE_APPLICATION_CREDENTIALS",
                                        "CLOUDSDK_CONFIG",
                                        "GCE_METADATA_HOST",
                                        "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES",
                                        "GOOGLE_CLOUD_QUOTA_PROJECT",
                                        "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS",
                                        "http_proxy",
                                        "HTTP_PROXY"};

static bool answer_as_told(struct server *server, int fd, const char *head) {
    struct machine *machine = server->context;
    return machine->answer(server, fd, head);
}

static int machine_start(void **state) {
    struct machine *machine = calloc(1, sizeof *machine);
    strcpy(machine->folder, "/tmp/test-google-XXXXXX");
    assert_non_null(mkdtemp(machine->folder));
    snprintf(machine->file, sizeof machine->file, "%s/credentials.json", machine->folder);
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    setenv("HOME", machine->folder, 1);
    setenv("NO_GCE_CHECK", "true", 1);
    machine->server = server_start(answer_as_told, machine);
    client = client_new();
    assert_non_null(client);
    *state = machine;
    return 0;
}

static int machine_stop(void **state) {
    struct machine *machine = *state;
    char command[128];
    client_free(client);
    server_stop(machine->server);
    snprintf(command, sizeof command, "rm -rf %s", machine->folder);
    assert_int_equal(system(command), 0);
    free(machine);
    return 0;
}

/* Writes the credential file; every @ stands for the service's address. */
static void write_file(struct machine *machine, const char *path, const char *content) {
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    for (; *content; content++) {
        if (*content == '@')
            fprintf(file, "http://127.0.0.1:%u", machine->server->port);
        else
            fputc(*content, file);
    }
    fclose(file);
    chmod(path, 0600);
}

static struct credential_source *new_source(const struct google_settings *settings) {
    struct credential_source *source = google_credential_source(settings);
    assert_non_null(source);
    credential_source_set_client(source, client);
    return source;
}

static bool fetch(const struct google_settings *settings, struct google_token *token,
                  struct error *error) {
    struct google_question question = {.client = client, .settings = *settings};
    return google_token_fetch(&question, token, error);
}

/* The file's token, which must come. */
static void must_fetch(struct machine *machine, const char *content, const char *secret) {
    cleanup_google_token struct google_token token = {0};
    struct error error = {0};
    write_file(machine, machine->file, content);
    if (!fetch(&(struct google_settings){.file = machine->file}, &token, &error))
        fail_msg("%s", error.text);
    assert_string_equal(token.secret, secret);
}

static void must_fail(struct machine *machine, const char *content, const char *words,
                      const char *secret) {
    struct google_token token = {0};
    struct error error = {0};
    write_file(machine, machine->file, content);
    assert_false(fetch(&(struct google_settings){.file = machine->file}, &token, &error));
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
    assert_null(token.secret);
    if (!strstr(error.text, words) || !strstr(error.text, machine->file))
        fail_msg("not as wanted (%s): %s", words, error.text);
    if (secret && strstr(error.text, secret))
        fail_msg("holds the secret: %s", error.text);
}

#define TOKEN_HEADERS "Content-Type: application/json\r\n"
#define USER_FILE                                                                                  \
    "{\"type\":\"authorized_user\",\"client_id\":\"id\",\"client_secret\":\"d-FL95Q19q7\","        \
    "\"refresh_token\":\"1//0gREFRESH\",\"token_uri\":\"@/token\"}"

/* Gives tokens ya29.1, ya29.2, … that live `context` seconds. */
static bool give_tokens(struct server *server, int fd, const char *head) {
    struct machine *machine = server->context;
    char body[200];
    (void)head;
    snprintf(body, sizeof body,
             "{\"access_token\":\"ya29.%u\",\"expires_in\":%d,\"token_type\":\"Bearer\"}",
             server_count(server, ""), *(const int *)machine->context);
    return server_reply(fd, 200, TOKEN_HEADERS "Metadata-Flavor: Google\r\n", body);
}

static int hour = 3599;

static void test_a_login_is_refreshed(void **state) {
    struct machine *machine = *state;
    machine->answer = give_tokens;
    machine->context = &hour;
    must_fetch(machine, USER_FILE, "ya29.1");
    const char *request = server_request(machine->server, "POST /token", 0);
    assert_non_null(strstr(request, "\r\n\r\ngrant_type=refresh_token&client_id=id&client_secret="
                                    "d-FL95Q19q7&refresh_token=1%2F%2F0gREFRESH"));
    assert_true(server_has(request, "Content-Type: application/x-www-form-urlencoded"));
}

static bool fail_twice(struct server *server, int fd, const char *head) {
    unsigned nth = server_count(server, "POST ");
    if (nth == 1)
        return server_reply(fd, 503, "", "<html>down</html>");
    if (nth == 2)
        return server_reply(fd, 400, "", "{\"error\":\"temporarily_unavailable\"}");
    return give_tokens(server, fd, head);
}

/* A login of a workforce pool: refreshed at its own token_url, the client named by HTTP Basic. */
static void test_a_workforce_login_is_refreshed(void **state) {
    struct machine *machine = *state;
    machine->answer = give_tokens;
    machine->context = &hour;
    must_fetch(machine,
               "{\"type\":\"external_account_authorized_user\",\"audience\":"
               "\"//iam.googleapis.com/locations/global/workforcePools/p/providers/q\","
               "\"client_id\":\"id\",\"client_secret\":\"d-FL95Q19q7\","
               "\"refresh_token\":\"1//0gREFRESH\",\"token_url\":\"@/v1/oauthtoken\"}",
               "ya29.1");
    const char *asked = server_request(machine->server, "POST /v1/oauthtoken", 0);
    assert_non_null(asked);
    assert_true(server_has(asked, "Authorization: Basic aWQ6ZC1GTDk1UTE5cTc=\r\n"));
    assert_non_null(strstr(asked, "grant_type=refresh_token&refresh_token=1%2F%2F0gREFRESH"));
    assert_null(strstr(asked, "client_secret="));
    static const char *const missing[] = {"client_id", "client_secret", "refresh_token"};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        char file[400] = "{\"type\":\"external_account_authorized_user\"";
        for (size_t j = 0; j < sizeof missing / sizeof *missing; j++) {
            size_t length = strlen(file);
            if (j != i)
                snprintf(file + length, sizeof file - length, ",\"%s\":\"x\"", missing[j]);
        }
        strcat(file, ",\"token_url\":\"@/v1/oauthtoken\"}");
        must_fail(machine, file, missing[i], NULL);
    }
    must_fail(machine,
              "{\"type\":\"external_account_authorized_user\",\"client_id\":\"id\","
              "\"client_secret\":\"d-FL95Q19q7\",\"refresh_token\":\"1//0gREFRESH\","
              "\"token_url\":\"https://sts.evil.test/v1/oauthtoken\"}",
              "is not an endpoint of Google", "REFRESH");
}

static void test_what_passes_is_tried_again(void **state) {
    struct machine *machine = *state;
    machine->answer = fail_twice;
    machine->context = &hour;
    must_fetch(machine, USER_FILE, "ya29.3");
}

/* Echoes the whole form, as a careless service might. */
static bool refuse_with_echo(struct server *server, int fd, const char *head) {
    cleanup_buffer struct buffer body = {0};
    (void)server;
    buffer_printf(&body,
                  "{\"error\":\"invalid_grant\",\"error_description\":\"Token has been expired or "
                  "revoked. 1//0gREFRESH %s ya29.LEAK\"}",
                  strstr(head, "\r\n\r\n") + 4);
    return server_reply(fd, 400, TOKEN_HEADERS, body.bytes);
}

static void test_refusals_are_final_and_hold_no_secret(void **state) {
    struct machine *machine = *state;
    machine->answer = refuse_with_echo;
    must_fail(machine, USER_FILE, "invalid_grant: Token has been expired or revoked.", "REFRESH");
    must_fail(machine, USER_FILE, "gcloud auth application-default login", "d-FL95Q19q7");
    must_fail(machine, USER_FILE, "status 400", "LEAK");
    assert_int_equal(server_count(machine->server, "POST "), 3);
}

static void test_files_that_are_none_are_named(void **state) {
    struct machine *machine = *state;
    static const struct {
        const char *content, *words;
    } cases[] = {
        {"", "is no JSON"},
        {"{\"private_key\":\"SECRET", "is no JSON"},
        {"[]", "is no JSON object"},
        {"{}", "type is missing"},
        {"{\"type\":\"gdch_service_account\"}", "type \"gdch_service_account\" is not supported"},
        {"{\"type\":\"service_account\"}", "client_email is missing"},
        {"{\"type\":\"service_account\",\"client_email\":\"a%40b\"}", "private_key is missing"},
        {"{\"type\":\"service_account\",\"client_email\":\"a%40b\",\"private_key\":\"SECRET\"}",
         "private_key is not a private key"},
        {"{\"type\":\"service_account\",\"client_email\":\"a%40b\",\"private_key\":\"SECRET\","
         "\"token_uri\":\"https://evil.example/token\"}",
         "nothing is sent there"},
        {"{\"type\":\"service_account\",\"client_email\":\"a%40b\",\"private_key\":\"SECRET\","
         "\"token_uri\":\"http://oauth2.googleapis.com/token\"}",
         "http is allowed for this machine only"},
        {"{\"type\":\"authorized_user\",\"client_id\":\"a\"}", "client_secret is missing"},
        {"{\"type\":\"authorized_user\",\"client_id\":\"a\",\"client_secret\":\"SECRET\","
         "\"refresh_token\":\"SECRET\",\"universe_domain\":\"universe.test\"}",
         "universe"},
        {"{\"type\":\"external_account\",\"audience\":\"a\",\"subject_token_type\":\"urn:ietf:"
         "params:"
         "aws:token-type:aws4_request\",\"token_url\":\"https://sts.googleapis.com/v1/token\","
         "\"credential_source\":{\"environment_id\":\"aws1\",\"url\":\"http://169.254.169.254/"
         "x\"}}",
         "AWS"},
        {"{\"type\":\"external_account\",\"audience\":\"a\",\"subject_token_type\":\"urn:ietf:"
         "params:"
         "oauth:token-type:jwt\",\"token_url\":\"https://sts.googleapis.com/v1/token\","
         "\"credential_source\":{\"file\":\"/a\",\"url\":\"https://b/\"}}",
         "holds 2 of"},
        {"{\"type\":\"external_account\",\"audience\":\"a\",\"subject_token_type\":\"urn:ietf:"
         "params:"
         "oauth:token-type:jwt\",\"token_url\":\"https://sts.googleapis.com/v1/token\","
         "\"credential_source\":{\"executable\":{\"command\":\"/bin/true\"}}}",
         "ALLOW_EXECUTABLES=1"},
        {"{\"type\":\"external_account\",\"audience\":\"a\",\"subject_token_type\":\"urn:ietf:"
         "params:"
         "oauth:token-type:jwt\",\"token_url\":\"https://sts.googleapis.com/v1/token\","
         "\"service_account_impersonation_url\":\"https://evil.example/a:generateAccessToken\","
         "\"credential_source\":{\"file\":\"/a\"}}",
         "nothing is sent there"},
        {"{\"type\":\"external_account\",\"audience\":\"a\",\"subject_token_type\":\"urn:ietf:"
         "params:"
         "oauth:token-type:jwt\",\"token_url\":\"https://sts.googleapis.com/v1/token\","
         "\"credential_source\":{\"file\":\"/nonexistent/token\"}}",
         "subject token file /nonexistent/token"},
        {"{\"type\":\"impersonated_service_account\",\"service_account_impersonation_url\":"
         "\"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a%40b:"
         "generateAccessToken\"}",
         "source_credentials is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        must_fail(machine, cases[i].content, cases[i].words, "SECRET");
    remove(machine->file);
    struct google_token token;
    struct error error;
    assert_false(fetch(&(struct google_settings){.file = machine->file}, &token, &error));
    assert_non_null(strstr(error.text, "No such file"));
}

static void test_files_inside_files_are_bounded(void **state) {
    struct machine *machine = *state;
    cleanup_buffer struct buffer content = {0};
    for (int i = 0; i < 10; i++)
        buffer_append_string(&content,
                             "{\"type\":\"impersonated_service_account\","
                             "\"service_account_impersonation_url\":\"@/v1/projects/-/"
                             "serviceAccounts/a:generateAccessToken\",\"source_credentials\":");
    buffer_append_string(&content, "{}");
    for (int i = 0; i < 10; i++)
        buffer_append_string(&content, "}");
    must_fail(machine, content.bytes, "nested too deeply", NULL);
}

/* ---- federation and impersonation ---- */

static bool federate(struct server *server, int fd, const char *head) {
    (void)server;
    if (server_asks(head, "GET /subject"))
        return server_reply(fd, server_has(head, "X-Key: k3y") ? 200 : 403, "",
                            "{\"value\":\"SUBJECT\"}");
    if (server_asks(head, "POST /sts") && strstr(head, "subject_token=SUBJECT"))
        return server_reply(fd, 200, TOKEN_HEADERS,
                            "{\"access_token\":\"FEDERATED\",\"expires_in\":3599}");
    if (server_asks(head,
                    "POST /v1/projects/-/serviceAccounts/sa@p.iam.test:generateAccessToken") &&
        server_has(head, "Authorization: Bearer FEDERATED"))
        return server_reply(
            fd, 200, TOKEN_HEADERS,
            "{\"accessToken\":\"ya29.SA\",\"expireTime\":\"2099-01-01T00:00:00Z\"}");
    return server_reply(fd, 403, TOKEN_HEADERS,
                        "{\"error\":{\"code\":403,\"status\":\"PERMISSION_DENIED\",\"message\":"
                        "\"Permission 'iam.serviceAccounts.getAccessToken' denied\"}}");
}

#define FEDERATION(source, more)                                                                   \
    "{\"type\":\"external_account\",\"audience\":\"//iam.googleapis.com/projects/1/locations/"     \
    "global/workloadIdentityPools/p/providers/v\",\"subject_token_type\":\"urn:ietf:params:oauth:" \
    "token-type:jwt\",\"token_url\":\"@/sts\",\"credential_source\":" source more "}"
static void test_federation_from_a_url(void **state) {
    struct machine *machine = *state;
    machine->answer = federate;
    must_fetch(machine,
               FEDERATION("{\"url\":\"@/subject\",\"headers\":{\"X-Key\":\"k3y\"},\"format\":{"
                          "\"type\":\"json\",\"subject_token_field_name\":\"value\"}}",
                          ""),
               "FEDERATED");
    const char *request = server_request(machine->server, "POST /sts", 0);
    assert_non_null(strstr(request,
                           "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&"
                           "audience=%2F%2Fiam.googleapis.com%2F"));
    assert_non_null(
        strstr(request, "&scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform&"));
    must_fail(machine, FEDERATION("{\"url\":\"@/subject\",\"headers\":{\"X-Key\":\"wr0ng\"}}", ""),
              "status 403", "wr0ng");
    must_fail(machine, FEDERATION("{\"url\":\"@/subject\",\"headers\":{\"A\\r\\nB\":\"c\"}}", ""),
              "cannot be sent", NULL);
}

static void test_federation_from_a_file_that_rotates(void **state) {
    struct machine *machine = *state;
    char subject[128], content[1024];
    machine->answer = federate;
    snprintf(subject, sizeof subject, "%s/subject", machine->folder);
    snprintf(content, sizeof content, FEDERATION("{\"file\":\"%s\"}", ""), subject);
    write_file(machine, subject, "OLD");
    must_fail(machine, content, "token exchange", "OLD");
    write_file(machine, subject, "SUBJECT\n");
    must_fetch(machine, content, "FEDERATED");
}

static void test_federation_from_a_program(void **state) {
    struct machine *machine = *state;
    char program[128], content[1024];
    machine->answer = federate;
    setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1", 1);
    snprintf(program, sizeof program, "%s/program", machine->folder);
    snprintf(content, sizeof content,
             FEDERATION("{\"executable\":{\"command\":\"%s --word\",\"timeout_millis\":5000}}", ""),
             program);
    write_file(
        machine, program,
        "#!/bin/sh\n[ \"$1\" = --word ] && [ -n \"$GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE\" ] || exit 3\n"
        "[ \"$GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE$GOOGLE_EXTERNAL_ACCOUNT_REVOKE\" = 00 ] || exit "
        "4\n"
        "echo '" PROGRAM_TOKEN("jwt", "id_token", "") "'\n");
    must_fail(machine, content, "exit 126", NULL);
    chmod(program, 0700);
    must_fetch(machine, content, "FEDERATED");
    unlink(program);
    must_fail(machine, content, "no such program", NULL);
}

static void test_a_federated_identity_acts_as_an_account(void **state) {
    struct machine *machine = *state;
    cleanup_google_token struct google_token token = {0};
    struct error error = {0};
    cleanup_buffer struct buffer content = {0};
    machine->answer = federate;
    buffer_printf(
        &content,
        "{\"type\":\"external_account\",\"audience\":\"a\",\"subject_token_type\":\"urn:"
        "ietf:params:oauth:token-type:jwt\",\"token_url\":\"http://127.0.0.1:%u/sts\","
        "\"service_account_impersonation_url\":\"http://127.0.0.1:%u/v1/projects/-/"
        "serviceAccounts/sa@p.iam.test:generateAccessToken\",\"service_account_"
        "impersonation\":{\"token_lifetime_seconds\":1800},\"credential_source\":{\"file\":"
        "\"/nonexistent\"}}",
        machine->server->port, machine->server->port);
    FILE *file = fopen(machine->file, "we");
    fputs(content.bytes, file);
    fclose(file);
    struct google_question question = {
        .client = client, .settings = {.file = machine->file}, .subject_token = "SUBJECT"};
    if (!google_token_fetch(&question, &token, &error))
        fail_msg("%s", error.text);
    assert_string_equal(token.secret, "ya29.SA");
    assert_string_equal(token.account, "sa@p.iam.test");
    assert_true(token.expires_ms - clock_ms() <= 1800000);
    assert_true(token.expires_ms - clock_ms() > 1790000);
    const char *request = server_request(machine->server, "POST /v1/", 0);
    assert_non_null(strstr(request,
                           "{\"scope\":[\"https://www.googleapis.com/auth/cloud-platform\"],"
                           "\"lifetime\":\"1800s\"}"));
}

static void test_a_login_acts_as_an_account(void **state) {
    struct machine *machine = *state;
    struct google_token token = {0};
    struct error error = {0};
    char base[64];
    static const char *const scopes[] = {"a", "b", NULL};
    machine->answer = federate; /* it refuses whoever is not FEDERATED */
    snprintf(base, sizeof base, "http://127.0.0.1:%u/", machine->server->port);
    setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS", base, 1);
    write_file(machine, machine->file,
               FEDERATION("{\"url\":\"@/subject\",\"headers\":{\"X-Key\":"
                          "\"k3y\"},\"format\":{\"type\":\"json\","
                          "\"subject_token_field_name\":\"value\"}}",
                          ""));
    struct google_settings settings = {
        .file = machine->file, .impersonate = "sa@p.iam.test", .scopes = scopes};
    if (!fetch(&settings, &token, &error))
        fail_msg("%s", error.text);
    assert_string_equal(token.secret, "ya29.SA");
    google_token_wipe(&token);
    assert_non_null(strstr(server_request(machine->server, "POST /v1/", 0),
                           "{\"scope\":[\"a\",\"b\"],\"lifetime\":\"3600s\"}"));
    settings.impersonate = "other@p.iam.test";
    assert_false(fetch(&settings, &token, &error));
    assert_non_null(strstr(error.text, "roles/iam.serviceAccountTokenCreator"));
    settings.impersonate = "../../evil";
    assert_false(fetch(&settings, &token, &error));
    assert_non_null(strstr(error.text, "is not the address of an account"));
}

/* ---- the search order ---- */

static struct found look(struct google_trail *trail) {
    struct found found;
    struct error error = {0};
    *trail = (struct google_trail){0};
    if (!google_discover(client, &(struct google_settings){0}, &found, trail, &error))
        fail_msg("%s", error.text);
    return found;
}

static void test_the_first_source_that_is_present_decides(void **state) {
    struct machine *machine = *state;
    struct google_trail trail;
    char path[200], folder[100];
    assert_int_equal(look(&trail).kind, FOUND_NOTHING);
    assert_int_equal(trail.count, 3);
    assert_non_null(strstr(trail.steps[2].finding, "NO_GCE_CHECK"));

    setenv("GCE_METADATA_HOST", "metadata.test:8080", 1); /* stronger than NO_GCE_CHECK */
    struct found found = look(&trail);
    assert_int_equal(found.kind, FOUND_METADATA);
    assert_string_equal(found.place, "metadata.test:8080");

    snprintf(folder, sizeof folder, "%s/.config", machine->folder);
    mkdir(folder, 0700);
    snprintf(folder, sizeof folder, "%s/.config/gcloud", machine->folder);
    mkdir(folder, 0700);
    snprintf(path, sizeof path, "%s/application_default_credentials.json", folder);
    write_file(machine, path, "{}");
    found = look(&trail);
    assert_int_equal(found.kind, FOUND_FILE);
    assert_string_equal(found.place, path);

    setenv("CLOUDSDK_CONFIG", machine->folder, 1); /* instead of HOME, not beside it */
    assert_int_equal(look(&trail).kind, FOUND_METADATA);
    setenv("CLOUDSDK_CONFIG", folder, 1);
    assert_int_equal(look(&trail).kind, FOUND_FILE);

    setenv("GOOGLE_APPLICATION_CREDENTIALS", "", 1);
    assert_string_equal(look(&trail).place, path);
    setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent.json", 1);
    assert_string_equal(look(&trail).place, "/nonexistent.json");
    struct google_token token;
    struct error error;
    assert_false(fetch(&(struct google_settings){0}, &token, &error)); /* never skipped */
    assert_non_null(strstr(error.text, "/nonexistent.json"));
}

static void test_a_credential_in_place_of_its_path_is_not_shown(void **state) {
    struct machine *machine = *state;
    static const char *const values[] = {USER_FILE,
                                         "  {\n\"refresh_token\": \"1//0gREFRESH\"}",
                                         "1//0gREFRESH\n",
                                         "\"private_key\": \"1//0gREFRESH",
                                         "eyJyZWZyZXNoIjoiMS8vMGdSRUZSRVNIIn0=",
                                         "-----BEGIN PRIVATE KEY----- 1//0gREFRESH"};
    static const char *const wants[] = {"GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST"};
    (void)machine;
    for (size_t i = 0; i < 2 * sizeof values / sizeof *values; i++) {
        const char *value = values[i / 2], *variable = wants[i % 2];
        struct google_token token;
        struct google_trail trail = {0};
        struct error error = {0};
        unsetenv(wants[1 - i % 2]);
        setenv(variable, value, 1);
        struct google_question question = {.client = client, .trail = &trail};
        assert_false(google_token_fetch(&question, &token, &error));
        assert_non_null(strstr(error.text, variable));
        assert_non_null(
            strstr(error.text, i % 2 ? "a host is wanted" : "path of a file is wanted"));
        for (unsigned step = 0; step <= trail.count; step++) {
            const char *text = step < trail.count ? trail.steps[step].place : error.text;
            assert_null(strstr(text, "REFRESH"));
            assert_null(strstr(text, "UkVGUkVTSCJ9"));
            assert_null(strstr(text, "eyJ"));
        }
    }
}

static bool metadata_answer(struct server *server, int fd, const char *head) {
    struct machine *machine = server->context;
    if (!server_has(head, "Metadata-Flavor: Google"))
        return server_reply(fd, 403, "", "<html>");
    const char *mode = machine->context;
    if (strcmp(mode, "nobody") == 0)
        return server_reply(fd, 404, "Metadata-Flavor: Google\r\n", "not found");
    if (strcmp(mode, "stranger") == 0)
        return server_reply(fd, 404, "", "not found");
    if (strcmp(mode, "slow start") == 0 && server_count(server, "GET ") < 5)
        return server_reply(fd, 503, "Metadata-Flavor: Google\r\n", "");
    if (server_asks(head, "GET /computeMetadata/v1/instance/service-accounts/default/email"))
        return server_reply(fd, 200, "Metadata-Flavor: Google\r\n", "node@p.iam.test\n");
    return server_reply(
        fd, 200, "Metadata-Flavor: Google\r\n",
        "{\"access_token\":\"ya29.M\",\"expires_in\":120,\"token_type\":\"Bearer\"}");
}

static void test_the_metadata_server_is_asked(void **state) {
    struct machine *machine = *state;
    char host[64];
    struct google_token token = {0};
    struct error error = {0};
    machine->answer = metadata_answer;
    snprintf(host, sizeof host, "127.0.0.1:%u", machine->server->port);
    setenv("GCE_METADATA_HOST", host, 1);
    setenv("http_proxy", "http://127.0.0.1:9", 1); /* never through it */

    machine->context = (void *)(uintptr_t) "nobody";
    assert_true(fetch(&(struct google_settings){0}, &token, &error));
    assert_null(token.secret);
    assert_false(fetch(&(struct google_settings){.metadata = host}, &token, &error));
    assert_non_null(strstr(error.text, "no service account"));

    machine->context = (void *)(uintptr_t) "stranger";
    assert_false(fetch(&(struct google_settings){0}, &token, &error));
    assert_non_null(strstr(error.text, "is not a metadata server of Google"));

    machine->context = (void *)(uintptr_t) "slow start";
    struct google_question question = {.client = client, .account = true};
    if (!google_token_fetch(&question, &token, &error))
        fail_msg("%s", error.text);
    assert_string_equal(token.secret, "ya29.M");
    assert_string_equal(token.account, "node@p.iam.test");
    google_token_wipe(&token);
}

/* ---- the cache ---- */

struct crowd {
    struct credential_source *source;
    atomic_uint got;
};

static void *ask_once(void *context) {
    struct crowd *crowd = context;
    struct credential credential = {0};
    if (credential_source_get(crowd->source, "us-docker.pkg.dev", false, INT64_MAX, &credential,
                              NULL) &&
        credential.kind == CREDENTIAL_BASIC && strcmp(credential.secret, "ya29.1") == 0)
        atomic_fetch_add(&crowd->got, 1);
    credential_wipe(&credential);
    return NULL;
}

static void test_a_crowd_causes_one_request(void **state) {
    struct machine *machine = *state;
    pthread_t threads[50];
    machine->answer = give_tokens;
    machine->context = &hour;
    write_file(machine, machine->file, USER_FILE);
    struct crowd crowd = {new_source(&(struct google_settings){.file = machine->file}), 0};
    for (size_t i = 0; i < 50; i++)
        pthread_create(&threads[i], NULL, ask_once, &crowd);
    for (size_t i = 0; i < 50; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(crowd.got, 50);
    assert_int_equal(server_count(machine->server, "POST "), 1);

    struct credential credential;
    struct error error;
    assert_true(
        credential_source_get(crowd.source, "gcr.io", false, INT64_MAX, &credential, &error));
    assert_string_equal(credential.username, "oauth2accesstoken");
    assert_string_equal(credential.secret, "ya29.1"); /* one token for all hosts */
    assert_true(credential.expires_ms > clock_ms());
    assert_string_equal(credential.from, "google authorized_user");
    credential_wipe(&credential);

    /* Refused: replaced once, and not again at once. */
    assert_true(
        credential_source_get(crowd.source, "gcr.io", true, INT64_MAX, &credential, &error));
    assert_string_equal(credential.secret, "ya29.2");
    credential_wipe(&credential);
    assert_true(credential_source_get(crowd.source, "us-docker.pkg.dev", true, INT64_MAX,
                                      &credential, &error));
    assert_string_equal(credential.secret, "ya29.2");
    credential_wipe(&credential);
    credential_source_free(crowd.source);
}

static void test_no_source_is_anonymous_and_a_broken_one_is_not(void **state) {
    struct machine *machine = *state;
    struct credential credential;
    struct error error = {0};
    struct credential_source *source = new_source(&(struct google_settings){0});
    assert_string_equal(credential_source_name(source), "google");
    assert_true(credential_source_get(source, "gcr.io", false, INT64_MAX, &credential, &error));
    assert_int_equal(credential.kind, CREDENTIAL_ANONYMOUS);
    credential_source_free(source);

    write_file(machine, machine->file, "{");
    setenv("GOOGLE_APPLICATION_CREDENTIALS", machine->file, 1);
    source = new_source(&(struct google_settings){0});
    assert_false(credential_source_get(source, "gcr.io", false, INT64_MAX, &credential, &error));
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(error.text, machine->file));
    credential_source_free(source);
}

/* The account of a new pod comes some seconds after its metadata server, and once it has come, it
 * does not go. */
static void test_no_account_is_believed_for_a_while_only(void **state) {
    struct machine *machine = *state;
    struct credential credential;
    struct error error = {0};
    char host[64];
    machine->answer = metadata_answer;
    machine->context = (void *)(uintptr_t) "nobody";
    snprintf(host, sizeof host, "127.0.0.1:%u", machine->server->port);
    setenv("GCE_METADATA_HOST", host, 1);
    struct credential_source *source = new_source(&(struct google_settings){0});
    assert_true(credential_source_get(source, "gcr.io", false, INT64_MAX, &credential, &error));
    assert_int_equal(credential.kind, CREDENTIAL_ANONYMOUS);
    assert_true(credential.provisional);
    assert_in_range(credential.expires_ms - clock_ms(), 1, 10000);

    machine->context = (void *)(uintptr_t) "somebody";
    clock_sleep_ms(1100); /* one look a second for all who were refused */
    assert_true(credential_source_get(source, "gcr.io", true, INT64_MAX, &credential, &error));
    assert_string_equal(credential.secret, "ya29.M");
    credential_wipe(&credential);

    machine->context = (void *)(uintptr_t) "nobody";
    assert_false(credential_source_get(source, "us.gcr.io", true, INT64_MAX, &credential, &error));
    assert_int_equal(error.kind, ERROR_UNAVAILABLE);
    assert_non_null(strstr(error.text, "gave a token before"));
    credential_source_free(source);
}

static void test_a_stale_token_is_given_while_the_next_is_fetched(void **state) {
    struct machine *machine = *state;
    struct credential credential;
    struct error error = {0};
    int life_s = 227; /* stale after two seconds */
    machine->answer = give_tokens;
    machine->context = &life_s;
    write_file(machine, machine->file, USER_FILE);
    struct credential_source *source = new_source(&(struct google_settings){.file = machine->file});
    assert_true(credential_source_get(source, "gcr.io", false, INT64_MAX, &credential, &error));
    assert_string_equal(credential.secret, "ya29.1");
    credential_wipe(&credential);
    clock_sleep_ms(4000); /* at most every 10 s */
    assert_int_equal(server_count(machine->server, "POST "), 1);
    assert_true(
        credential_source_get(source, "us-docker.pkg.dev", false, INT64_MAX, &credential, &error));
    assert_string_equal(credential.secret, "ya29.1");
    credential_wipe(&credential);
    for (int i = 0; i < 100 && server_count(machine->server, "POST ") < 2; i++)
        clock_sleep_ms(100);
    clock_sleep_ms(500);
    assert_int_equal(server_count(machine->server, "POST "), 2); /* nobody asked for it */
    assert_true(credential_source_get(source, "us.gcr.io", false, INT64_MAX, &credential, &error));
    assert_string_equal(credential.secret, "ya29.2");
    credential_wipe(&credential);
    credential_source_free(source);
}

#define WITH_MACHINE(test) cmocka_unit_test_setup_teardown(test, machine_start, machine_stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assertion_is_signed_as_the_vector_says),
        cmocka_unit_test(test_self_signed_token_is_signed_as_the_vector_says),
        cmocka_unit_test(test_keys_that_cannot_sign_are_refused),
        cmocka_unit_test(test_only_google_is_sent_credentials),
        cmocka_unit_test(test_plain_http_is_for_this_machine_only),
        cmocka_unit_test(test_another_universe_has_its_own_hosts),
        cmocka_unit_test(test_registry_hosts_are_told_from_others),
        cmocka_unit_test(test_token_replies_are_read_in_every_form),
        cmocka_unit_test(test_forms_are_encoded),
        cmocka_unit_test(test_subject_tokens_are_text_or_a_member),
        cmocka_unit_test(test_what_a_program_prints_is_read),
        WITH_MACHINE(test_a_login_is_refreshed),
        WITH_MACHINE(test_a_workforce_login_is_refreshed),
        WITH_MACHINE(test_what_passes_is_tried_again),
        WITH_MACHINE(test_refusals_are_final_and_hold_no_secret),
        WITH_MACHINE(test_files_that_are_none_are_named),
        WITH_MACHINE(test_files_inside_files_are_bounded),
        WITH_MACHINE(test_federation_from_a_url),
        WITH_MACHINE(test_federation_from_a_file_that_rotates),
        WITH_MACHINE(test_federation_from_a_program),
        WITH_MACHINE(test_a_federated_identity_acts_as_an_account),
        WITH_MACHINE(test_a_login_acts_as_an_account),
        WITH_MACHINE(test_the_first_source_that_is_present_decides),
        WITH_MACHINE(test_a_credential_in_place_of_its_path_is_not_shown),
        WITH_MACHINE(test_the_metadata_server_is_asked),
        WITH_MACHINE(test_a_crowd_causes_one_request),
        WITH_MACHINE(test_no_source_is_anonymous_and_a_broken_one_is_not),
        WITH_MACHINE(test_no_account_is_believed_for_a_while_only),
        WITH_MACHINE(test_a_stale_token_is_given_while_the_next_is_fetched),
    };
    log_configure(LOG_ERROR, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
