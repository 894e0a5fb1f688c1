/* tarn referrers: prints what refers to an image: its signatures, SBOMs and attestations. */
#include <stdio.h>
#include <string.h>
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/image_command.h"

/* A registry's words have no place on a line of their own. */
static void print_word(const char *word) {
    for (; word && *word; word++)
        putchar((unsigned char)*word < ' ' || *word == 0x7f ? '?' : *word);
}

static void print_lines(const json_t *index) {
    size_t i;
    const json_t *entry;
    json_array_foreach (json_object_get(index, "manifests"), i, entry) {
        const json_t *type = json_object_get(entry, "artifactType");
        print_word(json_string_value(json_object_get(entry, "digest")));
        putchar('\t');
        print_word(json_string_value(type));
        putchar('\n');
    }
}

static bool print_referrers(const struct arguments *arguments, struct copy_source *source,
                            const struct copy_reference *image, struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    char text[DIGEST_STRING_SIZE];
    struct digest subject;
    if (!copy_source_find_digest(source, copy_reference_manifest(image, text), &subject, error) ||
        !copy_source_get_referrers(source, &subject, &bytes, error))
        return false;
    if (arguments_flag(arguments, "json")) {
        fwrite(bytes.bytes, 1, bytes.length, stdout);
        putchar('\n');
        return true;
    }
    cleanup_json json_t *index = bounded_json_load_by(0, bytes.bytes, bytes.length, error);
    if (index)
        print_lines(index);
    return index != NULL;
}

static int run(const struct arguments *arguments) {
    return image_command_run(arguments, COPY_FORM_IMAGE, print_referrers);
}

static const struct command_option options[] = {
    {"json", OPTION_FLAG, NULL, "print the index of the referrers"},
    IMAGE_COMMAND_OPTIONS,
};

const struct command referrers_command = {
    .name = "referrers",
    .arguments = "IMAGE",
    .least = 1,
    .most = 1,
    .summary = "print what refers to an image: signatures, SBOMs, attestations",
    .text =
        "IMAGE is HOST/NAME[:TAG][@DIGEST] or oci:DIR[:TAG]. Each line has a digest, a tab, and\n"
        "the type of the artifact. Where the registry has no API for referrers, its fallback tag\n"
        "is read. No tarn need run, and nothing is cached.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
