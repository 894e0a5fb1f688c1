/*
 * Prints a description of all commands and settings as JSON, from which script/generate writes the
 * completions and parts of the documentation. It is built for developers and never installed.
 */
#include <jansson.h>
#include <stdio.h>
#include "cmd/commands.h"

static json_t *list_words(const char *const *words) {
    json_t *list = json_array();
    for (; words && *words; words++)
        json_array_append_new(list, json_string(*words));
    return list;
}

static json_t *describe_option(const struct command_option *option) {
    static const char *const types[] = {
        [OPTION_FLAG] = "flag",   [OPTION_SWITCH] = "switch", [OPTION_STRING] = "string",
        [OPTION_LIST] = "list",   [OPTION_SIZE] = "size",     [OPTION_DURATION] = "duration",
        [OPTION_COUNT] = "count",
    };
    const char letter[] = {option->letter, '\0'};
    return json_pack("{s:s, s:s, s:s?, s:s, s:o, s:s?, s:s?, s:s}", "name", option->name, "type",
                     types[option->type], "value", option->value, "help", option->help,
                     "suggestions", list_words(option->suggestions), "setting",
                     option->setting ? option->setting->key : NULL, "variable", option->variable,
                     "letter", letter);
}

static json_t *describe_command(const struct command *command) {
    json_t *options = json_array();
    struct command_option option;
    for (size_t at = 0; command_option(command, at, &option); at++)
        json_array_append_new(options, describe_option(&option));
    return json_pack("{s:s, s:s, s:s, s:s?, s:o}", "name", command->name, "arguments",
                     command->arguments, "summary", command->summary, "text", command->text,
                     "options", options);
}

static json_t *describe_setting(const struct config_option *setting) {
    static const char *const types[] = {
        [CONFIG_STRING] = "string", [CONFIG_LIST] = "list",
        [CONFIG_SIZE] = "size",     [CONFIG_DURATION] = "duration",
        [CONFIG_COUNT] = "number",  [CONFIG_BOOLEAN] = "boolean",
        [CONFIG_CHOICE] = "choice", [CONFIG_PERCENT] = "percentage",
    };
    static const char *const groups[] = {
        [CONFIG_SERVER] = "server",       [CONFIG_CACHE] = "cache",
        [CONFIG_BUCKET] = "bucket",       [CONFIG_LIMITS] = "limits",
        [CONFIG_UPSTREAMS] = "upstreams", [CONFIG_UPSTREAM] = "upstream",
        [CONFIG_KEEP] = "keep",           [CONFIG_REPLICAS] = "replicas",
        [CONFIG_COMMANDS] = "commands",   [CONFIG_NODE] = "node",
    };
    char flag[CONFIG_NAME_SIZE], variable[CONFIG_NAME_SIZE];
    char standard[CONFIG_VALUE_SIZE], limits[CONFIG_VALUE_SIZE];
    config_option_flag(setting, flag);
    config_option_variable(setting, variable);
    config_option_default(setting, standard);
    config_option_limits(setting, limits);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s?, s:s, s:s, s:o, s:b, s:b}", "key",
                     setting->key, "group", groups[setting->group], "type", types[setting->type],
                     "flag", flag, "variable", variable, "value",
                     config_option_placeholder(setting), "help", setting->help, "details",
                     setting->details, "default", standard, "limits", limits, "choices",
                     list_words(setting->choices), "in_file", !setting->not_in_file,
                     "needs_restart", setting->needs_restart);
}

static json_t *describe_settings(const struct config_option *settings, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, describe_setting(&settings[i]));
    return list;
}

int main(void) {
    json_t *list = json_array();
    for (const struct command *const *command = commands; *command; command++)
        json_array_append_new(list, describe_command(*command));
    json_t *description = json_pack(
        "{s:o, s:o, s:o, s:o}", "commands", list, "settings",
        describe_settings(config_options, config_option_count), "upstream_settings",
        describe_settings(config_upstream_options, config_upstream_option_count), "node_settings",
        describe_settings(config_node_document.options, config_node_document.count));
    bool printed = description && json_dumpf(description, stdout, JSON_INDENT(2)) == 0;
    puts("");
    json_decref(description);
    return printed && fflush(stdout) == 0 ? 0 : 1;
}
