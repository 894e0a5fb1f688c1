/* The order of tags that are versions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "keep/version.h"

static void test_versions_are_in_semantic_order(void **state) {
    (void)state;
    static const char *const ascending[] = {
        "alpha",        "latest",        "0.9",
        "v1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta",
        "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
        "v1.0.0",       "1.2",           "1.10.0",
        "v2",
    };
    size_t count = sizeof ascending / sizeof *ascending;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            int order = keep_version_compare(text_of(ascending[i]), text_of(ascending[j]));
            if ((order > 0) - (order < 0) != (i > j) - (i < j))
                fail_msg("%s against %s: %d", ascending[i], ascending[j], order);
        }
    }
    assert_int_equal(keep_version_compare(text_of("v1.0"), text_of("1")), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_are_in_semantic_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
