/* The default settings of an upstream. */
#include "upstream/upstream.h"

struct upstream_settings upstream_settings_default(void) {
    return (struct upstream_settings){
        .tag_ttl_ms = 60000,
        .connect_timeout_ms = 5000,
        .stall_timeout_ms = 10000,
        .first_byte_timeout_ms = 25000, /* containerd >= 2.3 gives up after 30 s without a head */
        .connections = 4,
        .max_connections = 64,
        .range_fill = true,
    };
}
