/* tarn manifest: prints the manifest of an image, byte for byte. */
#include <stdio.h>
#include "cmd/commands.h"
#include "cmd/image_command.h"
#include "copy/small.h"

static bool print_manifest(const struct arguments *arguments, struct copy_source *source,
                           const struct copy_reference *image, struct error *error) {
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    char text[DIGEST_STRING_SIZE];
    struct copy_platform platform;
    const char *reference = copy_reference_manifest(image, text);
    bool one = arguments_string(arguments, "platform") != NULL;
    if (one) /* checked before */
        copy_platform_parse(text_of(arguments_string(arguments, "platform")), &platform);
    if (!(one ? copy_small_get_image(source, reference, &platform, &manifest, error)
              : copy_source_get_manifest(source, reference, &manifest, error)))
        return false;
    fwrite(manifest.bytes.bytes, 1, manifest.bytes.length, stdout);
    return true;
}

static int run(const struct arguments *arguments) {
    struct copy_platform platform;
    int status = image_command_platform(arguments, &platform);
    return status ? status : image_command_run(arguments, COPY_FORM_IMAGE, print_manifest);
}

static const struct command_option options[] = {
    {"platform", OPTION_STRING, "PLATFORM",
     "of an index, the manifest of its image for this platform: linux/arm64, linux/arm/v7"},
    IMAGE_COMMAND_OPTIONS,
};

const struct command manifest_command = {
    .name = "manifest",
    .arguments = "IMAGE",
    .least = 1,
    .most = 1,
    .summary = "print the manifest of an image, byte for byte",
    .text = "IMAGE is HOST/NAME[:TAG][@DIGEST], oci:DIR[:TAG] or docker-archive:FILE[:NAME:TAG].\n"
            "Of an image for several platforms it is the index. No tarn need run, and nothing is\n"
            "cached.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
