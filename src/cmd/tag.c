/* tarn tag: gives an image of a registry further tags. */
#include <stdio.h>
#include "cmd/commands.h"
#include "cmd/image_command.h"
#include "cmd/order_command.h"
#include "copy/destination.h"

/* Writes the manifest under each of the tags. */
static bool tag_all(const struct arguments *arguments, struct copy_hosts *hosts,
                    const struct copy_reference *image, struct error *error) {
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    char reference[DIGEST_STRING_SIZE], digest[DIGEST_STRING_SIZE], place[COPY_REFERENCE_SIZE];
    struct copy_source *source = copy_source_open(hosts, image, error);
    struct copy_destination *destination =
        source ? copy_destination_open(hosts, image, error) : NULL;
    bool ok =
        destination && copy_source_get_manifest(source, copy_reference_manifest(image, reference),
                                                &manifest, error);
    for (size_t i = 1; ok && i < arguments->operand_count; i++) {
        ok = copy_destination_put_manifest(destination, &manifest, arguments->operands[i], NULL,
                                           error);
        if (ok)
            printf("%s:%s %s\n", copy_reference_place(image, place), arguments->operands[i],
                   digest_format(&manifest.digest, digest));
    }
    copy_destination_free(destination);
    copy_source_free(source);
    return ok;
}

static int run(const struct arguments *arguments) {
    struct image_command command;
    struct copy_reference image;
    struct error error = {0};
    int status = image_command_read(arguments, arguments->operands[0], COPY_FORM_IMAGE, &image);
    if (status)
        return status;
    for (size_t i = 1; i < arguments->operand_count; i++) {
        if (!reference_is_tag(text_of(arguments->operands[i])))
            return command_refuse(arguments->command,
                                  "\"%s\" is no tag (letters, digits, _ . -, at most 128)",
                                  arguments->operands[i]);
    }
    if (image.kind != COPY_REGISTRY)
        return command_refuse(arguments->command, "%s is no image of a registry",
                              arguments->operands[0]);
    status = image_command_open(&command, arguments, NULL);
    if (!status && !tag_all(arguments, command.hosts, &image, &error))
        status = image_command_fail(arguments, arguments->operands[0], &error);
    image_command_close(&command);
    return status ? status : order_command_end(arguments, 0);
}

static const struct command_option options[] = {IMAGE_COMMAND_OPTIONS};

const struct command tag_command = {
    .name = "tag",
    .arguments = "IMAGE TAG…",
    .least = 2,
    .most = COMMAND_ANY_NUMBER,
    .summary = "give an image further tags in its repository",
    .text =
        "IMAGE is HOST/NAME[:TAG][@DIGEST]. Its manifest is written under each TAG, and no blob\n"
        "is touched. Prints each new name with the digest. No tarn need run.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
