/* What the page writes: escaped text, numbers for people, templates and plots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>
#include <cmocka.h>
#include "registry/page/advice.h"
#include "registry/page/files.h"
#include "registry/page/html.h"
#include "registry/page/plot.h"

static struct buffer out;

static int set_up(void **state) {
    (void)state;
    buffer_clear(&out);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    buffer_finish(&out);
    return 0;
}

static void test_text_can_neither_end_an_element_nor_an_attribute(void **state) {
    (void)state;
    html_text(&out, "<a b=\"c\" d='e'>&\x01\x02\n\x7fz é");
    assert_string_equal(out.bytes, "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;z é");
}

static void test_a_parameter_is_encoded(void **state) {
    (void)state;
    html_parameter(&out, "a.b/c:1@d e&f=\"<#é");
    assert_string_equal(out.bytes, "a.b/c:1@d%20e%26f%3D%22%3C%23%C3%A9");
}

static void test_numbers(void **state) {
    (void)state;
    html_number(&out, 0);
    buffer_append(&out, " ", 1);
    html_number(&out, 999);
    buffer_append(&out, " ", 1);
    html_number(&out, 1234567);
    buffer_append(&out, " ", 1);
    html_percent(&out, 1, 3);
    buffer_append(&out, " ", 1);
    html_percent(&out, 0, 0);
    buffer_append(&out, " ", 1);
    html_duration(&out, 3 * 86400 + 5);
    assert_string_equal(out.bytes, "0 999 1,234,567 33.3 % – 3 days");
}

static void test_times(void **state) {
    (void)state;
    html_ago(&out, 0, 100);
    assert_string_equal(out.bytes, "never");
    buffer_clear(&out);
    html_ago(&out, 100, 90); /* the clock was set back */
    assert_non_null(strstr(out.bytes, ">now<"));
    buffer_clear(&out);
    html_ago(&out, INT64_MAX, 90);
    assert_string_equal(out.bytes, "never");
    buffer_clear(&out);
    html_ago(&out, 1000, 1000 + 7200);
    assert_non_null(strstr(out.bytes, "datetime=\"1970-01-01T00:16:40Z\""));
    assert_non_null(strstr(out.bytes, ">2 hours ago<"));
}

static void fill(void *context, struct text name, struct buffer *to) {
    (void)context;
    buffer_printf(to, "[%.*s]", TEXT_PRINT(name));
}

static void test_templates(void **state) {
    (void)state;
    html_fill(&out, text_of("a{{b}}c{{d-e}}{{f"), fill, NULL);
    assert_string_equal(out.bytes, "a[b]c[d-e]{{f");
}

static void test_the_host_is_put_into_a_page_that_all_share(void **state) {
    (void)state;
    html_put_host(&out, text_of("x" HTML_HOST "y" HTML_HOST), "a:5000");
    assert_string_equal(out.bytes, "xa:5000ya:5000");
}

static void test_a_plot_has_a_gap_where_nothing_is_known(void **state) {
    (void)state;
    static struct plot_line line = {.class = "a", .heights = {0.5, -1, 1, 2}};
    plot_write(&out, "\"x\"", &line, 1, 4);
    assert_non_null(strstr(out.bytes, "aria-label=\"&quot;x&quot;\""));
    assert_non_null(strstr(out.bytes, "d=\"M0.0 51.0h.1M240.0 4.0L360.0 4.0\""));
    buffer_clear(&out);
    line.is_area = true;
    plot_write(&out, "", &line, 1, 4);
    assert_non_null(strstr(out.bytes, "d=\"M0.0 98.0L0.0 51.0L0.0 98z"));
}

static void test_each_file_of_the_page_is_in_the_binary(void **state) {
    (void)state;
    static const char *const templates[] = {"page", "overview", "search", "image"};
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
        assert_true(files_template(templates[i]).length > 50);
    assert_true(files_find(text_of("/tarn/page.css"))->content.length > 50);
    assert_null(files_find(text_of("/tarn/page.html")));
    assert_int_equal(strlen(files_find(text_of("/tarn/page.js"))->hash), FILES_HASH_SIZE - 1);
}

static void test_there_is_advice_for_everything(void **state) {
    (void)state;
    assert_non_null(strstr(advice_for(403, "denied"), "credentials"));
    assert_non_null(strstr(advice_for(502, "no such host x"), "DNS"));
    for (int status = 0; status < 600; status++)
        assert_true(strlen(advice_for(status, "")) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_text_can_neither_end_an_element_nor_an_attribute, set_up),
        cmocka_unit_test_setup(test_a_parameter_is_encoded, set_up),
        cmocka_unit_test_setup(test_numbers, set_up),
        cmocka_unit_test_setup(test_times, set_up),
        cmocka_unit_test_setup(test_templates, set_up),
        cmocka_unit_test_setup(test_the_host_is_put_into_a_page_that_all_share, set_up),
        cmocka_unit_test_setup(test_a_plot_has_a_gap_where_nothing_is_known, set_up),
        cmocka_unit_test(test_each_file_of_the_page_is_in_the_binary),
        cmocka_unit_test(test_there_is_advice_for_everything),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
