/* Reads the arguments of a command line as the command's description says. */
#include "cmd/arguments.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "base/units.h"

/* What is left to read. */
struct reading {
    struct arguments *arguments;
    char *const *rest; /* NULL-terminated */
    struct error *error;
};

static bool is_help(const char *argument) {
    return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

static bool wants_help(char *const *rest) {
    for (; *rest && strcmp(*rest, "--") != 0; rest++) {
        if (is_help(*rest))
            return true;
    }
    return false;
}

/* Finds the option by its letter, as in "-q". */
static bool find_letter(const struct command *command, const char *argument,
                        struct command_option *option) {
    for (size_t at = 0; command_option(command, at, option); at++) {
        if (option->letter && argument[1] == option->letter && !argument[2])
            return true;
    }
    return false;
}

/* Finds the option that `argument` names; *value is the part behind `=`, or NULL. */
static bool find_option(const struct command *command, const char *argument,
                        struct command_option *option, const char **value) {
    *value = NULL;
    if (strncmp(argument, "--", 2) != 0)
        return find_letter(command, argument, option);
    size_t length = strcspn(argument + 2, "=");
    *value = argument[2 + length] ? argument + 2 + length + 1 : NULL;
    for (size_t at = 0; command_option(command, at, option); at++) {
        if (strlen(option->name) == length && strncmp(argument + 2, option->name, length) == 0)
            return true;
    }
    return false;
}

/* Makes sure that the option has a value if it takes one, from the next argument if need be. */
static bool read_value(struct reading *reading, struct arguments_given *given) {
    const struct command_option *option = &given->option;
    if (option->type == OPTION_FLAG)
        return !given->value ||
               error_set(reading->error, ERROR_INVALID, "--%s takes no value", option->name);
    if (!given->value && option->type == OPTION_SWITCH)
        given->value = "true";
    if (!given->value && *reading->rest)
        given->value = *reading->rest++;
    return given->value ||
           error_set(reading->error, ERROR_INVALID, "--%s needs a value", option->name);
}

static bool parse_value(struct reading *reading, struct arguments_given *given) {
    struct text value = text_of(given->value);
    uint64_t bytes = 0;
    if (given->option.type == OPTION_DURATION && !units_parse_duration(value, &given->number))
        return error_set(reading->error, ERROR_INVALID,
                         "--%s: \"%s\" is no duration; write for example 30s, 12h, 30d",
                         given->option.name, given->value);
    if (given->option.type == OPTION_SIZE && !units_parse_size(value, &bytes))
        return error_set(reading->error, ERROR_INVALID,
                         "--%s: \"%s\" is no size; write for example 10GiB, 500MB, or bytes",
                         given->option.name, given->value);
    if (given->option.type == OPTION_COUNT &&
        (!text_to_u64(value, &bytes) || bytes == 0 || bytes > INT32_MAX))
        return error_set(reading->error, ERROR_INVALID, "--%s: \"%s\" is no whole number from 1 on",
                         given->option.name, given->value);
    if (given->option.type == OPTION_SIZE || given->option.type == OPTION_COUNT)
        given->number = (int64_t)bytes;
    return true;
}

static bool read_option(struct reading *reading, const char *argument) {
    struct arguments *arguments = reading->arguments;
    struct arguments_given *given = &arguments->given[arguments->given_count];
    if (!find_option(arguments->command, argument, &given->option, &given->value))
        return error_set(reading->error, ERROR_INVALID, "there is no option %s", argument);
    if (!read_value(reading, given) || !parse_value(reading, given))
        return false;
    arguments->given_count++;
    return true;
}

static bool read_all(struct reading *reading) {
    struct arguments *arguments = reading->arguments;
    bool only_operands = arguments->command->takes_anything;
    while (*reading->rest) {
        const char *argument = *reading->rest++;
        if (only_operands || argument[0] != '-')
            arguments->operands[arguments->operand_count++] = argument;
        else if (strcmp(argument, "--") == 0)
            only_operands = true;
        else if (!read_option(reading, argument))
            return false;
    }
    return true;
}

static bool count_operands(const struct arguments *arguments, struct error *error) {
    const struct command *command = arguments->command;
    if (arguments->operand_count < command->least)
        return error_set(error, ERROR_INVALID, "%s is missing", command->arguments);
    if (arguments->operand_count > command->most)
        return error_set(error, ERROR_INVALID, "unexpected argument %s",
                         arguments->operands[command->most]);
    return true;
}

/* ---- the environment ---- */

static bool is_given(const struct arguments *arguments, const char *name) {
    for (size_t i = 0; i < arguments->given_count; i++) {
        if (strcmp(arguments->given[i].option.name, name) == 0)
            return true;
    }
    return false;
}

/* Takes the value of the variable. An error then names the variable in place of the option. */
static bool read_variable(struct reading *reading, const struct command_option *option) {
    struct arguments *arguments = reading->arguments;
    const char *value = option->variable ? getenv(option->variable) : NULL;
    if (!value || !*value || is_given(arguments, option->name))
        return true;
    struct arguments_given *given = &arguments->given[arguments->given_count];
    *given = (struct arguments_given){.option = *option, .value = value};
    if (option->type == OPTION_FLAG) {
        bool is_true = strcmp(value, "true") == 0;
        given->value = NULL;
        arguments->given_count += is_true;
        return is_true || strcmp(value, "false") == 0 ||
               error_set(reading->error, ERROR_INVALID, "%s: \"%s\" is neither true nor false",
                         option->variable, value);
    }
    arguments->given_count++;
    return parse_value(reading, given) || error_wrap(reading->error, "%s", option->variable);
}

static bool read_environment(struct reading *reading) {
    struct command_option option;
    for (size_t at = 0; command_option(reading->arguments->command, at, &option); at++) {
        if (!read_variable(reading, &option))
            return false;
    }
    return true;
}

/* ---- all of it ---- */

bool arguments_read(struct arguments *arguments, const struct command *command, int argc,
                    char *const *argv, struct error *error) {
    size_t most = argc > 1 ? (size_t)argc : 1; /* calloc(0) may give NULL */
    size_t most_given = most + command->option_count;
    *arguments = (struct arguments){
        .command = command,
        .operands = calloc(most, sizeof *arguments->operands),
        .given = calloc(most_given, sizeof *arguments->given),
    };
    struct reading reading = {arguments, argv + (argc > 0), error};
    if (!arguments->operands || !arguments->given)
        return error_set(error, ERROR_MEMORY, "out of memory");
    arguments->wants_help = !command->takes_anything && wants_help(reading.rest);
    return arguments->wants_help ||
           (read_all(&reading) && read_environment(&reading) && count_operands(arguments, error));
}

void arguments_finish(struct arguments *arguments) {
    free(arguments->operands);
    free(arguments->given);
    *arguments = (struct arguments){0};
}

/* ---- what was given ---- */

static bool has_option(const struct command *command, const char *name) {
    struct command_option option;
    for (size_t at = 0; command_option(command, at, &option); at++) {
        if (strcmp(option.name, name) == 0)
            return true;
    }
    return false;
}

/* The last one given by that name; NULL: none. */
static const struct arguments_given *find_given(const struct arguments *arguments,
                                                const char *name) {
    assert(has_option(arguments->command, name));
    for (size_t at = arguments->given_count; at > 0; at--) {
        if (strcmp(arguments->given[at - 1].option.name, name) == 0)
            return &arguments->given[at - 1];
    }
    return NULL;
}

bool arguments_flag(const struct arguments *arguments, const char *name) {
    return find_given(arguments, name) != NULL;
}

const char *arguments_string(const struct arguments *arguments, const char *name) {
    const struct arguments_given *given = find_given(arguments, name);
    return given ? given->value : NULL;
}

int64_t arguments_number(const struct arguments *arguments, const char *name, int64_t otherwise) {
    const struct arguments_given *given = find_given(arguments, name);
    return given ? given->number : otherwise;
}

const char *arguments_next(const struct arguments *arguments, const char *name, size_t *at) {
    assert(has_option(arguments->command, name));
    while (*at < arguments->given_count) {
        const struct arguments_given *given = &arguments->given[(*at)++];
        if (strcmp(given->option.name, name) == 0)
            return given->value;
    }
    return NULL;
}

bool arguments_settings(const struct arguments *arguments, struct config_flags *flags) {
    for (size_t i = 0; i < arguments->given_count; i++) {
        const struct arguments_given *given = &arguments->given[i];
        if (given->option.setting && !config_flags_add(flags, given->option.setting, given->value))
            return false;
    }
    return true;
}
