/* tarn digest: prints the digest of an image at its registry. */
#include <stdio.h>
#include "cmd/commands.h"
#include "cmd/image_command.h"
#include "copy/source.h"

static bool print_digest(const struct arguments *arguments, struct copy_source *source,
                         const struct copy_reference *reference, struct error *error) {
    char text[DIGEST_STRING_SIZE];
    struct digest digest;
    (void)arguments;
    if (!copy_source_find_digest(source, copy_reference_manifest(reference, text), &digest, error))
        return false;
    printf("%s\n", digest_format(&digest, text));
    return true;
}

static int run(const struct arguments *arguments) {
    return image_command_run(arguments, COPY_FORM_IMAGE, print_digest);
}

static const struct command_option options[] = {IMAGE_COMMAND_OPTIONS};

const struct command digest_command = {
    .name = "digest",
    .arguments = "IMAGE",
    .least = 1,
    .most = 1,
    .summary = "print the digest of an image at its registry",
    .text = "IMAGE is HOST/NAME[:TAG][@DIGEST], oci:DIR[:TAG] or docker-archive:FILE[:NAME:TAG].\n"
            "No tarn need run, and nothing is cached.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
