/* The configuration file: any bytes either load whole or are refused with at least one problem. */
#include "config/config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    char home[] = "HOME=/";
    char *const environment[] = {home, NULL};
    cleanup_buffer struct buffer problems = {0};
    struct config *config = config_parse((struct text){(const char *)bytes, length}, "fuzz.yaml",
                                         NULL, environment, &problems);
    MUST((config == NULL) == (problems.length > 0));
    for (size_t i = 0; config && i < config->upstream_count; i++)
        MUST(config->upstreams[i].host && config->upstreams[i].credentials);
    MUST(!config || (config->listen_count > 0 && config->root));
    config_free(config);
    return 0;
}
