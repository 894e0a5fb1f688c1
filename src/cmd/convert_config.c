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

enum { SECRET_LIMIT = 64 << 10 };

/* A secret that goes into a file of its own. */
struct secret_file {
    const char *what;   /* "password" */
    const char *option; /* "password-file" */
    char *path;         /* owned */
};

static bool refuse(const struct secret_file *file, const char *why) {
    fprintf(stderr,
            "tarn convert-config: the %s cannot be written to %s: %s; name another file with "
            "--%s\n",
            file->what, file->path, why, file->option);
    return false;
}

/* Whether the file has the secret already. */
static bool holds(const char *path, const char *secret) {
    struct error error;
    cleanup_secret char *held =
        file_read_small(path, SECRET_LIMIT, FILE_REGULAR | FILE_TEXT, NULL, NULL, &error);
    size_t length = strlen(secret);
    return held && strncmp(held, secret, length) == 0 && strcmp(held + length, "\n") == 0;
}

/* Never overwrites a file, because it may be somebody's only copy of another secret. */
static bool write_secret(const struct secret_file *file, const char *secret) {
    struct error error = {0};
    int fd = open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == EEXIST)
        return holds(file->path, secret) || refuse(file, "it exists with other content");
    if (fd < 0)
        return refuse(file, strerror(errno));
    bool written =
        file_write_all(fd, secret, strlen(secret), &error) && file_write_all(fd, "\n", 1, &error);
    close(fd);
    if (!written) {
        unlink(file->path);
        return refuse(file, error.text);
    }
    fprintf(stderr, "tarn convert-config: the %s is in %s now\n", file->what, file->path);
    return true;
}

/* The file that the option names, else FILE.password, whose folder must exist. False: out of
 * memory. */
static bool choose_file(const struct arguments *arguments, struct secret_file *out) {
    const char *given = arguments_string(arguments, out->option);
    if (given)
        return (out->path = strdup(given)) != NULL;
    char path[PATH_MAX];
    const char *file = arguments->operands[0];
    if (asprintf(&out->path, "%s.%s", realpath(file, path) ? path : file, out->what) < 0)
        out->path = NULL;
    return out->path != NULL;
}

static void report(const struct config_conversion *conversion) {
    const struct config *config = conversion->config;
    for (size_t i = 0; config->warnings && config->warnings[i]; i++)
        fprintf(stderr, "tarn convert-config: %s\n", config->warnings[i]);
}

static int run(const struct arguments *arguments) {
    const char *file = arguments->operands[0];
    if (*file == '\0')
        return command_refuse(arguments->command, "the name of the file is empty");
    struct secret_file password = {"password", "password-file", NULL},
                       secret = {"secret", "secret-file", NULL};
    cleanup_buffer struct buffer problems = {0};
    struct config_conversion conversion = {0};
    bool ok = choose_file(arguments, &password) && choose_file(arguments, &secret);
    const struct config_conversion_files files = {password.path, secret.path};
    ok = ok && config_convert(file, &files, environ, &conversion, &problems);
    if (!ok)
        fputs(problems.bytes ? problems.bytes : "tarn convert-config: out of memory\n", stderr);
    if (ok)
        report(&conversion);
    if (ok && conversion.password)
        ok = write_secret(&password, conversion.password);
    if (ok && conversion.secret)
        ok = write_secret(&secret, conversion.secret);
    free(password.path);
    free(secret.path);
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
    {"secret-file", OPTION_STRING, "FILE",
     "where the secret of the bucket's key is written; default: FILE.secret, beside the file"},
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
        "is ignored. tarn keeps secrets out of its configuration: a password, and the secret of\n"
        "the bucket's key, is written to a file of its own (mode 0600), which the configuration\n"
        "names.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
