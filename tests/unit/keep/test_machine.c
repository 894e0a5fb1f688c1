/* cachemachine's machine specifications: what they say, and how their mistakes are told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "keep/machine.h"

static struct keep_machine *read_machine(const char *text, struct error *error) {
    *error = (struct error){0};
    return keep_machine_read(text_of(text), "secret", error);
}

static void test_a_machine_is_a_keep(void **state) {
    (void)state;
    struct error error;
    struct keep_machine *machine = read_machine(
        "{\"name\":\"jupyter\",\"labels\":{\"beta.kubernetes.io/arch\":\"amd64\"},\"repomen\":["
        "{\"type\":\"RubinRepoMan\",\"repo\":\"lsstsqre/sciplat-lab\",\"num_releases\":1,"
        "\"num_weeklies\":2,\"num_dailies\":3,\"recommended_tag\":\"recommended\",\"cycle\":34,"
        "\"alias_tags\":[\"latest\",\"latest_daily\"]},"
        "{\"type\":\"RubinRepoMan\",\"registry_url\":\"ts-dockerhub.lsst.org\",\"repo\":\"lab\","
        "\"num_releases\":0,\"num_weeklies\":0,\"num_dailies\":0},"
        "{\"type\":\"RubinRepoGar\",\"project_id\":\"p\",\"location\":\"us-central1\","
        "\"gar_repository\":\"sciplat\",\"gar_image\":\"sciplat-lab\",\"num_releases\":1,"
        "\"num_weeklies\":2,\"num_dailies\":3,\"recommended_tag\":null},"
        "{\"type\":\"SimpleRepoMan\",\"images\":[{\"name\":\"Weekly 35\",\"image_url\":"
        "\"registry.hub.docker.com/lsstsqre/sciplat-lab:w_2020_35\"},{\"name\":\"b\",\"image_url\":"
        "\"python\",\"image_hash\":\"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123"
        "456789abcdef\"}]}]}",
        &error);
    if (!machine)
        fail_msg("%s", error.text);
    const struct keep_spec *spec = &machine->spec;
    assert_string_equal(spec->name, "jupyter");
    assert_string_equal(spec->nodes.labels[0].value, "amd64");
    assert_string_equal(spec->pull.secret, "secret");
    assert_int_equal(spec->entry_count, 5);
    assert_string_equal(spec->entries[0].repository, "docker.io/lsstsqre/sciplat-lab");
    assert_string_equal(spec->entries[0].pull_as, "registry.hub.docker.com/lsstsqre/sciplat-lab");
    assert_int_equal(spec->entries[0].rubin.cycle, 34);
    assert_true(spec->entries[0].rubin.has_cycle);
    assert_string_equal(spec->entries[0].rubin.aliases[1], "latest_daily");
    assert_int_equal(spec->entries[0].rubin.dailies, 3);
    assert_string_equal(spec->entries[1].repository, "ts-dockerhub.lsst.org/lab");
    assert_null(spec->entries[1].pull_as);
    assert_string_equal(spec->entries[2].repository,
                        "us-central1-docker.pkg.dev/p/sciplat/sciplat-lab");
    assert_null(spec->entries[2].rubin.recommended);
    assert_int_equal(spec->entries[3].kind, KEEP_ENTRY_IMAGE);
    assert_string_equal(spec->entries[3].tag, "w_2020_35");
    assert_string_equal(spec->entries[3].name, "Weekly 35");
    assert_string_equal(spec->entries[3].url,
                        "registry.hub.docker.com/lsstsqre/sciplat-lab:w_2020_35");
    assert_string_equal(spec->entries[4].repository, "docker.io/library/python");
    assert_string_equal(spec->entries[4].tag, "latest");
    assert_non_null(spec->entries[4].digest);
    keep_machine_free(machine);
}

#define MACHINE(repomen) "{\"name\":\"a\",\"labels\":{},\"repomen\":[" repomen "]}"
#define RUBIN(more)      "{\"type\":\"RubinRepoMan\"" more "}"
#define NUMBERS          ",\"num_releases\":1,\"num_weeklies\":1,\"num_dailies\":1"

static void test_mistakes_are_told_with_their_place(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"[]", "a machine is an object with name, labels and repomen"},
        {"{\"labels\":{},\"repomen\":[]}", "name: is missing"},
        {"{\"name\":7,\"labels\":{},\"repomen\":[]}", "name: is not a string"},
        {"{\"name\":\"a/b\",\"labels\":{},\"repomen\":[]}",
         "name: is not the name of a keep: at most 63 letters, digits and \"-_.\", with a letter "
         "or "
         "digit at both ends"},
        {"{\"name\":\"a\",\"repomen\":[]}", "labels: is missing"},
        {"{\"name\":\"a\",\"labels\":{\"k\":1},\"repomen\":[]}", "labels.k: is not a string"},
        {"{\"name\":\"a\",\"labels\":{}}", "repomen: is missing"},
        {"{\"name\":\"a\",\"labels\":{},\"repomen\":{}}", "repomen: is not a list"},
        {"{\"name\":\"a\",\"labels\":{},\"repomen\":[],\"more\":1}",
         "more: is not a key of this object"},
        {MACHINE("7"), "repomen[0]: is not an object"},
        {MACHINE("{}"), "repomen[0].type: is missing"},
        {MACHINE("{\"type\":\"Other\"}"),
         "repomen[0].type: is not one of RubinRepoMan, RubinRepoGar, SimpleRepoMan"},
        {MACHINE(RUBIN("")), "repomen[0].repo: is missing"},
        {MACHINE(RUBIN(",\"repo\":\"a\"")), "repomen[0].num_releases: is missing"},
        {MACHINE(RUBIN(",\"repo\":\"a\",\"num_releases\":-1")),
         "repomen[0].num_releases: is not a whole number from 0 to 1000000"},
        {MACHINE(RUBIN(",\"repo\":\"A\"" NUMBERS)),
         "repomen[0].repo: is not the name of a repository"},
        {MACHINE(RUBIN(",\"repo\":\"a\",\"extra\":1" NUMBERS)),
         "repomen[0].extra: is not a key of this object"},
        {MACHINE(RUBIN(",\"repo\":\"a\",\"alias_tags\":[1]" NUMBERS)),
         "repomen[0].alias_tags: is not a list of strings"},
        {MACHINE("{\"type\":\"RubinRepoGar\"}"), "repomen[0].project_id: is missing"},
        {MACHINE("{\"type\":\"SimpleRepoMan\"}"), "repomen[0].images: is missing"},
        {MACHINE("{\"type\":\"SimpleRepoMan\",\"images\":[{\"name\":\"x\"}]}"),
         "repomen[0].images[0].image_url: is missing"},
        {MACHINE("{\"type\":\"SimpleRepoMan\",\"images\":[{\"name\":\"x\",\"image_url\":\"::\"}]}"),
         "repomen[0].images[0].image_url: is not the name of an image"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error;
        assert_null(read_machine(cases[i][0], &error));
        assert_int_equal(error.kind, ERROR_INVALID);
        assert_string_equal(error.text, cases[i][1]);
    }
    struct error error;
    assert_null(read_machine("{\"name\":", &error));
    assert_int_equal(error.kind, ERROR_INVALID);
}

static void test_a_machine_has_1000_images_at_most(void **state) {
    (void)state;
    for (int count = 1000; count <= 1001; count++) {
        cleanup_buffer struct buffer text = {0};
        struct error error = {0};
        buffer_append_string(&text, "{\"name\":\"a\",\"labels\":{},\"repomen\":[{\"type\":"
                                    "\"SimpleRepoMan\",\"images\":[");
        for (int i = 0; i < count; i++)
            buffer_printf(&text, "%s{\"name\":\"x\",\"image_url\":\"h.test/a/b:%d\"}", i ? "," : "",
                          i);
        buffer_append_string(&text, "]}]}");
        struct keep_machine *machine = read_machine(text.bytes, &error);
        if (count == 1000) {
            assert_non_null(machine);
            assert_int_equal(machine->spec.entry_count, 1000);
        } else {
            assert_null(machine);
            assert_int_equal(error.kind, ERROR_NO_SPACE);
            assert_string_equal(error.text, "repomen: has more than 1000 images");
        }
        keep_machine_free(machine);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_machine_is_a_keep),
        cmocka_unit_test(test_mistakes_are_told_with_their_place),
        cmocka_unit_test(test_a_machine_has_1000_images_at_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
