/* Range fields: the resulting range lies inside the content. The first eight bytes are its size. */
#include <string.h>
#include "fuzz.h"
#include "http/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    uint64_t size, first = 0, count = 0;
    if (length < sizeof size)
        return 0;
    memcpy(&size, bytes, sizeof size);
    struct text value = {(const char *)bytes + sizeof size, length - sizeof size};
    struct http_range range = http_range_parse(value);
    if (http_range_apply(&range, size, &first, &count)) {
        MUST(first <= size && count <= size - first);
        MUST(range.kind != HTTP_RANGE_NONE || (first == 0 && count == size));
    }
    return 0;
}
