/* Base64, both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/base64.h"

static void test_base64(void **state) {
    (void)state;
    static const struct {
        const char *plain, *encoded;
    } cases[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length;
        char *encoded = base64_encode(cases[i].plain, strlen(cases[i].plain));
        assert_string_equal(encoded, cases[i].encoded);
        char *plain = base64_decode(text_of(encoded), &length);
        assert_string_equal(plain, cases[i].plain);
        assert_int_equal(length, strlen(cases[i].plain));
        free(plain);
        struct text bare = text_of(encoded);
        while (text_ends(bare, "="))
            bare.length--;
        plain = base64_decode(bare, &length);
        assert_string_equal(plain, cases[i].plain);
        free(plain);
        free(encoded);
    }
    static const char *const wrong[] = {"Z", "Zg=", "Z===", "Zg==Zg==", "Zm 9", "Zm9-"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        size_t length;
        assert_null(base64_decode(text_of(wrong[i]), &length));
    }
}

static void test_base64_of_urls(void **state) {
    (void)state;
    static const unsigned char bytes[] = {0xfb, 0xff, 0xfe, 0xfb};
    size_t length;
    char *encoded = base64_encode_url(bytes, sizeof bytes);
    assert_string_equal(encoded, "-__--w");
    char *plain = base64_decode_url(text_of(encoded), &length);
    assert_int_equal(length, sizeof bytes);
    assert_memory_equal(plain, bytes, sizeof bytes);
    free(plain);
    free(encoded);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_base64_of_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
