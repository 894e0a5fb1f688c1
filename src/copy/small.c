/* Reads small blobs, and configs. */
#include "copy/small.h"

static bool gather(void *context, const void *bytes, size_t length, struct error *error) {
    struct buffer *out = context;
    if (buffer_append(out, bytes, length))
        return true;
    return out->length + length > COPY_SMALL_LIMIT
               ? error_set(error, ERROR_INVALID, "it has more than %d bytes", COPY_SMALL_LIMIT)
               : error_set(error, ERROR_MEMORY, "out of memory");
}

bool copy_small_read(struct copy_source *source, const struct digest *digest, struct buffer *out,
                     struct error *error) {
    const struct copy_read read = {
        .digest = *digest, .last = UINT64_MAX, .context = out, .on_bytes = gather};
    struct digest is;
    char text[DIGEST_STRING_SIZE];
    buffer_clear(out);
    out->limit = COPY_SMALL_LIMIT;
    if (!copy_source_read_blob(source, &read, error))
        return false;
    if (!digest_of(digest->algorithm, out->bytes, out->length, &is))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return digest_equal(&is, digest) ||
           error_set(error, ERROR_CORRUPT, "blob %s: the bytes have another digest",
                     digest_format(digest, text));
}

bool copy_small_get_image(struct copy_source *source, const char *reference,
                          const struct copy_platform *platform, struct copy_manifest *out,
                          struct error *error) {
    struct manifest parsed;
    char digest[DIGEST_STRING_SIZE];
    if (!copy_source_get_manifest(source, reference, out, error) ||
        !manifest_parse(out->bytes.bytes, out->bytes.length, &parsed, error))
        return false;
    bool ok = true;
    if (parsed.is_index) {
        const struct descriptor *entry = copy_platform_find(&parsed, platform, error);
        copy_manifest_finish(out);
        ok = entry &&
             copy_source_get_manifest(source, digest_format(&entry->digest, digest), out, error);
    }
    manifest_finish(&parsed);
    return ok;
}

bool copy_small_get_config(struct copy_source *source, const struct copy_manifest *manifest,
                           struct buffer *out, struct error *error) {
    struct manifest parsed;
    if (!manifest_parse(manifest->bytes.bytes, manifest->bytes.length, &parsed, error))
        return false;
    bool has_config = parsed.count > 0 && parsed.descriptors[0].role == DESCRIPTOR_CONFIG;
    struct digest digest = has_config ? parsed.descriptors[0].digest : (struct digest){0};
    manifest_finish(&parsed);
    return has_config ? copy_small_read(source, &digest, out, error)
                      : error_set(error, ERROR_NOT_FOUND, "the manifest names no config");
}
