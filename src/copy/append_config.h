/*
 * The config and the manifest of an image that gets more layers (image-spec config.md, manifest.md,
 * and Docker's Image Manifest Version 2, Schema 2). Pure; hostile input; any thread.
 */
#ifndef COPY_APPEND_CONFIG_H
#define COPY_APPEND_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "copy/compress.h"
#include "copy/platform.h"

#define APPEND_CONFIG_OCI    "application/vnd.oci.image.config.v1+json"
#define APPEND_CONFIG_DOCKER "application/vnd.docker.container.image.v1+json"

/* What is to be different in the config. NULL: as in the base. Borrowed. */
struct append_changes {
    const char *const *env;    /* KEY=VALUE each */
    const char *const *labels; /* KEY=VALUE each */
    size_t env_count, label_count;
    /* A JSON array of words, or one word; an empty array or word: none. */
    const char *entrypoint, *cmd;
    const char *user, *workdir;
};

/* The words of an entrypoint or a cmd, the caller's to json_decref(). NULL: it begins as a JSON
 * array and is none of words; or out of memory. */
json_t *append_words(const char *text);

/* Whether it is KEY=VALUE with a key that is not empty. */
bool append_is_pair(const char *text);

/* A layer that was added. */
struct append_layer {
    struct compress_result result;
    char *history; /* owned: what `created_by` says */
};

/* The config of an empty image; the caller's to json_decref(). NULL: out of memory. */
json_t *append_config_scratch(const struct copy_platform *platform);

/* Reads the config of a base that has `layer_count` layers; the caller's to json_decref(). NULL:
 * INVALID (no config of an image, or its lists do not fit the layers), or ERROR_MEMORY. */
json_t *append_config_read(const struct buffer *bytes, size_t layer_count, struct error *error);

/* Makes the changes. `created`: seconds since 1970. False: out of memory. */
bool append_config_change(json_t *config, const struct append_changes *changes,
                          const struct append_layer *layers, size_t layer_count, int64_t created);

/* What is kept of a base's manifest. */
struct append_base {
    bool is_docker;
    json_t *layers;      /* owned: the descriptors, as they are */
    json_t *annotations; /* owned; may be NULL */
};

/* Reads the manifest of an image. False: INVALID (no manifest of an image), UNSUPPORTED (an
 * artifact, a digest that is not known, an old kind of manifest), ERROR_MEMORY; *out is empty. */
bool append_base_read(const struct copy_manifest *manifest, struct append_base *out,
                      struct error *error);
void append_base_finish(struct append_base *base);

/* Whether the bytes of a base's layer are at the registry; those of a foreign one are elsewhere. */
bool append_base_layer(const json_t *layer, struct digest *digest, uint64_t *size);

/* Appends the new manifest, and sets the type that it has. False: out of memory. */
bool append_manifest(const struct append_base *base, const struct append_layer *layers,
                     size_t layer_count, enum compress_kind compression,
                     const struct digest *config, uint64_t config_size, struct buffer *out,
                     const char **media_type);

#endif
