/* tarn delete: deletes images at their registry. */
#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "cmd/commands.h"
#include "cmd/image_command.h"
#include "cmd/order_command.h"
#include "copy/destination.h"

static bool delete_one(struct copy_hosts *hosts, const struct copy_reference *image,
                       struct error *error) {
    char reference[DIGEST_STRING_SIZE], text[COPY_REFERENCE_SIZE];
    struct copy_destination *destination = copy_destination_open(hosts, image, error);
    bool ok = destination && copy_destination_delete(
                                 destination, copy_reference_manifest(image, reference), error);
    copy_destination_free(destination);
    if (ok)
        printf("%s\n", copy_reference_format(image, text));
    return ok;
}

static int delete_all(const struct arguments *arguments, const struct copy_reference *images) {
    struct image_command command;
    int status = image_command_open(&command, arguments, NULL);
    if (status) {
        image_command_close(&command);
        return status;
    }
    for (size_t i = 0; i < arguments->operand_count; i++) {
        struct error error = {0};
        if (!delete_one(command.hosts, &images[i], &error))
            status = image_command_fail(arguments, arguments->operands[i], &error);
    }
    image_command_close(&command);
    return order_command_end(arguments, status);
}

static int run(const struct arguments *arguments) {
    cleanup_free struct copy_reference *images = calloc(arguments->operand_count, sizeof *images);
    if (!images) {
        fputs("tarn delete: out of memory\n", stderr);
        return 1;
    }
    for (size_t i = 0; i < arguments->operand_count; i++) {
        const char *operand = arguments->operands[i];
        int status = image_command_read(arguments, operand, COPY_FORM_TARGET, &images[i]);
        if (status)
            return status;
        if (images[i].tag[0] && images[i].digest.algorithm)
            return command_refuse(arguments->command,
                                  "%s: name either the tag, which is deleted alone, or the digest",
                                  operand);
        if (images[i].kind != COPY_REGISTRY || (!images[i].tag[0] && !images[i].digest.algorithm))
            return command_refuse(arguments->command,
                                  "%s: name the tag or the digest of an image of a registry",
                                  operand);
    }
    return delete_all(arguments, images);
}

static const struct command_option options[] = {IMAGE_COMMAND_OPTIONS};

const struct command delete_command = {
    .name = "delete",
    .arguments = "IMAGE…",
    .least = 1,
    .most = COMMAND_ANY_NUMBER,
    .summary = "delete images at their registry",
    .text =
        "IMAGE is HOST/NAME:TAG, which deletes that tag alone, or HOST/NAME@DIGEST, which deletes\n"
        "the manifest with all its tags. Prints what is deleted. Where the registry refuses, the\n"
        "image stays. `tarn rm` removes images from the cache, and leaves the registry alone.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
