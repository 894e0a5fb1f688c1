/* Paths of requests: for every path, the texts of the route are within their limits and end with a
 * NUL. */
#include <string.h>
#include "fuzz.h"
#include "registry/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct route route;
    route_parse((struct text){(const char *)bytes, length}, &route);
    MUST(memchr(route.name, '\0', sizeof route.name));
    MUST(memchr(route.malformed, '\0', sizeof route.malformed));
    MUST(!route.host[0] || reference_is_host(text_of(route.host)));
    if (route.kind == ROUTE_MANIFEST && !route.fault && !route.reference.is_digest)
        MUST(reference_is_tag(text_of(route.reference.tag)));
    if (route.kind == ROUTE_BLOB && !route.fault)
        MUST(route.reference.is_digest);
    MUST(route_name(route.kind));
    return 0;
}
