/* tarn convert-config: writes a configuration of the CNCF registry as tarn's. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/secret.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "config/convert.h"

enum { PASSWORD_LIMIT = 64 << 10 };

static bool refuse(const char *path, const char *why) {
    fprintf(stderr,
            "tarn convert-config: the password cannot be written to %s: %s; name another file with "
            "--password-file\n",
            path, why);
    return false;
}

/* Whether the file has the password already. */
static bool holds(const char *path, const char *password) {
    struct error error;
    cleanup_secret char *held =
        file_read_small(path, PASSWORD_LIMIT, FILE_REGULAR | FILE_TEXT, NULL, NULL, &error);
    size_t length = strlen(password);
    return held && strncmp(held, password, length) == 0 && strcmp(held + length, "\n") == 0;
}

/* Never overwrites a file, because it may be somebody's only copy of another password. */
static bool write_password(const char *path, const char *password) {
    struct error error = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == EEXIST)
        return holds(path, password) || refuse(path, "it exists with other content");
    if (fd < 0)
        return refuse(path, strerror(errno));
    bool written = file_write_all(fd, password, strlen(password), &error) &&
                   file_write_all(fd, "\n", 1, &error);
    close(fd);
    if (!written) {
        unlink(path);
        return refuse(path, error.text);
    }
    fprintf(stderr, "tarn convert-config: the password is in %s now\n", path);
    return true;
}

/* FILE.password beside the file, whose folder must exist; the caller's to free. */
static char *choose_password_file(const struct arguments *arguments) {
    const char *given = arguments_string(arguments, "password-file");
    if (given)
        return strdup(given);
    char path[PATH_MAX];
    char *name = NULL;
    const char *file = arguments->operands[0];
    if (asprintf(&name, "%s.password", realpath(file, path) ? path : file) < 0)
        return NULL;
    return name;
}

static int run(const struct arguments *arguments) {
    const char *file = arguments->operands[0];
    if (*file == '\0')
        return command_refuse(arguments->command, "the name of the file is empty");
    cleanup_free char *password_file = choose_password_file(arguments);
    cleanup_buffer struct buffer problems = {0};
    struct config_conversion conversion = {0};
    bool ok = password_file && config_convert(file, password_file, environ, &conversion, &problems);
    if (!ok)
        fputs(problems.bytes ? problems.bytes : "tarn convert-config: out of memory\n", stderr);
    const struct config *config = conversion.config;
    for (size_t i = 0; ok && config->warnings && config->warnings[i]; i++)
        fprintf(stderr, "tarn convert-config: %s\n", config->warnings[i]);
    if (ok && conversion.password)
        ok = write_password(password_file, conversion.password);
    if (ok)
        fwrite(conversion.yaml.bytes, 1, conversion.yaml.length, stdout);
    config_conversion_finish(&conversion);
    if (ok && (fflush(stdout) != 0 || ferror(stdout))) {
        perror("tarn convert-config: writing the configuration");
        return 1;
    }
    return ok ? 0 : 1;
}

static const struct command_option options[] = {
    {"password-file", OPTION_STRING, "FILE",
     "where the upstream's password is written; default: FILE.password, beside the file"},
};

const struct command convert_config_command = {
    .name = "convert-config",
    .arguments = "FILE",
    .least = 1,
    .most = 1,
    .summary = "write a configuration of the CNCF registry as tarn's",
    .text =
        "FILE is a configuration of the CNCF registry (registry:2, registry:3, docker-registry) "
        "in\n"
        "proxy mode. The REGISTRY_… variables of the environment change it, as they do there.\n"
        "Prints a configuration of tarn's that serves the same, and names on standard error what\n"
        "is ignored. tarn keeps passwords out of its configuration: a password is written to a\n"
        "file of its own (mode 0600), which the configuration names.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
