/*
 * tarn configure-docker: makes docker-credential-tarn the helper for Google's registries in
 * Docker's config.json. The rest of the file stays as its owner wrote it, in the same order. The
 * file is replaced as a whole or not at all.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "auth/google/google.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/secret.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/standard_streams.h"
#include "node/tree.h"

#define HELPER "tarn"

enum { HOSTS_LIMIT = 256 };

static bool print_failure(const char *path, const char *reason) {
    fprintf(stderr, "tarn: %s: %s\n", path, reason);
    return false;
}

static bool print_error(const struct error *error) {
    fprintf(stderr, "tarn: %s\n", error->text);
    return false;
}

/* ---- where it is ---- */

static bool config_path(char *out, size_t size) {
    const char *folder = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
    int length = -1;
    if (folder && *folder)
        length = snprintf(out, size, "%s/config.json", folder);
    else if (home && *home)
        length = snprintf(out, size, "%s/.docker/config.json", home);
    return length > 0 && (size_t)length < size;
}

/* The path from the root of the file system on, as a tree wants it. */
static bool absolute_path(const char *path, char *out, size_t size) {
    char folder[PATH_MAX];
    if (*path == '/')
        return text_copy(text_of(path), out, size);
    return getcwd(folder, sizeof folder) && snprintf(out, size, "%s/%s", folder, path) < (int)size;
}

/* ---- what it holds ---- */

/* True, and *config is NULL: there is no such file. */
static bool read_config(const struct tree *tree, const char *path, json_t **config,
                        struct stat *status) {
    cleanup_secret_buffer struct buffer bytes = {0};
    struct error error;
    *config = NULL;
    bytes.bytes = tree_read(tree, path, TREE_FOLLOW, &bytes.length, status, &error);
    if (!bytes.bytes)
        return error.kind == ERROR_NOT_FOUND || print_error(&error);
    bytes.capacity = bytes.length + 1;
    /* The parser's message is left out, because it would quote bytes that may be a password. */
    *config = bounded_json_load(bytes.bytes, bytes.length, NULL);
    if (!*config)
        return print_failure(path, "is not JSON; nothing was changed");
    return true;
}

static json_t *config_helpers(json_t *config, const char *path) {
    if (!json_is_object(config)) {
        print_failure(path, "is not a JSON object; nothing was changed");
        return NULL;
    }
    json_t *helpers = json_object_get(config, "credHelpers");
    if (!helpers) {
        json_object_set_new(config, "credHelpers", json_object());
        helpers = json_object_get(config, "credHelpers");
    }
    if (json_is_object(helpers))
        return helpers;
    print_failure(path, "credHelpers is not an object; nothing was changed");
    return NULL;
}

/* Returns whether this changed anything. */
static bool set_helpers(json_t *helpers, const char *const *hosts) {
    bool changed = false;
    for (; *hosts; hosts++) {
        const char *helper = json_string_value(json_object_get(helpers, *hosts));
        if (helper && strcmp(helper, HELPER) == 0)
            continue;
        json_object_set_new(helpers, *hosts, json_string(HELPER));
        changed = true;
    }
    return changed;
}

/* Indents with tabs, as Docker does. Spaces at the start of a line are always indentation, because
 * a string in JSON never holds the end of a line. */
static char *write_text(const json_t *config) {
    cleanup_buffer struct buffer text = {0};
    if (!bounded_json_dump(config, JSON_INDENT(1) | JSON_PRESERVE_ORDER, &text) ||
        !buffer_append_string(&text, "\n"))
        return NULL;
    bool begins = true;
    for (char *c = text.bytes; *c; c++) {
        if (begins && *c == ' ')
            *c = '\t';
        else
            begins = *c == '\n';
    }
    return take(text.bytes);
}

/* `old` is the state of the old file; NULL: there is none, and the new file gets mode 0600, because
 * people keep passwords there. */
static bool replace(struct tree *tree, const char *path, const char *text, const struct stat *old) {
    const struct stat new = {.st_mode = 0600, .st_uid = geteuid(), .st_gid = getegid()};
    struct error error;
    tree->folder_mode = 0700;
    return tree_write(tree, path, TREE_FOLLOW, text_of(text), old ? old : &new, &error) ||
           print_error(&error);
}

/* ---- the command ---- */

static bool helper_on_path(void) {
    const char *path = getenv("PATH");
    struct text rest = text_of(path ? path : "");
    while (rest.at) {
        struct text folder = text_cut(rest, ':', &rest);
        char program[PATH_MAX];
        if (snprintf(program, sizeof program, "%.*s/docker-credential-" HELPER,
                     TEXT_PRINT(folder)) < (int)sizeof program &&
            access(program, X_OK) == 0)
            return true;
    }
    return false;
}

static bool configure(const char *const *hosts, bool dry_run) {
    char named[PATH_MAX], path[PATH_MAX];
    cleanup_secret_json json_t *config = NULL;
    cleanup_tree struct tree tree = {.fd = -1};
    struct stat status = {0};
    struct error error;
    if (!config_path(named, sizeof named))
        return print_failure("config.json", "neither DOCKER_CONFIG nor HOME says where it is");
    if (!absolute_path(named, path, sizeof path))
        return print_failure(named, strerror(errno));
    if (!tree_open(&tree, NULL, &error))
        return print_error(&error);
    if (!read_config(&tree, path, &config, &status))
        return false;
    bool is_new = !config;
    if (is_new)
        config = json_object();
    json_t *helpers = config_helpers(config, named);
    if (!helpers)
        return false;
    bool changed = set_helpers(helpers, hosts);
    cleanup_secret char *text = write_text(config);
    if (!text)
        return print_failure(named, "out of memory");
    if (dry_run)
        return fputs(text, stdout) >= 0 && fflush(stdout) == 0;
    if ((changed || is_new) && !replace(&tree, path, text, is_new ? NULL : &status))
        return false;
    if (!helper_on_path())
        fputs("tarn: docker-credential-" HELPER " is not on PATH, where Docker looks for it\n",
              stderr);
    return printf("%s\n", named) > 0 && fflush(stdout) == 0;
}

static bool split_hosts(char *value, const char *hosts[HOSTS_LIMIT + 1]) {
    size_t count = 0;
    for (char *host; (host = strsep(&value, ","));) {
        host += strspn(host, " ");
        host[strcspn(host, " ")] = '\0';
        if (!*host || strpbrk(host, "/\t\r\n") || count == HOSTS_LIMIT)
            return false;
        if (!google_host_is_registry(text_of(host)))
            fprintf(stderr,
                    "tarn: %s is not a registry of Google: docker-credential-" HELPER
                    " has no credentials for it\n",
                    host);
        hosts[count++] = host;
    }
    return true;
}

static int run(const struct arguments *arguments) {
    const char *named[HOSTS_LIMIT + 1] = {NULL}, *const *hosts = google_registry_hosts();
    const char *list = arguments_string(arguments, "registries");
    cleanup_free char *copy = list ? strdup(list) : NULL;
    if (list && !(copy && split_hosts(copy, named)))
        return command_refuse(arguments->command,
                              "--registries needs 1 to %d hosts with commas between them",
                              HOSTS_LIMIT);
    secret_forbid_core_dumps();
    bool done = configure(list ? named : hosts, arguments_flag(arguments, "dry-run"));
    return done ? 0 : 1;
}

static const struct command_option options[] = {
    {"registries", OPTION_STRING, "HOST[,…]",
     "the registries that use the helper; default: the registries of Google"},
    {"dry-run", OPTION_FLAG, NULL, "print the new config.json and change nothing"},
};

const struct command configure_docker_command = {
    .name = "configure-docker",
    .arguments = "",
    .summary = "make Docker use tarn's credential helper",
    .text =
        "Adds entries to credHelpers in Docker's config.json; everything else in the file stays\n"
        "as it is. Prints the file's name.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
