/* Which media types are those of layers. */
#include "layer/media_type.h"

#include <stddef.h>
#include <string.h>

bool layer_media_type_parse(const char *type, bool *is_plain) {
    static const struct {
        const char *stem;
        bool is_plain;
    } stems[] = {
        {"application/vnd.oci.image.layer.v1.tar", true},
        {"application/vnd.oci.image.layer.nondistributable.v1.tar", true},
        {"application/vnd.docker.image.rootfs.diff.tar", false},
        {"application/vnd.docker.image.rootfs.foreign.diff.tar", false},
    };
    static const char *const suffixes[] = {"", "+gzip", "+zstd", ".gzip", ".zstd"};
    for (size_t i = 0; i < sizeof stems / sizeof *stems; i++) {
        size_t length = strlen(stems[i].stem);
        if (strncmp(type, stems[i].stem, length) != 0)
            continue;
        for (size_t j = 0; j < sizeof suffixes / sizeof *suffixes; j++)
            if (strcmp(type + length, suffixes[j]) == 0) {
                *is_plain = stems[i].is_plain && j == 0;
                return true;
            }
    }
    return false;
}
