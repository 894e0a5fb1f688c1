/* Responses of a registry's token service: an accepted token can be sent in a field, and its
 * lifetime is within the limits. */
#include "base/cleanup.h"
#include "fuzz.h"
#include "upstream/token_fetch.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    cleanup_free char *value = NULL;
    int64_t life_s = 0;
    struct error error = {0};
    if (!token_read(bytes, length, &value, &life_s, &error)) {
        MUST(!value && error.kind != ERROR_NONE);
        return 0;
    }
    MUST(value && *value && life_s >= 1 && life_s <= 86400);
    for (const char *c = value; *c; c++)
        MUST(*c > ' ' && *c < 0x7f);
    return 0;
}
