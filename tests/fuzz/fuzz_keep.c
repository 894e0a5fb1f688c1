/* Nodes, pods, machines and tags: the same bytes are read as each, and change a plan. */
#include <string.h>
#include "base/json.h"
#include "fuzz.h"
#include "keep/machine.h"
#include "keep/plan.h"
#include "keep/version.h"

static void check_tag(struct text text) {
    struct keep_tag tag, alias;
    cleanup_buffer struct buffer name = {0};
    int64_t seconds;
    keep_tag_parse(text, &tag);
    keep_tag_parse_alias(text, &alias);
    MUST(keep_tag_append_name(&tag, &name) && keep_tag_append_name(&alias, &name));
    MUST(keep_tag_compare(&tag, &tag) == 0);
    keep_tag_date(&tag, &seconds);
    MUST(keep_version_compare(text, text) == 0);
}

static void check_machine(struct text text) {
    struct error error = {0};
    struct keep_machine *machine = keep_machine_read(text, NULL, &error);
    MUST(machine || error.kind != ERROR_NONE);
    if (machine) {
        MUST(keep_name_is_valid(machine->spec.name));
        for (size_t i = 0; i < machine->spec.entry_count; i++)
            MUST(strchr(machine->spec.entries[i].repository, '/'));
    }
    keep_machine_free(machine);
}

static void check_plan(const json_t *json) {
    static const struct keep_image image = {.name = "h/app", .tag = "v1", .digest = "sha256:a"};
    static const struct keep_now now = {.ms = 1000, .wall_s = 1700000000};
    struct keep_spec spec = {.name = "labs", .pull = keep_pull_default()};
    const struct keep_spec *specs[] = {&spec};
    struct keep_actions actions = {0};
    struct keep_plan *plan = keep_plan_new();
    struct error error = {0};
    MUST(plan && keep_plan_set_keeps(plan, specs, 1, now));
    MUST(keep_plan_set_images(plan, "labs", &image, 1, now));
    for (int i = 0; i < 2; i++) {
        bool read = keep_plan_set_node(plan, json, now, &error);
        MUST(read || error.kind == ERROR_INVALID);
        MUST(keep_plan_set_pod(plan, json, now));
        MUST(keep_plan_step(plan, now, true, 10, &actions));
        MUST(actions.count <= 10);
    }
    keep_actions_finish(&actions);
    keep_plan_free(plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct text text = {(const char *)bytes, length};
    cleanup_json json_t *json = bounded_json_load(bytes, length, NULL);
    if (length > 0 && length <= 128)
        check_tag(text);
    check_machine(text);
    if (json)
        check_plan(json);
    return 0;
}
