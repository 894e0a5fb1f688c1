/* Paths of requests: for every path, the texts of the route are within their limits and end with a
 * NUL. */
#include <string.h>
#include "fuzz.h"
#include "registry/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct route route;
    route_parse((struct text){(const char *)bytes, length}, &route);
    MUST(memchr(route.name, '\0', sizeof route.name));
    if (route.kind == ROUTE_MANIFEST && !route.bad && !route.reference.is_digest)
        MUST(reference_is_tag(text_of(route.reference.tag)));
    if (route.kind == ROUTE_BLOB && !route.bad)
        MUST(route.reference.is_digest);
    MUST(route_name(route.kind));
    return 0;
}
