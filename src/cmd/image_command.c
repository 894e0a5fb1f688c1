/* What the commands that read and write images have in common. */
#include "cmd/image_command.h"

#include <stdio.h>
#include <unistd.h>
#include "base/log.h"
#include "base/secret.h"
#include "cmd/order_command.h"
#include "copy/platform.h"

static struct config *load(const struct arguments *arguments) {
    struct config_flags flags = {.file = arguments_string(arguments, "config")};
    const char *via = arguments_string(arguments, "via");
    cleanup_buffer struct buffer problems = {0};
    bool ok = !via || config_flags_add(&flags, &config_options[config_option_index("via")], via);
    struct config *config = ok ? config_load(&flags, environ, &problems) : NULL;
    if (!config && problems.bytes)
        fputs(problems.bytes, stderr);
    else if (!config)
        fprintf(stderr, "tarn %s: out of memory\n", arguments->command->name);
    config_flags_finish(&flags);
    return config;
}

int image_command_open(struct image_command *command, const struct arguments *arguments,
                       const atomic_bool *stop) {
    struct error error = {0};
    *command = (struct image_command){.arguments = arguments};
    secret_forbid_core_dumps();
    log_configure(LOG_ERROR, LOG_TEXT); /* what fails is said once, at the end */
    command->config = load(arguments);
    if (!command->config)
        return 1;
    command->client = client_new();
    const struct copy_hosts_settings settings = {
        .configured = command->config->upstreams,
        .count = command->config->upstream_count,
        .others = command->config->defaults,
        .via = command->config->via,
        .plain_http = arguments_flag(arguments, "plain-http"),
        .stop = stop,
    };
    command->hosts = copy_hosts_new(command->client, &settings, &error);
    return command->hosts ? 0 : image_command_fail(arguments, NULL, &error);
}

void image_command_close(struct image_command *command) {
    copy_hosts_free(command->hosts);
    config_free(command->config);
    client_free(command->client);
}

int image_command_fail(const struct arguments *arguments, const char *what,
                       const struct error *error) {
    bool is_named = !what || strstr(error->text, what);
    fflush(stdout);
    fprintf(stderr, "tarn %s: %s%s%s\n", arguments->command->name, is_named ? "" : what,
            is_named ? "" : ": ", error->text);
    return 1;
}

int image_command_read(const struct arguments *arguments, const char *operand, enum copy_form form,
                       struct copy_reference *out) {
    struct error error = {0};
    return copy_reference_parse(text_of(operand), form, out, &error)
               ? 0
               : image_command_fail(arguments, NULL, &error);
}

int image_command_platform(const struct arguments *arguments, struct copy_platform *out) {
    const char *given = arguments_string(arguments, "platform");
    *out = copy_platform_own();
    if (given && !copy_platform_parse(text_of(given), out))
        return command_refuse(arguments->command,
                              "--platform: \"%s\" is no platform; write for example linux/arm64",
                              given);
    return 0;
}

int image_command_run(const struct arguments *arguments, enum copy_form form,
                      bool (*work)(const struct arguments *arguments, struct copy_source *source,
                                   const struct copy_reference *reference, struct error *error)) {
    struct image_command command;
    struct copy_reference reference;
    struct error error = {0};
    const char *operand = arguments->operands[0];
    int status = image_command_read(arguments, operand, form, &reference);
    if (status)
        return status;
    status = image_command_open(&command, arguments, NULL);
    if (!status) {
        struct copy_source *source = copy_source_open(command.hosts, &reference, &error);
        if (!source || !work(arguments, source, &reference, &error))
            status = image_command_fail(arguments, operand, &error);
        copy_source_free(source);
    }
    image_command_close(&command);
    return status ? status : order_command_end(arguments, 0);
}
