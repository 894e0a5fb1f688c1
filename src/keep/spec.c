/* The defaults of a keep. */
#include "keep/spec.h"

struct keep_pull keep_pull_default(void) {
    return (struct keep_pull){.by = KEEP_PULL_BY_TAG,
                              .timeout_ms = 20 * 60 * 1000,
                              .nodes_at_once = 20,
                              .node_limit = 1,
                              .disk_percent = 60};
}
