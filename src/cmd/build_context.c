/* Opens the folder of a build. */
#include "cmd/build_context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/json.h"

/* The path of a file relative to a folder that it is in, the caller's to free. NULL: it is not in
 * it. */
static char *path_below(const char *folder, const char *path) {
    cleanup_free char *whole = realpath(folder, NULL), *file = realpath(path, NULL);
    if (!whole || !file)
        return NULL;
    size_t length = strlen(whole);
    if (length == 1) /* "/" */
        length = 0;
    return strncmp(file, whole, length) == 0 && file[length] == '/' ? strdup(file + length + 1)
                                                                    : NULL;
}

/* Which Dockerfile: --file is a path as one types it, or one in the folder. The exit status. */
static int choose_dockerfile(struct build_run *run, const char *folder, char **out) {
    const char *given = arguments_string(run->arguments, "file");
    cleanup_buffer struct buffer inside = {0};
    struct stat status;
    if (!given)
        return (*out = strdup("Dockerfile")) ? 0 : build_complain("out of memory");
    if (given[0] != '/') {
        buffer_printf(&inside, "%s/%s", folder, given);
        if (inside.failed)
            return build_complain("out of memory");
        if (stat(inside.bytes, &status) == 0 && (*out = path_below(folder, inside.bytes)))
            return 0;
    }
    if (stat(given, &status) != 0)
        return build_complain("--file %s: there is no such file, here or in %s", given, folder);
    *out = path_below(folder, given);
    return *out
               ? 0
               : build_complain("--file %s lies outside of the context %s, and whoever builds sees "
                                "the context alone",
                                given, folder);
}

/* ---- its files alone ---- */

static bool add_path(void *list, const char *path) {
    return json_array_append_new(list, json_string(path)) == 0;
}

int build_context_print_files(struct build_run *run, const char *folder) {
    cleanup_free char *dockerfile = NULL;
    cleanup_buffer struct buffer text = {0};
    struct error error = {0};
    int status = choose_dockerfile(run, folder, &dockerfile);
    if (status)
        return status;
    struct context *context = context_open(
        &(struct context_settings){.folder = folder, .dockerfile = dockerfile}, &error);
    cleanup_json json_t *list = json_array();
    bool ok = context && list && context_list(context, add_path, list, &error);
    context_close(context);
    if (!ok)
        return build_complain("%s", error.kind ? error.text : "out of memory");
    if (!bounded_json_dump(list, JSON_COMPACT, &text))
        return build_complain("out of memory");
    printf("%s\n", text.bytes);
    return 0;
}

/* ---- all of it ---- */

int build_context_open(struct build_run *run, const char *folder, bool needs_dockerfile,
                       bool reads_gcloudignore, struct build_context **out) {
    struct error error = {0};
    struct build_context *context = *out = calloc(1, sizeof *context);
    if (!context)
        return build_complain("out of memory");
    int status = needs_dockerfile ? choose_dockerfile(run, folder, &context->dockerfile) : 0;
    if (status)
        return status;
    const struct context_settings settings = {
        .folder = folder,
        .dockerfile = context->dockerfile,
        .reads_gcloudignore = reads_gcloudignore,
        .keeps_symlinks = arguments_flag(run->arguments, "keep-symlinks"),
    };
    context->context = context_open(&settings, &error);
    if (!context->context || !context_measure(context->context, &context->sum, &error))
        return build_complain("%s", error.text);
    int64_t most = arguments_number(run->arguments, "max-context", 0);
    if (most && context->sum.bytes > (uint64_t)most)
        return build_complain("the context has %llu bytes, more than --max-context allows: leave "
                              "files out with .dockerignore",
                              (unsigned long long)context->sum.bytes);
    return 0;
}

void build_context_close(struct build_context *context) {
    if (!context)
        return;
    context_close(context->context);
    free(context->dockerfile);
    free(context);
}

json_t *build_context_json(const struct build_context *context, const char *object,
                           const char *state) {
    char digest[DIGEST_STRING_SIZE];
    digest_format(&context->sum.digest, digest);
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s}", "event", "context", "digest", digest,
                     "object", object, "files", (json_int_t)context->sum.files, "bytes",
                     (json_int_t)context->sum.bytes, "state", state);
}

void build_context_show(const struct build_run *run, const struct build_context *context,
                        const char *object, const char *state) {
    build_show_event(run, build_context_json(context, object, state));
}
