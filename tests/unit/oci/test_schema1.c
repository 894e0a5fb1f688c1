/* The digest of signed manifests of schema 1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/base64.h"
#include "oci/schema1.h"

#define HEAD "{\n   \"schemaVersion\": 1,\n   \"name\": \"a\",\n   \"fsLayers\": []"
#define TAIL "\n}"

/* A document with these bytes in front of its signatures, whose header claims `length` and `tail`.
 */
static void make(char out[2048], const char *front, long length, const char *tail) {
    char header[512];
    char *encoded_tail = base64_encode(tail, strlen(tail));
    snprintf(header, sizeof header, "{\"formatLength\":%ld,\"formatTail\":\"%s\"}", length,
             encoded_tail);
    char *encoded = base64_encode(header, strlen(header));
    for (char *c = encoded; *c; c++)
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
    snprintf(out, 2048, "%s,\n   \"signatures\": [{\"protected\": \"%s\"}]" TAIL, front, encoded);
    free(encoded);
    free(encoded_tail);
}

static bool has_digest_of(const char *document, const char *payload) {
    struct digest is, should;
    assert_true(digest_of(DIGEST_SHA256, payload, strlen(payload), &should));
    return schema1_digest(document, strlen(document), DIGEST_SHA256, &is) &&
           digest_equal(&is, &should);
}

static void test_the_digest_is_that_of_the_payload(void **state) {
    (void)state;
    char document[2048];
    make(document, HEAD, sizeof HEAD - 1, TAIL);
    assert_true(has_digest_of(document, HEAD TAIL));
}

static void test_a_payload_that_says_something_else_is_refused(void **state) {
    (void)state;
    char document[2048];
    struct digest digest;
    static const char evil[] = "{\"schemaVersion\": 1, \"name\": \"evil\"";
    static const struct {
        const char *front;
        long length;
        const char *tail;
    } lies[] = {
        {evil, 1, "\"schemaVersion\":1,\"name\":\"a\"}"}, /* the payload is in the tail */
        {HEAD, 0, HEAD TAIL},
        {HEAD, -1, TAIL},
        {HEAD, 100000, TAIL},
        {HEAD, sizeof HEAD - 1, ",\"fsLayers\":[1]}"},
        {HEAD, sizeof HEAD - 1, ""},
        {"{\"schemaVersion\": 2, \"layers\": []", 34, TAIL},
        {"{\"schemaVersion\": 1, \"name\": \"a\", \"name\": \"b\"", 45, TAIL},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        make(document, lies[i].front, lies[i].length, lies[i].tail);
        if (schema1_digest(document, strlen(document), DIGEST_SHA256, &digest))
            fail_msg("%zu: %s", i, document);
    }
}

static void test_what_is_not_signed_has_no_payload(void **state) {
    (void)state;
    struct digest digest;
    static const char *const others[] = {
        "",
        "<html>",
        "[]",
        HEAD TAIL,
        HEAD ",\"signatures\":[]}",
        HEAD ",\"signatures\":[{\"protected\":7}]}",
        HEAD ",\"signatures\":[{\"protected\":\"%%\"}]}",
        HEAD ",\"signatures\":[{\"protected\":\"e30\"}]}",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (schema1_digest(others[i], strlen(others[i]), DIGEST_SHA256, &digest))
            fail_msg("%s", others[i]);
    }
}

static void count_layer(void *context, const struct digest *digest) {
    unsigned *count = context;
    struct digest should;
    assert_true(digest_of(DIGEST_SHA256, "layer", 5, &should));
    assert_true(digest_equal(digest, &should));
    ++*count;
}

static unsigned layers_of(const char *document) {
    unsigned count = 0;
    schema1_layers(document, strlen(document), count_layer, &count);
    return count;
}

static void test_its_layers_are_listed(void **state) {
    (void)state;
    struct digest digest;
    char text[DIGEST_STRING_SIZE], document[1024];
    assert_true(digest_of(DIGEST_SHA256, "layer", 5, &digest));
    digest_format(&digest, text);
    snprintf(document, sizeof document,
             "{\"fsLayers\":[{\"blobSum\":\"%s\"},{\"blobSum\":1},7,{},{\"blobSum\":\"x\"},"
             "{\"blobSum\":\"%s\"}]}",
             text, text);
    assert_int_equal(layers_of(document), 2);
    assert_int_equal(layers_of("{\"fsLayers\":{}}"), 0);
    assert_int_equal(layers_of("[]"), 0);
    assert_int_equal(layers_of(""), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_digest_is_that_of_the_payload),
        cmocka_unit_test(test_a_payload_that_says_something_else_is_refused),
        cmocka_unit_test(test_what_is_not_signed_has_no_payload),
        cmocka_unit_test(test_its_layers_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
