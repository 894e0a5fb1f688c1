/* Memory is wiped before it is freed: the test's own free() looks at the bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/secret.h"

static const char *watched;
static size_t watched_length;
static bool freed_clean;

void __real_free(void *pointer);
void __wrap_free(void *pointer);
void __wrap_free(void *pointer) {
    if (pointer && pointer == watched) {
        freed_clean = true;
        for (size_t i = 0; i < watched_length; i++)
            freed_clean = freed_clean && watched[i] == '\0';
        watched = NULL;
    }
    __real_free(pointer);
}

static void watch(const char *bytes, size_t length) {
    watched = bytes;
    watched_length = length;
    freed_clean = false;
}

static void test_a_string_is_wiped(void **state) {
    (void)state;
    char *secret = strdup("hunter2");
    watch(secret, strlen(secret));
    secret_free(&secret);
    assert_true(freed_clean);
    assert_null(secret);
    secret_free(&secret);
}

static void test_all_of_a_buffer_is_wiped(void **state) {
    (void)state;
    struct buffer buffer = {0};
    buffer_append_string(&buffer, "hunter2");
    watch(buffer.bytes, buffer.capacity);
    buffer_clear(&buffer); /* the bytes are still in the memory */
    secret_buffer_free(&buffer);
    assert_true(freed_clean);
    assert_null(buffer.bytes);
    secret_buffer_free(&buffer);
}

static void test_a_document_is_gone(void **state) {
    (void)state;
    json_t *json = json_pack("{s:[s,i],s:n}", "a", "hunter2", 1, "b");
    secret_json_free(&json);
    assert_null(json);
    secret_json_free(&json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_string_is_wiped),
        cmocka_unit_test(test_all_of_a_buffer_is_wiped),
        cmocka_unit_test(test_a_document_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
