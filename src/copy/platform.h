/*
 * Platforms of images: "linux/amd64", "linux/arm/v7" (image-spec, image-index.md, "platform").
 * Pure, but for copy_platform_own(); any thread.
 */
#ifndef COPY_PLATFORM_H
#define COPY_PLATFORM_H

#include "base/buffer.h"
#include "base/error.h"
#include "copy/source.h"
#include "oci/manifest.h"

struct copy_platform {
    char os[32], architecture[32], variant[32]; /* variant "": each one */
};

/* False: it is no OS/ARCHITECTURE[/VARIANT]. */
bool copy_platform_parse(struct text text, struct copy_platform *out);
/* Writes "linux/arm/v7". */
enum { COPY_PLATFORM_SIZE = 100 };
const char *copy_platform_format(const struct copy_platform *platform,
                                 char out[static COPY_PLATFORM_SIZE]);

/* That of the machine that tarn runs on. */
struct copy_platform copy_platform_own(void);

/* Whether something for `is` is what `wanted` asks for. */
bool copy_platform_matches(const struct copy_platform *wanted, const struct copy_platform *is);

/* That of an index's entry; all "" when it names none. */
struct copy_platform copy_platform_of(const struct descriptor *descriptor);

/* The first entry of the index for the platform. NULL: NOT_FOUND, and the text says which there
 * are. */
const struct descriptor *copy_platform_find(const struct manifest *index,
                                            const struct copy_platform *wanted,
                                            struct error *error);

/* Whether an image without an index is for the platform: its config tells. False: NOT_FOUND, and
 * the text says for which it is; INVALID: the config tells nothing. */
bool copy_platform_check_config(const struct buffer *config, const struct copy_platform *wanted,
                                struct error *error);

#endif
