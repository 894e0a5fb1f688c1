/*
 * What a command of tarn is: one `struct command` in a file of its own, with its texts, its options
 * and the function that runs it. All commands stand in the table of commands.h.
 *
 * The command line is read (arguments.h), the help is printed (help.h), and the completions and the
 * option lists of the manual pages are generated (script/generate) from this description alone.
 */
#ifndef CMD_COMMAND_H
#define CMD_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include "config/option_text.h"

struct arguments;

enum command_option_type {
    OPTION_FLAG,     /* takes no value: --json */
    OPTION_SWITCH,   /* takes a value only behind `=`: --prefetch or --prefetch=false */
    OPTION_STRING,   /* takes a value; given several times, the last one counts */
    OPTION_LIST,     /* takes a value; given several times, each one counts */
    OPTION_SIZE,     /* takes a number of bytes: 50GiB; the last one counts */
    OPTION_DURATION, /* takes a time: 30d; the last one counts */
    OPTION_COUNT,    /* takes a whole number, at least 1; the last one counts */
};

struct command_option {
    char name[CONFIG_NAME_SIZE]; /* without the dashes: "older-than" */
    enum command_option_type type;
    const char *value;              /* the value's name in texts: "DURATION"; a FLAG has none.
                                       Shells complete FILE and FOLDER */
    const char *help;               /* one sentence without a full stop */
    const char *const *suggestions; /* values that shells complete; NULL-terminated; NULL: none */

    /* The setting that the option stands for; NULL: none. config_load() checks its value. */
    const struct config_option *setting;

    /* The variable of the environment that gives the value when the option is not given; NULL:
     * none, or the setting's. A LIST is one value here too, and a FLAG is true or false. */
    const char *variable;

    char letter; /* of a FLAG: "-q" stands for it as well; 0: none does */
};

/* Which settings of the configuration are options of a command as well. */
enum command_settings {
    COMMAND_NO_SETTINGS,
    COMMAND_SERVE_SETTINGS, /* all but those of tarn keep and of other commands */
    COMMAND_KEEP_SETTINGS,  /* those of tarn keep alone */
    COMMAND_NODE_SETTINGS,  /* those of tarn node, which has a file of its own */
};

struct command {
    const char *name;
    /* The operands as the help shows them: "IMAGE…", "[HOST]", "". Shells complete FILE, COMMAND
     * (a command's name), and words with `|` between them. */
    const char *arguments;
    size_t least, most;  /* how many operands it takes */
    const char *summary; /* begins with a small letter; without a full stop */
    const char *text;    /* more about it, whole lines; NULL: the summary says it all */

    const struct command_option *options; /* without --help, which every command has */
    size_t option_count;
    enum command_settings settings;
    bool takes_anything; /* all arguments are operands: the protocol of another program */

    /* The exit status: 0 done; 1 failed, and the reason is on standard error; 2 bad usage. */
    int (*run)(const struct arguments *arguments);
};

enum { COMMAND_ANY_NUMBER = 1 << 20 }; /* for `most` */

#define COMMAND_OPTIONS(array) .options = (array), .option_count = sizeof(array) / sizeof *(array)

/* Option number `at` of the command, its own first and then the settings. False: there are
 * fewer. */
bool command_option(const struct command *command, size_t at, struct command_option *out);

/* Prints "tarn NAME: ", the sentence, and where the help is, on standard error. Returns 2. */
int command_refuse(const struct command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
