/* Digests: their grammar, and hashes against the vectors of FIPS 180-2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "oci/digest.h"

/* FIPS 180-2, appendices B.1 and C.1: the message "abc"; and the empty message. */
#define SHA256_ABC     "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define SHA256_NOTHING "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SHA512_ABC                                                                                 \
    "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"                      \
    "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"

static void test_digests_of_known_bytes_are_right(void **state) {
    (void)state;
    struct digest digest;
    char string[DIGEST_STRING_SIZE];
    assert_true(digest_of(DIGEST_SHA256, "abc", 3, &digest));
    assert_string_equal(digest_format(&digest, string), SHA256_ABC);
    assert_true(digest_of(DIGEST_SHA512, "abc", 3, &digest));
    assert_string_equal(digest_format(&digest, string), SHA512_ABC);
    assert_true(digest_of(DIGEST_SHA256, NULL, 0, &digest));
    assert_string_equal(digest_format(&digest, string), SHA256_NOTHING);
}

static void test_a_running_hash_gives_the_same_in_pieces(void **state) {
    (void)state;
    struct digest whole, pieces;
    struct digest_hash *hash = digest_hash_new(DIGEST_SHA512);
    assert_non_null(hash);
    digest_hash_update(hash, "a", 1);
    digest_hash_update(hash, NULL, 0);
    digest_hash_update(hash, "bc", 2);
    digest_hash_finish(hash, &pieces);
    digest_hash_free(hash);
    assert_true(digest_of(DIGEST_SHA512, "abc", 3, &whole));
    assert_true(digest_equal(&whole, &pieces));
}

static void test_what_is_parsed_is_printed_again(void **state) {
    (void)state;
    static const char *const strings[] = {SHA256_ABC, SHA256_NOTHING, SHA512_ABC};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        struct digest digest;
        char string[DIGEST_STRING_SIZE];
        assert_true(digest_parse(text_of(strings[i]), &digest));
        assert_string_equal(digest_format(&digest, string), strings[i]);
    }
}

static void test_only_the_one_spelling_is_a_digest(void **state) {
    (void)state;
    static const char *const strings[] = {
        "",
        "sha256",
        "sha256:",
        "sha256:abc",
        "SHA256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha256:BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad0",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ag",
        "sha256:../../../../../../../../../../../../../../../../../../../etc/pass",
        "sha512:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha384:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        " " SHA256_ABC,
        SHA256_ABC " ",
        SHA256_ABC "\n",
    };
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        struct digest digest = {0};
        if (digest_parse(text_of(strings[i]), &digest))
            fail_msg("\"%s\" was taken for a digest", strings[i]);
        assert_int_equal(digest.algorithm, 0);
    }
    struct digest digest;
    assert_false(digest_parse((struct text){NULL, 0}, &digest));
    assert_false(digest_parse((struct text){SHA256_ABC "\0", sizeof SHA256_ABC}, &digest));
}

static void test_digests_are_equal_only_when_algorithm_and_bytes_are(void **state) {
    (void)state;
    struct digest abc, nothing, other, none = {0};
    assert_true(digest_parse(text_of(SHA256_ABC), &abc));
    assert_true(digest_parse(text_of(SHA256_NOTHING), &nothing));
    other = abc;
    assert_true(digest_equal(&abc, &other));
    other.algorithm = DIGEST_SHA512;
    assert_false(digest_equal(&abc, &other));
    assert_false(digest_equal(&abc, &nothing));
    assert_false(digest_equal(&none, &none));
}

static void test_no_digest_prints_as_nothing(void **state) {
    (void)state;
    struct digest none = {0};
    char string[DIGEST_STRING_SIZE] = "before";
    assert_string_equal(digest_format(&none, string), "");
    assert_string_equal(digest_algorithm_name(DIGEST_SHA256), "sha256");
    assert_string_equal(digest_algorithm_name(DIGEST_SHA512), "sha512");
    assert_string_equal(digest_algorithm_name(0), "");
    assert_null(digest_hash_new(0));
    digest_hash_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digests_of_known_bytes_are_right),
        cmocka_unit_test(test_a_running_hash_gives_the_same_in_pieces),
        cmocka_unit_test(test_what_is_parsed_is_printed_again),
        cmocka_unit_test(test_only_the_one_spelling_is_a_digest),
        cmocka_unit_test(test_digests_are_equal_only_when_algorithm_and_bytes_are),
        cmocka_unit_test(test_no_digest_prints_as_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
