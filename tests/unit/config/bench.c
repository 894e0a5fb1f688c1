/* What a test gives to the configuration's loader, and what it got. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "config/bench.h"

static const char *const only_home[] = {"HOME=/home/someone", NULL};

int bench_setup(void **state) {
    struct bench *bench = calloc(1, sizeof *bench);
    if (!bench)
        return -1;
    *state = bench;
    bench->environment = only_home;
    snprintf(bench->folder, sizeof bench->folder, "/tmp/tarn-config-XXXXXX");
    return mkdtemp(bench->folder) ? 0 : -1;
}

int bench_teardown(void **state) {
    struct bench *bench = *state;
    for (size_t i = 0; i < bench->path_count; i++)
        unlink(bench->paths[i]);
    int failed = rmdir(bench->folder);
    config_free(bench->config);
    config_flags_finish(&bench->flags);
    buffer_finish(&bench->problems);
    free(bench);
    return failed;
}

/* The setting with this flag. */
static const struct config_option *option_of(struct text flag) {
    for (size_t i = 0; i < config_option_count; i++) {
        char name[CONFIG_NAME_SIZE];
        config_option_flag(&config_options[i], name);
        if (text_is(flag, name))
            return &config_options[i];
    }
    fail_msg("no setting has the flag %.*s", (int)flag.length, flag.at);
    return NULL;
}

void bench_give_flags(struct bench *bench, const char *const *arguments) {
    config_flags_finish(&bench->flags);
    for (; *arguments; arguments++) {
        struct text value, flag = text_cut(text_of(*arguments), '=', &value);
        const struct config_option *option = text_is(flag, "--config") ? NULL : option_of(flag);
        const char *given = value.at                                   ? value.at
                            : option && option->type == CONFIG_BOOLEAN ? "true"
                                                                       : *++arguments;
        if (option)
            assert_true(config_flags_add(&bench->flags, option, given));
        else
            bench->flags.file = given;
    }
}

const struct config *try_load(struct bench *bench, const char *text) {
    config_free(bench->config);
    buffer_clear(&bench->problems);
    bench->config = config_parse(text_of(text), "f.yaml", &bench->flags,
                                 (char *const *)(uintptr_t)bench->environment, &bench->problems);
    return bench->config;
}

const struct config *load(struct bench *bench, const char *text) {
    if (!try_load(bench, text))
        fail_msg("refused:\n%s", bench->problems.bytes);
    return bench->config;
}

void assert_refused(struct bench *bench, const char *text, const char *problems) {
    if (try_load(bench, text))
        fail_msg("accepted:\n%s", text);
    assert_string_equal(bench->problems.bytes, problems);
}

const struct config *load_named(struct bench *bench) {
    config_free(bench->config);
    buffer_clear(&bench->problems);
    bench->config =
        config_load(&bench->flags, (char *const *)(uintptr_t)bench->environment, &bench->problems);
    return bench->config;
}

const char *write_file(struct bench *bench, const char *name, const char *content) {
    assert_true(bench->path_count < sizeof bench->paths / sizeof *bench->paths);
    char *path = bench->paths[bench->path_count++];
    snprintf(path, sizeof *bench->paths, "%s/%s", bench->folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
    return path;
}

const struct upstream_settings *upstream(const struct config *config, const char *host) {
    for (size_t i = 0; i < config->upstream_count; i++) {
        if (strcmp(config->upstreams[i].host, host) == 0)
            return &config->upstreams[i];
    }
    fail_msg("no upstream %s", host);
    return NULL;
}

const char *default_host(const struct config *config) {
    const char *host = NULL;
    for (size_t i = 0; i < config->upstream_count; i++) {
        if (config->upstreams[i].is_default) {
            assert_null(host);
            host = config->upstreams[i].host;
        }
    }
    return host ? host : "none";
}
