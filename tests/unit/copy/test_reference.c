/* References to images, as people type them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include "copy/reference.h"

static const char hex[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

static struct copy_reference parse(const char *text, enum copy_form form) {
    struct copy_reference out;
    struct error error = {0};
    if (!copy_reference_parse(text_of(text), form, &out, &error))
        fail_msg("%s", error.text);
    return out;
}

static void refuse(const char *text, enum copy_form form) {
    struct copy_reference out;
    struct error error = {0};
    if (copy_reference_parse(text_of(text), form, &out, &error))
        fail_msg("%s was taken", text);
    assert_int_equal(error.kind, ERROR_INVALID);
    assert_non_null(strstr(error.text, text[0] == '\x01' ? "control" : text));
}

static void test_an_image_of_a_registry_has_host_name_tag_and_digest(void **state) {
    (void)state;
    char text[2 * DIGEST_STRING_SIZE], shown[COPY_REFERENCE_SIZE];
    struct copy_reference image = parse("registry.example:5000/team/app:v1", COPY_FORM_IMAGE);
    assert_int_equal(image.kind, COPY_REGISTRY);
    assert_string_equal(image.name.host, "registry.example:5000");
    assert_string_equal(image.name.path, "team/app");
    assert_string_equal(image.tag, "v1");
    snprintf(text, sizeof text, "localhost/app:v2@sha256:%s", hex);
    image = parse(text, COPY_FORM_IMAGE);
    assert_string_equal(image.tag, "v2");
    assert_int_equal(image.digest.algorithm, DIGEST_SHA256);
    assert_string_equal(copy_reference_format(&image, shown), text);
}

static void test_without_tag_and_digest_it_is_latest_but_for_a_destination(void **state) {
    (void)state;
    char text[2 * DIGEST_STRING_SIZE];
    assert_string_equal(parse("ghcr.io/a/b", COPY_FORM_IMAGE).tag, "latest");
    assert_string_equal(parse("ghcr.io/a/b", COPY_FORM_TARGET).tag, "");
    snprintf(text, sizeof text, "ghcr.io/a/b@sha256:%s", hex);
    assert_string_equal(parse(text, COPY_FORM_IMAGE).tag, "");
}

static void test_the_hub_has_one_name_and_official_images_their_library(void **state) {
    (void)state;
    const char *const names[] = {"docker.io/alpine:3", "index.docker.io/library/alpine:3",
                                 "registry-1.docker.io/alpine:3"};
    for (size_t i = 0; i < 3; i++) {
        struct copy_reference image = parse(names[i], COPY_FORM_IMAGE);
        assert_string_equal(image.name.host, "docker.io");
        assert_string_equal(image.name.path, "library/alpine");
    }
}

static void test_layouts_and_archives(void **state) {
    (void)state;
    char shown[COPY_REFERENCE_SIZE];
    struct copy_reference layout = parse("oci:/tmp/some dir:v1", COPY_FORM_IMAGE);
    assert_int_equal(layout.kind, COPY_LAYOUT);
    assert_string_equal(layout.path, "/tmp/some dir");
    assert_string_equal(layout.tag, "v1");
    assert_string_equal(copy_reference_format(&layout, shown), "oci:/tmp/some dir:v1");
    assert_string_equal(parse("oci:dir", COPY_FORM_IMAGE).tag, "");
    struct copy_reference archive =
        parse("docker-archive:a.tar:localhost:5000/team/app:v1", COPY_FORM_TARGET);
    assert_int_equal(archive.kind, COPY_ARCHIVE);
    assert_string_equal(archive.path, "a.tar");
    assert_string_equal(archive.name.host, "localhost:5000");
    assert_string_equal(archive.name.path, "team/app");
    assert_string_equal(archive.tag, "v1");
    assert_string_equal(copy_reference_format(&archive, shown),
                        "docker-archive:a.tar:localhost:5000/team/app:v1");
    assert_string_equal(parse("docker-archive:a.tar", COPY_FORM_IMAGE).name.path, "");
    assert_string_equal(parse("docker-archive:a.tar:app", COPY_FORM_IMAGE).tag, "latest");
}

static void test_patterns_are_of_a_source_alone(void **state) {
    (void)state;
    assert_string_equal(parse("h.test/a:v1.*", COPY_FORM_PATTERN).pattern, "v1.*");
    assert_string_equal(parse("h.test/a:**", COPY_FORM_PATTERN).pattern, "**");
    assert_string_equal(parse("h.test/a:v?", COPY_FORM_PATTERN).pattern, "v?");
    refuse("h.test/a:v1.*", COPY_FORM_IMAGE);
    refuse("h.test/a:v1.*", COPY_FORM_TARGET);
    refuse("h.test/a:v/*", COPY_FORM_PATTERN);
    refuse("h.test/a:[ab]*", COPY_FORM_PATTERN);
}

static void test_what_is_no_reference_is_refused_by_name(void **state) {
    (void)state;
    const char *const wrong[] = {
        "alpine",
        "h.test/",
        "h.test/UPPER:v1",
        "h.test/a:",
        "h.test/a@sha256:12",
        "h.test/a:-v",
        "/a:v1",
        "h_test/a:v1",
        "h.test:0/a:v1",
        "h.test/a:v1@",
        "oci:",
        "oci:dir:",
        "oci::v1",
        "docker-archive:",
        "docker-archive::a:v1",
        "h.test/a//b:v",
        "oci:dir:-v",
        "docker-archive:a.tar:UPPER:v1",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuse(wrong[i], COPY_FORM_IMAGE);
    refuse("\x01", COPY_FORM_IMAGE);
    refuse("oci:dir", COPY_FORM_REPOSITORY);
    refuse("h.test/a:v1", COPY_FORM_REPOSITORY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_image_of_a_registry_has_host_name_tag_and_digest),
        cmocka_unit_test(test_without_tag_and_digest_it_is_latest_but_for_a_destination),
        cmocka_unit_test(test_the_hub_has_one_name_and_official_images_their_library),
        cmocka_unit_test(test_layouts_and_archives),
        cmocka_unit_test(test_patterns_are_of_a_source_alone),
        cmocka_unit_test(test_what_is_no_reference_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
