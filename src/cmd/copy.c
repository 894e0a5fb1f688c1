/* tarn copy: copies images between registries, layouts and archives. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "cmd/commands.h"
#include "cmd/image_command.h"
#include "cmd/image_report.h"
#include "cmd/order_command.h"
#include "copy/destination.h"
#include "copy/image.h"

enum { INTERRUPTED = 130, PLATFORMS_LIMIT = 64 };

/* The command as it runs. */
struct copying {
    const struct arguments *arguments;
    struct copy_reference from, to;
    struct copy_platform platforms[PLATFORMS_LIMIT];
    size_t platform_count;
    bool dry_run, sync;

    struct image_command command;
    struct copy_source *source;
    struct copy_destination *destination;
    struct image_report report;
    bool failed; /* an image; the reason is on standard error */
};

/* Set by Ctrl-C, and by a copy whose part fails. */
static atomic_bool stop;
static atomic_bool interrupted;

static void end(int signal_number) {
    (void)signal_number;
    if (atomic_exchange(&interrupted, true))
        _exit(INTERRUPTED); /* asked twice: at once */
    atomic_store(&stop, true);
}

/* ---- usage ---- */

static int read_platforms(struct copying *copying) {
    const struct arguments *arguments = copying->arguments;
    size_t at = 0;
    for (const char *value; (value = arguments_next(arguments, "platform", &at));) {
        struct text rest = text_of(value);
        while (rest.at) {
            struct text one = text_cut(rest, ',', &rest);
            if (copying->platform_count == PLATFORMS_LIMIT ||
                !copy_platform_parse(one, &copying->platforms[copying->platform_count++]))
                return command_refuse(arguments->command,
                                      "--platform: \"%s\" is no platform; write for example "
                                      "linux/arm64",
                                      value);
        }
    }
    if (copying->platform_count && arguments_flag(arguments, "all"))
        return command_refuse(arguments->command, "--all and --platform exclude each other");
    return 0;
}

static int check_pattern(const struct copying *copying) {
    const struct command *command = copying->arguments->command;
    bool is_pattern = copying->from.pattern[0];
    if (copying->sync && !is_pattern)
        return command_refuse(command, "--sync needs a pattern of tags as source: HOST/NAME:**");
    if (copying->sync && copying->to.kind != COPY_REGISTRY)
        return command_refuse(command, "--sync needs a repository of a registry as destination");
    if (is_pattern &&
        (copying->to.tag[0] || copying->to.digest.algorithm || copying->to.kind == COPY_ARCHIVE))
        return command_refuse(command,
                              "a pattern of tags needs a repository as destination, without a tag: "
                              "HOST/NAME");
    if (copying->sync && !copying->dry_run && !arguments_flag(copying->arguments, "yes") &&
        !(isatty(STDIN_FILENO) && isatty(STDERR_FILENO)))
        return command_refuse(command, "--sync deletes tags: without a terminal it needs --yes");
    return 0;
}

/* The exit status: 0, 1 for what is no reference, or 2. */
static int read_usage(struct copying *copying) {
    const struct arguments *arguments = copying->arguments;
    copying->dry_run = arguments_flag(arguments, "dry-run");
    copying->sync = arguments_flag(arguments, "sync");
    int status = read_platforms(copying);
    if (!status && arguments_number(arguments, "jobs", 1) > COPY_JOBS_LIMIT)
        status = command_refuse(arguments->command, "--jobs: at most %d", COPY_JOBS_LIMIT);
    if (!status)
        status = image_command_read(arguments, arguments->operands[0], COPY_FORM_PATTERN,
                                    &copying->from);
    if (!status)
        status =
            image_command_read(arguments, arguments->operands[1], COPY_FORM_TARGET, &copying->to);
    return status ? status : check_pattern(copying);
}

/* ---- one image ---- */

/* The tag under which the image is written: the destination's, else the source's. */
static bool choose_tag(const struct copying *copying, const struct copy_reference *from,
                       char tag[static TAG_LIMIT + 1], struct error *error) {
    cleanup_copy_names struct copy_names names = {0};
    const struct copy_reference *to = &copying->to;
    bool is_open = !to->tag[0] && !to->digest.algorithm;
    snprintf(tag, TAG_LIMIT + 1, "%s", to->tag[0] || !is_open ? to->tag : from->tag);
    if (tag[0] || !is_open || from->kind == COPY_REGISTRY)
        return true;
    if (!copy_source_list_tags(copying->source, &names, error))
        return false;
    if (names.count == 1)
        snprintf(tag, TAG_LIMIT + 1, "%s", names.at[0]);
    return true;
}

static bool copy_one(struct copying *copying, const struct copy_reference *from,
                     struct copy_image_result *result, struct error *error) {
    char reference[DIGEST_STRING_SIZE], tag[TAG_LIMIT + 1] = "";
    bool ok = choose_tag(copying, from, tag, error);
    image_report_begin(&copying->report, from, &copying->to, tag);
    const struct copy_image image = {
        .source = copying->source,
        .destination = copying->destination,
        .reference = copy_reference_manifest(from, reference),
        .tag = tag,
        .digest = copying->to.digest,
        .platforms = copying->platforms,
        .platform_count = copying->platform_count,
        .referrers = arguments_flag(copying->arguments, "referrers"),
        .dry_run = copying->dry_run,
        .jobs = (unsigned)arguments_number(copying->arguments, "jobs", COPY_JOBS),
        .stop = &stop,
        .on_event = image_report_event,
        .context = &copying->report,
    };
    atomic_store(&stop, atomic_load(&interrupted)); /* an earlier image may have set it */
    return ok && copy_image(&image, result, error) &&
           (copying->dry_run || copying->from.pattern[0] ||
            copy_destination_finish(copying->destination, error));
}

static void copy_and_report(struct copying *copying, const struct copy_reference *from) {
    struct copy_image_result result = {0};
    struct error error = {0};
    bool ok = copy_one(copying, from, &result, &error);
    image_report_end(&copying->report, &result, ok ? NULL : &error);
    copying->failed = copying->failed || !ok;
}

/* ---- several images ---- */

static bool keep_matching(const char *pattern, struct copy_names *names) {
    size_t kept = 0;
    for (size_t i = 0; i < names->count; i++) {
        if (text_matches_glob(pattern, text_of(names->at[i])))
            names->at[kept++] = names->at[i];
        else
            free(names->at[i]);
    }
    names->count = kept;
    return kept > 0;
}

static bool has_name(const struct copy_names *names, const char *name) {
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->at[i], name) == 0)
            return true;
    }
    return false;
}

/* Whether the tag is that of a list of referrers (distribution-spec, "Referrers Tag Schema"). The
 * list belongs to an image, which this copy or somebody else has signed, and not to the source. */
static bool is_list(const char *tag) {
    char text[DIGEST_STRING_SIZE];
    struct digest digest;
    char *dash;
    if (!text_copy(text_of(tag), text, sizeof text) || !(dash = strchr(text, '-')))
        return false;
    *dash = ':';
    return digest_parse(text_of(text), &digest);
}

/* The destination's tags that match the pattern and that the source does not have. */
static bool find_surplus(const struct copying *copying, const struct copy_names *there,
                         struct copy_names *surplus, struct error *error) {
    cleanup_copy_names struct copy_names names = {0};
    struct copy_source *destination = copy_source_open(copying->command.hosts, &copying->to, error);
    bool ok = destination && copy_source_list_tags(destination, &names, error);
    copy_source_free(destination);
    if (!ok) /* nothing is there yet */
        return copying->dry_run && error->kind == ERROR_NOT_FOUND;
    keep_matching(copying->from.pattern, &names);
    for (size_t i = 0; i < names.count; i++) {
        if (!has_name(there, names.at[i]) && !is_list(names.at[i]) &&
            !copy_names_add(surplus, text_of(names.at[i])))
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    return true;
}

static bool confirm(const struct copying *copying, const struct copy_names *surplus) {
    char place[COPY_REFERENCE_SIZE], answer[8];
    if (copying->dry_run || arguments_flag(copying->arguments, "yes"))
        return true;
    fflush(stdout);
    fprintf(stderr, "Delete from %s what the source does not have:",
            copy_reference_place(&copying->to, place));
    for (size_t i = 0; i < surplus->count; i++)
        fprintf(stderr, " %s", surplus->at[i]);
    fputs("? [y/N] ", stderr);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static bool delete_one(struct copying *copying, const char *tag, struct error *error) {
    struct copy_reference reference = copying->to;
    char text[COPY_REFERENCE_SIZE];
    snprintf(reference.tag, sizeof reference.tag, "%s", tag);
    copy_reference_format(&reference, text);
    if (!copying->dry_run && !copy_destination_delete(copying->destination, tag, error))
        return false;
    if (copying->report.is_bars)
        printf("%s %s\n", text, copying->dry_run ? "would be deleted" : "deleted");
    image_report_line(&copying->report, json_pack("{s:s, s:s, s:s}", "event", "delete", "reference",
                                                  text, "state", "deleted"));
    return true;
}

static void delete_surplus(struct copying *copying, const struct copy_names *there) {
    cleanup_copy_names struct copy_names surplus = {0};
    struct error error = {0};
    bool ok = find_surplus(copying, there, &surplus, &error);
    bool wanted = ok && surplus.count > 0 && confirm(copying, &surplus);
    for (size_t i = 0; ok && wanted && i < surplus.count; i++)
        ok = delete_one(copying, surplus.at[i], &error);
    if (ok)
        return;
    copying->failed = true;
    image_command_fail(copying->arguments, copying->arguments->operands[1], &error);
}

static int copy_pattern(struct copying *copying) {
    cleanup_copy_names struct copy_names names = {0};
    struct error error = {0};
    const char *operand = copying->arguments->operands[0];
    bool ok = copy_source_list_tags(copying->source, &names, &error);
    if (ok && !keep_matching(copying->from.pattern, &names))
        ok = error_set(&error, ERROR_NOT_FOUND, "%s: no tag matches the pattern", operand);
    if (!ok)
        return image_command_fail(copying->arguments, operand, &error);
    for (size_t i = 0; i < names.count && !atomic_load(&interrupted); i++) {
        struct copy_reference from = copying->from;
        from.pattern[0] = '\0';
        snprintf(from.tag, sizeof from.tag, "%s", names.at[i]);
        copy_and_report(copying, &from);
    }
    if (copying->sync && !copying->failed && !atomic_load(&interrupted))
        delete_surplus(copying, &names);
    return 0;
}

/* ---- all of it ---- */

/* Of a pattern it is not known yet which images there are. */
static int fail_open(struct copying *copying, const char *what, const struct error *error) {
    return copying->from.pattern[0] ? image_command_fail(copying->arguments, what, error)
                                    : image_report_fail(&copying->report, what, error);
}

static int open_both(struct copying *copying) {
    const struct arguments *arguments = copying->arguments;
    struct image_report *report = &copying->report;
    struct error error = {0};
    int status = image_command_open(&copying->command, arguments, &interrupted);
    if (status)
        return status;
    if (!image_report_open(report, arguments, copying->dry_run)) {
        error_set(&error, ERROR_MEMORY, "out of memory");
        return image_command_fail(arguments, NULL, &error);
    }
    image_report_begin(report, &copying->from, &copying->to,
                       copying->to.tag[0] || copying->to.digest.algorithm ? copying->to.tag
                                                                          : copying->from.tag);
    copying->source = copy_source_open(copying->command.hosts, &copying->from, &error);
    if (!copying->source)
        return fail_open(copying, arguments->operands[0], &error);
    copying->destination = copy_destination_open(copying->command.hosts, &copying->to, &error);
    if (!copying->destination ||
        (!copying->dry_run && !copy_destination_check_rights(copying->destination, &error)))
        return fail_open(copying, arguments->operands[1], &error);
    return 0;
}

static int run_all(struct copying *copying) {
    int status = open_both(copying);
    if (!status && copying->from.pattern[0])
        status = copy_pattern(copying);
    else if (!status)
        copy_and_report(copying, &copying->from);
    if (!status && copying->report.failed) {
        const struct error error = {.kind = ERROR_MEMORY, .text = "out of memory"};
        status = image_command_fail(copying->arguments, NULL, &error);
    }
    image_report_close(&copying->report);
    copy_destination_free(copying->destination);
    copy_source_free(copying->source);
    image_command_close(&copying->command);
    return status ? status : order_command_end(copying->arguments, copying->failed ? 1 : 0);
}

static int run(const struct arguments *arguments) {
    cleanup_free struct copying *copying = calloc(1, sizeof *copying); /* large for a stack */
    const struct sigaction action = {.sa_handler = end};
    if (!copying) {
        fputs("tarn copy: out of memory\n", stderr);
        return 1;
    }
    copying->arguments = arguments;
    int status = read_usage(copying);
    if (status)
        return status;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    mallopt(M_ARENA_MAX, 2); /* the C library would make a heap for each thread */
    status = run_all(copying);
    return atomic_load(&interrupted) ? INTERRUPTED : status;
}

static const struct command_option options[] = {
    {"platform", OPTION_LIST, "PLATFORM",
     "copy the image of this platform alone (linux/arm64); of several, an index of them"},
    {"all", OPTION_FLAG, NULL, "copy all platforms, which is the default"},
    {"referrers", OPTION_FLAG, NULL,
     "also copy what refers to the image: signatures, SBOMs, attestations, and theirs"},
    {"jobs", OPTION_COUNT, "NUMBER", "copy so many blobs at once; 8 by default"},
    {"dry-run", OPTION_FLAG, NULL, "write nothing, and tell what would be done"},
    {"sync", OPTION_FLAG, NULL,
     "with a pattern: afterwards delete the destination's tags that match it and that the source "
     "does not have, but no lists of referrers"},
    {"yes", OPTION_FLAG, NULL, "delete without asking"},
    {"json", OPTION_FLAG, NULL, "print one JSON object a line, also on a terminal"},
    IMAGE_COMMAND_OPTIONS,
};

const struct command copy_command = {
    .name = "copy",
    .arguments = "SOURCE DESTINATION",
    .least = 2,
    .most = 2,
    .summary = "copy an image from one registry, layout or archive to another",
    .text =
        "SOURCE and DESTINATION are HOST/NAME[:TAG][@DIGEST], oci:DIR[:TAG] or\n"
        "docker-archive:FILE[:NAME:TAG]. A DESTINATION without a tag gets that of SOURCE. A "
        "pattern\n"
        "in place of the tag of SOURCE (HOST/NAME:v1.*, HOST/NAME:**) copies every tag that "
        "matches\n"
        "to the repository DESTINATION. Blobs and manifests that are there are not sent again, "
        "and\n"
        "blobs of the same registry are mounted. The others are streamed: nothing is kept on "
        "disk.\n"
        "Manifests are copied byte for byte, so that signatures stay valid. The tag is written\n"
        "last, so that it never names half an image. No tarn need run, and nothing is cached.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
