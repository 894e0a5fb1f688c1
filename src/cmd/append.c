/* tarn append: a new image from a base and folders, without a container engine and without disk. */
#include "copy/append.h"
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "cmd/commands.h"
#include "cmd/image_command.h"
#include "cmd/image_report.h"
#include "cmd/order_command.h"

enum { INTERRUPTED = 130 };

/* 9999-12-31T23:59:59Z, the last time that RFC 3339 can tell. */
#define LAST_SECOND 253402300799

/* What the arguments say. */
struct appending {
    const struct arguments *arguments;
    struct copy_reference from, to;
    bool is_scratch;
    struct append_image image;
    struct copy_names folders, paths, removals, env, labels;
    struct layer_content *layers; /* owned; borrow the names above */

    struct image_command command;
    struct image_report report;
};

/* Set by Ctrl-C, and by a copy of the base whose part fails. */
static atomic_bool stop;
static atomic_bool interrupted;

static void end(int signal_number) {
    (void)signal_number;
    if (atomic_exchange(&interrupted, true))
        _exit(INTERRUPTED); /* asked twice: at once */
    atomic_store(&stop, true);
}

/* ---- usage: the exit status 0, 1 or 2 ---- */

static int fail_memory(const struct arguments *arguments) {
    const struct error error = {.kind = ERROR_MEMORY, .text = "out of memory"};
    return image_command_fail(arguments, NULL, &error);
}

/* Adds a path in the image, as people write it, to the list. */
static int add_path(const struct appending *appending, const char *option, struct text text,
                    struct copy_names *paths) {
    cleanup_buffer struct buffer path = {0};
    struct error error = {0};
    if (!text_is_utf8(text))
        return command_refuse(appending->arguments->command,
                              "--%s: the path \"%.*s\" is not UTF-8, and the image's history could "
                              "not tell it",
                              option, TEXT_PRINT(text));
    if (!pack_path(text, &path, &error))
        return command_refuse(appending->arguments->command, "--%s: %s", option, error.text);
    return copy_names_add(paths, (struct text){path.bytes, path.length})
               ? 0
               : fail_memory(appending->arguments);
}

/* DIR or DIR:/path. */
static int add_folder(struct appending *appending, const char *value) {
    const char *colon = strstr(value, ":/");
    const struct text folder = {value, colon ? (size_t)(colon - value) : strlen(value)};
    if (!colon && strchr(value, ':'))
        return command_refuse(appending->arguments->command,
                              "--add: \"%s\" has no path behind its ':' that begins with '/'; "
                              "write DIR:/path",
                              value);
    if (folder.length == 0)
        return command_refuse(appending->arguments->command, "--add: \"%s\" names no folder",
                              value);
    if (!copy_names_add(&appending->folders, folder))
        return fail_memory(appending->arguments);
    return add_path(appending, "add", text_of(colon ? colon + 1 : "/"), &appending->paths);
}

static int add_removal(struct appending *appending, const char *value) {
    const int status = add_path(appending, "remove", text_of(value), &appending->removals);
    const struct copy_names *removals = &appending->removals;
    if (!status && !removals->at[removals->count - 1][0])
        return command_refuse(appending->arguments->command,
                              "--remove: \"%s\" is the whole image; name a path in it", value);
    return status;
}

static int read_layers(struct appending *appending) {
    const struct arguments *arguments = appending->arguments;
    size_t at = 0;
    int status = 0;
    for (const char *value; !status && (value = arguments_next(arguments, "add", &at));)
        status = add_folder(appending, value);
    at = 0;
    for (const char *value; !status && (value = arguments_next(arguments, "remove", &at));)
        status = add_removal(appending, value);
    if (status)
        return status;
    const size_t folders = appending->folders.count;
    appending->layers = calloc(folders + 1, sizeof *appending->layers);
    if (!appending->layers)
        return fail_memory(arguments);
    for (size_t i = 0; i < folders; i++)
        appending->layers[i] = (struct layer_content){.folder = appending->folders.at[i],
                                                      .inside = appending->paths.at[i]};
    if (appending->removals.count)
        appending->layers[folders] =
            (struct layer_content){.removals = (const char *const *)appending->removals.at,
                                   .removal_count = appending->removals.count};
    appending->image.layers = appending->layers;
    appending->image.layer_count = folders + (appending->removals.count > 0);
    return 0;
}

/* The values of --env and --label: KEY=VALUE. */
static int read_pairs(const struct arguments *arguments, const char *option,
                      struct copy_names *out) {
    size_t at = 0;
    for (const char *value; (value = arguments_next(arguments, option, &at));) {
        if (!append_is_pair(value))
            return command_refuse(arguments->command, "--%s: \"%s\" is not KEY=VALUE", option,
                                  value);
        if (!copy_names_add(out, text_of(value)))
            return fail_memory(arguments);
    }
    return 0;
}

static int check_words(const struct arguments *arguments, const char *option) {
    const char *value = arguments_string(arguments, option);
    if (!value)
        return 0;
    cleanup_json json_t *words = append_words(value);
    if (words)
        return 0;
    return command_refuse(arguments->command,
                          "--%s: \"%s\" begins as a JSON array, but is none of strings; write for "
                          "example [\"python\", \"-m\", \"app\"]",
                          option, value);
}

/* The config is JSON. */
static int check_texts(const struct arguments *arguments) {
    static const char *const names[] = {"env", "label", "entrypoint", "cmd", "user", "workdir"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t at = 0;
        for (const char *value; (value = arguments_next(arguments, names[i], &at));)
            if (!text_is_utf8(text_of(value)))
                return command_refuse(arguments->command, "--%s: \"%s\" is not UTF-8", names[i],
                                      value);
    }
    return 0;
}

static int read_changes(struct appending *appending) {
    const struct arguments *arguments = appending->arguments;
    int status = check_texts(arguments);
    status = status ? status : read_pairs(arguments, "env", &appending->env);
    status = status ? status : read_pairs(arguments, "label", &appending->labels);
    status = status ? status : check_words(arguments, "entrypoint");
    status = status ? status : check_words(arguments, "cmd");
    appending->image.changes = (struct append_changes){
        .env = (const char *const *)appending->env.at,
        .env_count = appending->env.count,
        .labels = (const char *const *)appending->labels.at,
        .label_count = appending->labels.count,
        .entrypoint = arguments_string(arguments, "entrypoint"),
        .cmd = arguments_string(arguments, "cmd"),
        .user = arguments_string(arguments, "user"),
        .workdir = arguments_string(arguments, "workdir"),
    };
    return status;
}

static bool read_seconds(const char *text, int64_t *seconds) {
    uint64_t number;
    if (text_to_u64(text_of(text), &number) && number <= LAST_SECOND) {
        *seconds = (int64_t)number;
        return true;
    }
    return clock_parse_rfc3339(text, seconds) && *seconds >= 0 && *seconds <= LAST_SECOND;
}

static int read_time(struct appending *appending) {
    const struct arguments *arguments = appending->arguments;
    const char *created = arguments_string(arguments, "created");
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    struct pack_settings *pack = &appending->image.pack;
    pack->preserve = arguments_flag(arguments, "preserve");
    if (created)
        return read_seconds(created, &pack->time)
                   ? 0
                   : command_refuse(arguments->command,
                                    "--created: \"%s\" is no time from 1970 on; write for example "
                                    "2026-05-01T12:00:00Z, or seconds since 1970",
                                    created);
    if (!epoch || !*epoch)
        return 0;
    uint64_t seconds;
    if (!text_to_u64(text_of(epoch), &seconds) || seconds > LAST_SECOND)
        return command_refuse(arguments->command,
                              "SOURCE_DATE_EPOCH: \"%s\" is no number of seconds since 1970",
                              epoch);
    pack->time = (int64_t)seconds;
    return 0;
}

static int read_compression(struct appending *appending) {
    const char *name = arguments_string(appending->arguments, "compression");
    appending->image.compression = COMPRESS_GZIP;
    if (!name || compress_parse(name, &appending->image.compression))
        return 0;
    return command_refuse(appending->arguments->command,
                          "--compression: \"%s\" is none of gzip, zstd and none", name);
}

static bool changes_anything(const struct append_image *image) {
    const struct append_changes *changes = &image->changes;
    return image->layer_count || changes->env_count || changes->label_count ||
           changes->entrypoint || changes->cmd || changes->user || changes->workdir;
}

static int read_names(struct appending *appending) {
    const struct arguments *arguments = appending->arguments;
    const char *to = arguments_string(arguments, "to"), *base = arguments->operands[0];
    int status = 0;
    appending->is_scratch = strcmp(base, "scratch") == 0;
    if (!appending->is_scratch)
        status = image_command_read(arguments, base, COPY_FORM_IMAGE, &appending->from);
    if (!status)
        status = image_command_read(arguments, to, COPY_FORM_TARGET, &appending->to);
    if (!status && appending->to.digest.algorithm) {
        const struct error error = {.kind = ERROR_INVALID,
                                    .text = "a new image has a digest of its own: name a tag"};
        status = image_command_fail(arguments, to, &error);
    }
    if (appending->to.kind == COPY_REGISTRY && !appending->to.tag[0])
        strcpy(appending->to.tag, "latest");
    return status;
}

static int read_usage(struct appending *appending) {
    const struct arguments *arguments = appending->arguments;
    struct append_image *image = &appending->image;
    if (!arguments_string(arguments, "to"))
        return command_refuse(arguments->command, "--to DESTINATION is missing");
    int status = read_layers(appending);
    status = status ? status : read_changes(appending);
    status = status ? status : read_time(appending);
    status = status ? status : read_compression(appending);
    status = status ? status : image_command_platform(arguments, &image->platform);
    if (!status && !changes_anything(image))
        status = command_refuse(arguments->command, "nothing is added: give --add, --remove, or a "
                                                    "change of the config such as --env");
    image->is_platform_wanted = arguments_string(arguments, "platform") != NULL;
    return status ? status : read_names(appending);
}

/* ---- the work ---- */

static void on_event(void *context, const struct copy_event *event) {
    struct appending *appending = context;
    image_report_event(&appending->report, event);
}

static void on_layer(void *context, const struct layer_content *content,
                     const struct compress_result *result) {
    struct appending *appending = context;
    char digest[DIGEST_STRING_SIZE], diff_id[DIGEST_STRING_SIZE];
    cleanup_buffer struct buffer path = {0};
    buffer_append_string(&path, "/");
    if (content->folder)
        buffer_append_string(&path, content->inside);
    image_report_line(&appending->report,
                      json_pack("{s:s, s:s%, s:s, s:s, s:I}", "event", "layer", "path",
                                path.bytes ? path.bytes : "", path.length, "digest",
                                digest_format(&result->digest, digest), "diff_id",
                                digest_format(&result->diff_id, diff_id), "size",
                                (json_int_t)result->size));
}

static void append_and_report(struct appending *appending, bool *failed) {
    struct append_image *image = &appending->image;
    struct copy_image_result result = {0};
    struct error error = {0};
    char reference[DIGEST_STRING_SIZE];
    if (!appending->is_scratch)
        image->reference = copy_reference_manifest(&appending->from, reference);
    image->tag = appending->to.tag;
    image->stop = &stop;
    image->on_event = on_event;
    image->on_layer = on_layer;
    image->context = appending;
    *failed = !append_image(image, &result, &error);
    image_report_end(&appending->report, &result, *failed ? &error : NULL);
}

static bool begin_report(struct appending *appending) {
    const struct copy_reference *to = &appending->to;
    if (!image_report_open(&appending->report, appending->arguments, false))
        return false;
    image_report_begin(&appending->report, appending->is_scratch ? to : &appending->from, to,
                       to->tag);
    if (appending->is_scratch)
        strcpy(appending->report.source, "scratch");
    return true;
}

/* Opens the base and the destination, and finds out whether it may be written. */
static int open_both(struct appending *appending) {
    const struct arguments *arguments = appending->arguments;
    struct append_image *image = &appending->image;
    struct image_report *report = &appending->report;
    struct error error = {0};
    int status = image_command_open(&appending->command, arguments, &interrupted);
    if (status)
        return status;
    if (!begin_report(appending))
        return fail_memory(arguments);
    if (!appending->is_scratch) {
        image->base = copy_source_open(appending->command.hosts, &appending->from, &error);
        if (!image->base)
            return image_report_fail(report, arguments->operands[0], &error);
    }
    for (size_t i = 0; i < appending->folders.count; i++)
        if (!pack_find(appending->folders.at[i], &error))
            return image_report_fail(report, NULL, &error);
    image->destination = copy_destination_open(appending->command.hosts, &appending->to, &error);
    if (!image->destination || !copy_destination_check_rights(image->destination, &error))
        return image_report_fail(report, arguments_string(arguments, "to"), &error);
    return 0;
}

static int run_all(struct appending *appending) {
    bool failed = false;
    int status = open_both(appending);
    if (!status) {
        append_and_report(appending, &failed);
        if (appending->report.failed)
            status = fail_memory(appending->arguments);
    }
    image_report_close(&appending->report);
    copy_destination_free(appending->image.destination);
    copy_source_free(appending->image.base);
    image_command_close(&appending->command);
    return status ? status : order_command_end(appending->arguments, failed ? 1 : 0);
}

static void finish(struct appending *appending) {
    copy_names_finish(&appending->folders);
    copy_names_finish(&appending->paths);
    copy_names_finish(&appending->removals);
    copy_names_finish(&appending->env);
    copy_names_finish(&appending->labels);
    free(appending->layers);
    free(appending);
}

static int run(const struct arguments *arguments) {
    const struct sigaction action = {.sa_handler = end};
    struct appending *appending = calloc(1, sizeof *appending); /* large for a stack */
    if (!appending)
        return fail_memory(arguments);
    appending->arguments = arguments;
    int status = read_usage(appending);
    if (!status) {
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        mallopt(M_ARENA_MAX, 2); /* the C library would make a heap for each thread */
        status = run_all(appending);
    }
    finish(appending);
    return atomic_load(&interrupted) ? INTERRUPTED : status;
}

static const char *const compressions[] = {"gzip", "zstd", "none", NULL};

static const struct command_option options[] = {
    {"to", OPTION_STRING, "DESTINATION", "write the new image here; must be given"},
    {"add", OPTION_LIST, "DIR[:/path]",
     "add what is in a folder as a layer, under /path in the image; / by default"},
    {"remove", OPTION_LIST, "PATH", "remove a file or folder of the image, after all --add"},
    {"env", OPTION_LIST, "KEY=VALUE", "set a variable of the environment"},
    {"entrypoint", OPTION_STRING, "WORDS",
     "set the entrypoint: a JSON array, or one word; the base's cmd goes"},
    {"cmd", OPTION_STRING, "WORDS", "set the cmd: a JSON array, or one word"},
    {"label", OPTION_LIST, "KEY=VALUE", "set a label"},
    {"user", OPTION_STRING, "USER", "set the user"},
    {"workdir", OPTION_STRING, "FOLDER", "set the working directory"},
    {"platform", OPTION_STRING, "PLATFORM",
     "take this platform of the base (linux/arm64); default: this machine's"},
    {"compression", OPTION_STRING, "KIND",
     "compress the layers by gzip (the default), zstd or none", compressions},
    {"created", OPTION_STRING, "TIME",
     "give all files and the image this time: RFC 3339, or seconds since 1970; default: "
     "SOURCE_DATE_EPOCH, else 1970"},
    {"preserve", OPTION_FLAG, NULL, "keep the owners and times of files"},
    {"json", OPTION_FLAG, NULL, "print one JSON object a line, also on a terminal"},
    IMAGE_COMMAND_OPTIONS,
};

const struct command append_command = {
    .name = "append",
    .arguments = "BASE",
    .least = 1,
    .most = 1,
    .summary = "make a new image from a base and folders",
    .text =
        "BASE is HOST/NAME[:TAG][@DIGEST], oci:DIR[:TAG] or docker-archive:FILE[:NAME:TAG], or "
        "the\n"
        "word scratch. Each --add becomes one layer, in their order; all --remove together become\n"
        "the last one. A layer is packed, compressed on all processors and sent while the folder\n"
        "is read: it needs no container engine, no root and no disk. The layers of BASE are\n"
        "mounted, or copied as they are. The same folders give the same digest on any machine:\n"
        "names are sorted, owners are 0:0, and all times are that of --created. A file that\n"
        "changes while it is read is an error. The tag is written last, so that it never names\n"
        "half an image.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
