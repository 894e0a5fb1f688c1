/* The default settings of an upstream. */
#include "upstream/upstream.h"

#include <string.h>

static bool holds(const char *const *globs, const char *glob) {
    for (; *globs; globs++) {
        if (strcmp(*globs, glob) == 0)
            return true;
    }
    return false;
}

static bool holds_all(const char *const *globs, const char *const *others) {
    for (; *others; others++) {
        if (!holds(globs, *others))
            return false;
    }
    return true;
}

bool upstream_settings_same_repositories(const struct upstream_settings *a,
                                         const struct upstream_settings *b) {
    if (!a->repositories || !b->repositories)
        return a->repositories == b->repositories;
    return holds_all(a->repositories, b->repositories) &&
           holds_all(b->repositories, a->repositories);
}

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
