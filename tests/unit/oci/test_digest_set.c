/* Sets of digests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "oci/digest_set.h"

static void test_a_set_holds_what_was_added_once(void **state) {
    (void)state;
    enum { COUNT = 5000 };
    struct digest_set set = {0};
    bool added;
    size_t found = 0;
    struct digest digest = {.algorithm = DIGEST_SHA256};
    assert_false(digest_set_has(&set, &digest));
    for (uint32_t i = 0; i < COUNT; i++) {
        memcpy(digest.bytes, &i, sizeof i);
        assert_true(digest_set_add(&set, &digest, &added));
        assert_true(added);
        assert_true(digest_set_add(&set, &digest, &added));
        assert_false(added);
    }
    assert_int_equal(set.count, COUNT);
    for (size_t at = 0; digest_set_next(&set, &at);)
        found++;
    assert_int_equal(found, COUNT);
    uint32_t other = COUNT;
    memcpy(digest.bytes, &other, sizeof other);
    assert_false(digest_set_has(&set, &digest));
    digest_set_finish(&set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_set_holds_what_was_added_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
