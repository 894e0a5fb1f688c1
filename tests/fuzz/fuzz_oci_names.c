/* Names, references, digests, hosts, image names: an accepted one has a single spelling, fits its
 * limits, and does not lead out of a folder. */
#include <string.h>
#include "fuzz.h"
#include "oci/reference.h"

static void must_stay_in_its_folder(struct text name) {
    MUST(name.at && name.length && name.length <= NAME_LIMIT && name.at[0] != '/');
    MUST(!memmem(name.at, name.length, "..", 2) && !memmem(name.at, name.length, "//", 2));
    MUST(!memchr(name.at, '\0', name.length));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct text text = {(const char *)bytes, length};
    struct digest digest;
    struct reference reference;
    struct image_name image;
    struct error error;
    char spelled[DIGEST_STRING_SIZE];

    if (digest_parse(text, &digest))
        MUST(text_is(text, digest_format(&digest, spelled)));
    if (reference_parse(text, &reference) && !reference.is_digest)
        MUST(text_is(text, reference.tag) && reference_is_tag(text));
    if (reference_is_repository(text))
        must_stay_in_its_folder(text);
    if (reference_is_host(text))
        MUST(length <= HOST_LIMIT && !memchr(bytes, '/', length));
    reference_looks_like_host(text);
    if (image_name_parse(text, &image, &error))
        must_stay_in_its_folder(text_of(image.repository));
    return 0;
}
