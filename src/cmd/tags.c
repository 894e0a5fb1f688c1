/* tarn tags: prints the tags of a repository. */
#include <stdio.h>
#include "cmd/commands.h"
#include "cmd/image_command.h"

static bool print_tags(const struct arguments *arguments, struct copy_source *source,
                       const struct copy_reference *repository, struct error *error) {
    cleanup_copy_names struct copy_names names = {0};
    (void)arguments, (void)repository;
    if (!copy_source_list_tags(source, &names, error))
        return false;
    for (size_t i = 0; i < names.count; i++)
        printf("%s\n", names.at[i]);
    return true;
}

static int run(const struct arguments *arguments) {
    return image_command_run(arguments, COPY_FORM_REPOSITORY, print_tags);
}

static const struct command_option options[] = {IMAGE_COMMAND_OPTIONS};

const struct command tags_command = {
    .name = "tags",
    .arguments = "REPOSITORY",
    .least = 1,
    .most = 1,
    .summary = "print the tags of a repository at its registry, one a line",
    .text = "REPOSITORY is HOST/NAME. `tarn images` also tells digests, sizes and times. No tarn\n"
            "need run, and nothing is cached.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
