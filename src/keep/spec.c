/* The defaults of a keep. */
#include "keep/spec.h"

#include <string.h>
#include "keep/settings.h"

struct keep_pull keep_pull_default(void) {
    return (struct keep_pull){.by = KEEP_PULL_BY_TAG,
                              .timeout_ms = 20 * 60 * 1000,
                              .nodes_at_once = 20,
                              .node_limit = 1,
                              .disk_percent = 60};
}

struct keep_settings keep_settings_default(void) {
    static const char *const listen[] = {"127.0.0.1:8080", NULL};
    return (struct keep_settings){.listen = listen,
                                  .refresh_ms = 5 * 60 * 1000,
                                  .lease = "tarn-keep",
                                  .prefix = KEEP_DEFAULT_PREFIX};
}

static bool is_letter_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool keep_name_is_valid(const char *name) {
    size_t length = strlen(name);
    if (length == 0 || length > KEEP_NAME_LIMIT)
        return false;
    for (size_t i = 0; i < length; i++) {
        bool is_end = i == 0 || i + 1 == length;
        if (!is_letter_or_digit(name[i]) && (is_end || !strchr("-_.", name[i])))
            return false;
    }
    return true;
}
