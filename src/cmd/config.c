/* tarn config: prints the config of an image, byte for byte. */
#include <stdio.h>
#include "cmd/commands.h"
#include "cmd/image_command.h"
#include "copy/small.h"

static bool print_config(const struct arguments *arguments, struct copy_source *source,
                         const struct copy_reference *image, struct error *error) {
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    cleanup_buffer struct buffer config = {0};
    char text[DIGEST_STRING_SIZE];
    struct copy_platform platform;
    image_command_platform(arguments, &platform); /* checked before */
    if (!copy_small_get_image(source, copy_reference_manifest(image, text), &platform, &manifest,
                              error) ||
        !copy_small_get_config(source, &manifest, &config, error))
        return false;
    fwrite(config.bytes, 1, config.length, stdout);
    return true;
}

static int run(const struct arguments *arguments) {
    struct copy_platform platform;
    int status = image_command_platform(arguments, &platform);
    return status ? status : image_command_run(arguments, COPY_FORM_IMAGE, print_config);
}

static const struct command_option options[] = {
    {"platform", OPTION_STRING, "PLATFORM",
     "of an index, the config of its image for this platform; default: that of this machine"},
    IMAGE_COMMAND_OPTIONS,
};

const struct command config_command = {
    .name = "config",
    .arguments = "IMAGE",
    .least = 1,
    .most = 1,
    .summary = "print the config of an image, byte for byte",
    .text = "IMAGE is HOST/NAME[:TAG][@DIGEST], oci:DIR[:TAG] or docker-archive:FILE[:NAME:TAG].\n"
            "No tarn need run, and nothing is cached.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
