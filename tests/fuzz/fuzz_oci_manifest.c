/* JSON from upstreams: manifests and indexes, indexes of referrers. */
#include "base/cleanup.h"
#include "fuzz.h"
#include "oci/manifest.h"
#include "oci/referrers.h"
#include "oci/schema1.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct manifest manifest;
    struct error error;
    if (manifest_parse(bytes, length, &manifest, &error)) {
        MUST(manifest.count <= MANIFEST_DESCRIPTOR_LIMIT);
        for (size_t i = 0; i < manifest.count; i++)
            MUST(manifest.descriptors[i].digest.algorithm != 0);
        manifest_finish(&manifest);
    }
    struct digest digest;
    schema1_digest(bytes, length, DIGEST_SHA256, &digest);
    cleanup_buffer struct buffer out = {0};
    bool filtered;
    referrers_filter(bytes, length, "application/spdx+json", &out, &filtered, &error);
    return 0;
}
