/* Finds the root of the cache that a command works on. */
#include "cmd/chosen_cache.h"

#include <stdio.h>
#include <unistd.h>

int chosen_cache_find(struct chosen_cache *chosen, const struct arguments *arguments) {
    const struct config_flags flags = {.file = arguments_string(arguments, "config")};
    *chosen = (struct chosen_cache){.root = arguments_string(arguments, "root")};
    if (flags.file && chosen->root)
        return command_refuse(arguments->command, "--config and --root exclude each other");
    if (chosen->root)
        return 0;
    cleanup_buffer struct buffer problems = {0};
    chosen->config = config_load(&flags, environ, &problems);
    if (chosen->config) {
        chosen->root = chosen->config->root;
        return 0;
    }
    if (problems.bytes)
        fputs(problems.bytes, stderr);
    else
        fprintf(stderr, "tarn %s: out of memory\n", arguments->command->name);
    return 1;
}

void chosen_cache_finish(struct chosen_cache *chosen) {
    config_free(chosen->config);
    *chosen = (struct chosen_cache){0};
}
