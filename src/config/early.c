/* The form of the log's first lines, which come before the configuration is read. */
#include <string.h>
#include "config/config.h"
#include "config/inputs.h"

enum log_format config_early_log_format(const struct config_flags *flags,
                                        char *const *environment) {
    const char *given = NULL;
    for (size_t i = 0; flags && i < flags->count; i++) {
        if (strcmp(flags->given[i].option->key, "log.format") == 0)
            given = flags->given[i].value;
    }
    if (!given)
        given = config_variable(environment, "TARN_LOG_FORMAT");
    if (!given)
        given = config_variable(environment, "TARN_FALLBACK_LOG_FORMAT");
    return given && strcmp(given, "json") == 0 ? LOG_JSON : LOG_TEXT;
}
