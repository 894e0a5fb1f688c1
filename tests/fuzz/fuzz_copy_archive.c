/* Archives of docker save: whatever they hold, an image that can be read has the digests that it
 * says. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "copy/small.h"
#include "copy/source.h"
#include "fuzz.h"

static bool take_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    (void)error;
    digest_hash_update(context, bytes, length);
    return true;
}

static void check_blob(struct copy_source *source, const struct descriptor *named) {
    struct digest_hash *hash = digest_hash_new(named->digest.algorithm);
    struct copy_read read = {
        .digest = named->digest, .last = UINT64_MAX, .context = hash, .on_bytes = take_bytes};
    struct digest is;
    MUST(hash && copy_source_read_blob(source, &read, NULL));
    digest_hash_finish(hash, &is);
    digest_hash_free(hash);
    MUST(digest_equal(&is, &named->digest));
}

static void check_image(struct copy_source *source) {
    cleanup_copy_manifest struct copy_manifest image = {0};
    struct manifest parsed;
    if (!copy_source_get_manifest(source, "", &image, NULL))
        return;
    MUST(manifest_parse(image.bytes.bytes, image.bytes.length, &parsed, NULL));
    for (size_t i = 0; i < parsed.count; i++)
        check_blob(source, &parsed.descriptors[i]);
    manifest_finish(&parsed);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct copy_reference reference = {.kind = COPY_ARCHIVE};
    struct error error = {0};
    int fd = memfd_create("archive", MFD_CLOEXEC);
    MUST(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    snprintf(reference.path, sizeof reference.path, "/proc/self/fd/%d", fd);
    struct copy_source *source = copy_source_open(NULL, &reference, &error);
    MUST(source || error.text[0]);
    if (source)
        check_image(source);
    copy_source_free(source);
    close(fd);
    return 0;
}
