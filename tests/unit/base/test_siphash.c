/* SipHash, by what OpenSSL computes: `openssl mac -macopt hexkey:00…0f SIPHASH`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <string.h>
#include "base/siphash.h"

/* The input is 00 01 02 … of so many bytes. */
static const struct {
    size_t length;
    unsigned char hash[8], tag[16];
} expected[] = {
    {0,
     {0xdc, 0xc4, 0x0f, 0x05, 0x58, 0x01, 0xac, 0xab},
     {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02,
      0x93}},
    {7,
     {0x40, 0x11, 0xb1, 0x9b, 0x98, 0x7d, 0x92, 0xd3},
     {0xa1, 0xf1, 0xeb, 0xbe, 0xd8, 0xdb, 0xc1, 0x53, 0xc0, 0xb8, 0x4a, 0xa6, 0x1f, 0xf0, 0x82,
      0x39}},
    {8,
     {0x8e, 0x9a, 0x29, 0x8d, 0x11, 0x95, 0x90, 0x36},
     {0x3b, 0x62, 0xa9, 0xba, 0x62, 0x58, 0xf5, 0x61, 0x0f, 0x83, 0xe2, 0x64, 0xf3, 0x14, 0x97,
      0xb4}},
    {63,
     {0xa8, 0xb3, 0xbb, 0xb7, 0x62, 0x90, 0x19, 0x9d},
     {0x51, 0x50, 0xd1, 0x77, 0x2f, 0x50, 0x83, 0x4a, 0x50, 0x3e, 0x06, 0x9a, 0x97, 0x3f, 0xbd,
      0x7c}},
};

static void test_both_hashes_are_siphash(void **state) {
    (void)state;
    unsigned char bytes[64];
    struct siphash_key key;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    memcpy(&key, bytes, sizeof key);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        uint64_t hash = htole64(siphash_of(&key, bytes, expected[i].length));
        struct siphash_tag tag = siphash_tag_of(&key, bytes, expected[i].length);
        tag.parts[0] = htole64(tag.parts[0]);
        tag.parts[1] = htole64(tag.parts[1]);
        assert_memory_equal(&hash, expected[i].hash, sizeof hash);
        assert_memory_equal(&tag, expected[i].tag, sizeof tag);
    }
}

static void test_another_key_gives_another_hash(void **state) {
    (void)state;
    const struct siphash_key one = {{1, 2}}, other = {{1, 3}};
    struct siphash_tag a = siphash_tag_of(&one, "tarn", 4), b = siphash_tag_of(&other, "tarn", 4);
    assert_true(siphash_of(&one, "tarn", 4) != siphash_of(&other, "tarn", 4));
    assert_memory_not_equal(&a, &b, sizeof a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_hashes_are_siphash),
        cmocka_unit_test(test_another_key_gives_another_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
