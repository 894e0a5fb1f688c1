/* tarn images: lists what repositories hold, with the credentials of the upstreams. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/jobs.h"
#include "base/secret.h"
#include "base/units.h"
#include "catalog/catalog.h"
#include "catalog/select.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/order_command.h"
#include "cmd/table.h"
#include "config/config.h"
#include "upstream/current.h"

enum { DIGEST_SHOWN = 12, TAGS_COLUMN = 1, COLUMNS = 6 };

/* One operand: HOST/NAME, perhaps with a tag or a digest. */
struct wanted {
    const char *operand;
    struct text name; /* without tag and digest */
    char tag[TAG_LIMIT + 1];
    struct digest digest;
    struct catalog_question question;
    struct error failure; /* it cannot be asked for */
};

/* The command as it runs. */
struct images {
    const struct arguments *arguments;
    bool json, quiet, shows_names;
    const char **globs; /* owned; NULL: none */
    struct catalog_selection selection;
    enum catalog_source source;

    struct config *config;
    struct client *client;
    struct current_upstreams *current;
    const struct upstreams *upstreams;
    struct catalog *catalog;

    struct wanted *wanted; /* one for each operand; owned */
    struct table table;
    bool failed; /* a repository */
};

/* ---- options ---- */

static bool read_order(const char *text, enum catalog_order *order) {
    static const char *const names[] = {
        [CATALOG_BY_UPLOAD] = "uploaded", [CATALOG_BY_TAG] = "tag", [CATALOG_BY_SIZE] = "size"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(text, names[i]) == 0) {
            *order = (enum catalog_order)i;
            return true;
        }
    }
    return false;
}

/* The values of --tags, split at commas, in one piece of memory. False: out of memory. */
static bool read_globs(struct images *images) {
    size_t count = 0, bytes = 0, at = 0;
    for (const char *value; (value = arguments_next(images->arguments, "tags", &at)); count++) {
        bytes += strlen(value) + 1;
        for (const char *c = value; *c; c++)
            count += *c == ',';
    }
    if (!count)
        return true;
    images->globs = calloc(1, (count + 1) * sizeof *images->globs + bytes);
    if (!images->globs)
        return false;
    char *out = (char *)(images->globs + count + 1);
    count = at = 0;
    for (const char *value; (value = arguments_next(images->arguments, "tags", &at));) {
        struct text rest = text_of(value);
        while (rest.at) {
            struct text glob = text_cut(rest, ',', &rest);
            memcpy(out, glob.at, glob.length);
            images->globs[count++] = out;
            out += glob.length + 1;
        }
    }
    images->selection.tags = images->globs;
    return true;
}

/* The exit status: 0, or 2 for options that make no sense. */
static int read_options(struct images *images) {
    const struct arguments *arguments = images->arguments;
    const char *order = arguments_string(arguments, "sort");
    const char *source = arguments_string(arguments, "source");
    int64_t age_ms = arguments_number(arguments, "newer-than", -1);
    images->json = arguments_flag(arguments, "json");
    images->quiet = arguments_flag(arguments, "quiet");
    images->selection.all = arguments_flag(arguments, "all");
    images->selection.limit = (size_t)arguments_number(arguments, "limit", 0);
    images->selection.has_since = age_ms >= 0;
    images->selection.since_us = clock_wall_s() * 1000000 - age_ms * 1000;
    if (order && !read_order(order, &images->selection.order))
        return command_refuse(arguments->command,
                              "--sort: \"%s\" is neither uploaded nor tag nor size", order);
    if (source && !catalog_source_parse(text_of(source), &images->source))
        return command_refuse(arguments->command,
                              "--source: \"%s\" is neither auto nor artifact-registry nor docker",
                              source);
    if (images->json && images->quiet)
        return command_refuse(arguments->command, "--json and --quiet exclude each other");
    if (images->quiet && arguments_flag(arguments, "no-digests"))
        return command_refuse(arguments->command,
                              "--quiet prints digests, which --no-digests does not ask for");
    if (arguments_flag(arguments, "sizes") && arguments_flag(arguments, "no-digests"))
        return command_refuse(arguments->command, "--sizes and --no-digests exclude each other");
    if (arguments_number(arguments, "jobs", 1) > JOBS_LIMIT)
        return command_refuse(arguments->command, "--jobs: at most %d", JOBS_LIMIT);
    return 0;
}

/* ---- operands ---- */

/* Splits HOST/NAME[:TAG][@DIGEST]. */
static bool split_operand(struct wanted *wanted, struct error *error) {
    struct text digest, text = text_cut(text_of(wanted->operand), '@', &digest);
    if (digest.at && !digest_parse(digest, &wanted->digest))
        return error_set(error, ERROR_INVALID, "%s: what follows the @ is no digest",
                         wanted->operand);
    const char *slash = memrchr(text.at, '/', text.length);
    const char *begin = slash ? slash : text.at;
    const char *colon = memchr(begin, ':', text.length - (size_t)(begin - text.at));
    wanted->name = text;
    if (!colon)
        return true;
    struct text tag = text_from(text, (size_t)(colon + 1 - text.at));
    wanted->name.length = (size_t)(colon - text.at);
    return (reference_is_tag(tag) && text_copy(tag, wanted->tag, sizeof wanted->tag)) ||
           error_set(error, ERROR_INVALID, "%s: what follows the : is no tag", wanted->operand);
}

static void fill_question(const struct images *images, struct catalog_question *question) {
    const struct arguments *arguments = images->arguments;
    question->source = images->source;
    question->no_digests = arguments_flag(arguments, "no-digests");
    question->sizes = arguments_flag(arguments, "sizes");
    question->jobs = (unsigned)arguments_number(arguments, "jobs", CATALOG_JOBS);
    question->digest_of = docker_digest_by_head;
}

/* The exit status: 0, or 2 for an operand that can be no repository. */
static int read_operands(struct images *images) {
    const struct arguments *arguments = images->arguments;
    images->shows_names = arguments->operand_count > 1;
    for (size_t i = 0; i < arguments->operand_count; i++) {
        struct wanted *wanted = &images->wanted[i];
        struct error *error = &wanted->failure;
        wanted->operand = arguments->operands[i];
        fill_question(images, &wanted->question);
        if (split_operand(wanted, error))
            catalog_resolve(images->upstreams, wanted->name, &wanted->question, error);
        if (error->kind == ERROR_INVALID)
            return command_refuse(arguments->command, "%s", error->text);
        if (wanted->digest.algorithm && wanted->question.no_digests)
            return command_refuse(arguments->command,
                                  "%s: a digest cannot be found with --no-digests",
                                  wanted->operand);
        if (wanted->question.whole && (wanted->tag[0] || wanted->digest.algorithm))
            return command_refuse(arguments->command,
                                  "%s: a tag or digest needs the name of an image, and this is the "
                                  "name of a repository of images",
                                  wanted->operand);
        images->shows_names = images->shows_names || wanted->question.whole;
    }
    return 0;
}

/* ---- output ---- */

static void join(const char *const *strings, size_t count, struct buffer *out) {
    buffer_clear(out);
    for (size_t i = 0; i < count; i++)
        buffer_printf(out, "%s%s", i ? "," : "", strings[i]);
    if (!count)
        buffer_append_string(out, "-");
}

/* Whether the table has its head: an empty repository prints nothing. */
static void add_head(struct images *images) {
    static const char *const head[COLUMNS] = {"REPOSITORY", "TAGS",     "DIGEST",
                                              "SIZE",       "UPLOADED", "PLATFORMS"};
    const size_t first = images->shows_names ? 0 : 1;
    images->table.columns = COLUMNS - first;
    table_add(&images->table, head + first);
}

static void add_row(struct images *images, const struct catalog_image *image) {
    cleanup_buffer struct buffer tags = {0}, platforms = {0};
    char digest[DIGEST_STRING_SIZE], size[24] = "-", time[CATALOG_TIME_SIZE] = "-";
    const char *colon = strchr(digest_format(&image->digest, digest), ':');
    char shown[DIGEST_SHOWN + 1];
    snprintf(shown, sizeof shown, "%.*s", DIGEST_SHOWN, colon ? colon + 1 : "-");
    if (image->size != CATALOG_UNTOLD)
        units_format_size((uint64_t)image->size, size, sizeof size);
    if (image->uploaded_us != CATALOG_UNTOLD)
        catalog_time_format(image->uploaded_us / 1000000 * 1000000, time);
    join(image->tags, image->tag_count, &tags);
    join(image->platforms, image->platform_count, &platforms);
    if (tags.failed || platforms.failed) {
        images->table.failed = true;
        return;
    }
    if (images->table.count == 0)
        add_head(images);
    const char *const cells[COLUMNS] = {image->repository, tags.bytes, shown, size, time,
                                        platforms.bytes};
    table_add(&images->table, cells + (images->shows_names ? 0 : 1));
}

static void print_line(struct images *images, struct buffer *line) {
    buffer_append_string(line, "\n");
    if (line->failed)
        images->table.failed = true;
    else
        fwrite(line->bytes, 1, line->length, stdout);
    buffer_clear(line);
}

static void show_images(struct images *images, const struct catalog_list *list) {
    cleanup_buffer struct buffer line = {0};
    char digest[DIGEST_STRING_SIZE];
    for (size_t i = 0; i < list->count; i++) {
        const struct catalog_image *image = &list->images[i];
        if (images->json) {
            catalog_image_append_json(image, &line);
            print_line(images, &line);
        } else if (!images->quiet) {
            add_row(images, image);
        } else if (image->digest.algorithm) {
            printf("%s@%s\n", image->repository, digest_format(&image->digest, digest));
        }
    }
}

/* "HOST/NAME", or what was typed when it is not known what that means. */
static void write_name(const struct wanted *wanted, struct buffer *out) {
    const struct repository_name *name = &wanted->question.repository.name;
    if (name->path[0])
        buffer_printf(out, "%s/%s", name->host, name->path);
    else
        buffer_append(out, wanted->name.at, wanted->name.length);
}

/* The line of JSON that ends each repository. `failure` NULL: all of it was listed. */
static void print_end(struct images *images, const struct wanted *wanted,
                      const struct error *failure) {
    cleanup_buffer struct buffer line = {0}, name = {0};
    write_name(wanted, &name);
    buffer_append_string(&line, "{\"repository\":\"");
    buffer_append_json(&line, (struct text){name.bytes, name.length});
    buffer_printf(&line, "\",\"listed\":%s,\"error\":", failure ? "false" : "true");
    if (failure) {
        buffer_append_string(&line, "\"");
        buffer_append_json(&line, text_of(failure->text));
        buffer_append_string(&line, "\"}");
    } else {
        buffer_append_string(&line, "null}");
    }
    images->table.failed = images->table.failed || name.failed;
    print_line(images, &line);
}

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A sentence on standard error, behind what was printed before it. */
static void complain(const char *format, ...) {
    va_list arguments;
    fflush(stdout);
    fputs("tarn images: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

/* ---- one repository ---- */

static bool has_image(const struct catalog_list *list, const struct catalog_selection *selection) {
    for (size_t i = 0; i < list->count; i++) {
        if (catalog_selects(selection, &list->images[i]))
            return true;
    }
    return false;
}

/* False: the one image that was asked for is not in the list. */
static bool find_wanted(const struct wanted *wanted, const struct catalog_list *list,
                        struct error *error) {
    const struct repository_name *name = &wanted->question.repository.name;
    const struct catalog_selection only = {
        .tag = wanted->tag[0] ? wanted->tag : NULL,
        .digest = wanted->digest.algorithm ? &wanted->digest : NULL,
    };
    return (!only.tag && !only.digest) || has_image(list, &only) ||
           error_set(error, ERROR_NOT_FOUND, "upstream %s: %s has no image %s%s", name->host,
                     name->path, only.digest ? "of that digest" : "with the tag ",
                     only.digest ? "" : only.tag);
}

static void show_list(struct images *images, const struct wanted *wanted,
                      struct catalog_list *list) {
    struct catalog_selection selection = images->selection;
    selection.tag = wanted->tag[0] ? wanted->tag : NULL;
    selection.digest = wanted->digest.algorithm ? &wanted->digest : NULL;
    size_t undated = catalog_list_select(list, &selection);
    if (undated)
        complain("%s: %zu image%s left out by --newer-than, because it is not told when they were "
                 "uploaded",
                 wanted->operand, undated, undated > 1 ? "s are" : " is");
    show_images(images, list);
}

/* Lists one repository. False: it failed, and the error says why. */
static bool list_one(struct images *images, struct wanted *wanted, struct error *error) {
    cleanup_catalog_list struct catalog_list list = {0};
    struct catalog_answer answer = {0};
    *error = wanted->failure;
    if (error->kind != ERROR_NONE)
        return false;
    enum catalog_outcome outcome =
        catalog_list_images(images->catalog, &wanted->question, &list, &answer, error);
    if (answer.fallback.kind != ERROR_NONE)
        complain("%s: the Docker API is asked instead, because: %s", wanted->operand,
                 answer.fallback.text);
    if (outcome == CATALOG_FAILED)
        return false;
    bool ok = outcome == CATALOG_COMPLETE && find_wanted(wanted, &list, error);
    show_list(images, wanted, &list);
    return ok;
}

static void list_all(struct images *images) {
    for (size_t i = 0; i < images->arguments->operand_count; i++) {
        struct wanted *wanted = &images->wanted[i];
        struct error error = {0};
        bool ok = list_one(images, wanted, &error);
        if (images->json)
            print_end(images, wanted, ok ? NULL : &error);
        if (!ok)
            complain("%s: %s", wanted->operand, error.text);
        images->failed = images->failed || !ok;
    }
}

/* ---- all of it ---- */

static bool open_upstreams(struct images *images, struct error *error) {
    images->client = client_new();
    images->current = current_upstreams_new(images->client, images->config->upstreams,
                                            images->config->upstream_count, error);
    if (!images->current)
        return false;
    images->upstreams = current_upstreams_hold(images->current);
    images->catalog = catalog_new(images->client, catalog_endpoint());
    images->wanted = calloc(images->arguments->operand_count, sizeof *images->wanted);
    return (images->catalog && images->wanted && read_globs(images)) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

static void close_all(struct images *images) {
    catalog_free(images->catalog);
    upstreams_release(images->upstreams);
    if (images->current)
        current_upstreams_free(images->current);
    config_free(images->config);
    client_free(images->client);
    table_finish(&images->table);
    free(images->globs);
    free(images->wanted);
}

static struct config *load(const struct arguments *arguments) {
    const struct config_flags flags = {.file = arguments_string(arguments, "config")};
    cleanup_buffer struct buffer problems = {0};
    struct config *config = config_load(&flags, environ, &problems);
    if (!config)
        fputs(problems.bytes ? problems.bytes : "tarn images: out of memory\n", stderr);
    return config;
}

static int list_repositories(struct images *images) {
    struct error error = {0};
    if (!open_upstreams(images, &error)) {
        complain("%s", error.text);
        return 1;
    }
    int status = read_operands(images);
    if (status)
        return status;
    list_all(images);
    if (images->table.failed)
        complain("out of memory");
    else
        table_print(&images->table, table_terminal_width(), TAGS_COLUMN - !images->shows_names);
    return images->failed || images->table.failed ? 1 : 0;
}

static int run(const struct arguments *arguments) {
    struct images images = {.arguments = arguments, .table.columns = COLUMNS};
    secret_forbid_core_dumps();
    int status = read_options(&images);
    if (status)
        return status;
    images.config = load(arguments);
    if (!images.config)
        return 1;
    status = list_repositories(&images);
    close_all(&images);
    return status == 2 ? 2 : order_command_end(arguments, status);
}

static const char *const orders[] = {"uploaded", "tag", "size", NULL};
static const char *const sources[] = {"auto", "artifact-registry", "docker", NULL};

static const struct command_option options[] = {
    {"config", OPTION_STRING, "FILE", "ask the upstreams of this configuration file"},
    {"all", OPTION_FLAG, NULL,
     "also list untagged images, such as the images that an index consists of"},
    {"tags", OPTION_LIST, "GLOB", "only images of which a tag matches, with all their tags"},
    {"newer-than", OPTION_DURATION, "DURATION", "only images that were uploaded so recently"},
    {"sort", OPTION_STRING, "ORDER",
     "order by uploaded (newest first, the default), tag (descending) or size (largest first)",
     orders},
    {"limit", OPTION_COUNT, "NUMBER", "the first so many images of each REPOSITORY"},
    {"source", OPTION_STRING, "SOURCE",
     "who is asked: artifact-registry, docker, or auto (the default), which asks Artifact Registry "
     "where it can",
     sources},
    {"no-digests", OPTION_FLAG, NULL,
     "Docker API: list the tags alone, without a request for the digest of each"},
    {"sizes", OPTION_FLAG, NULL, "Docker API: one more request for each image, for its size"},
    {"jobs", OPTION_COUNT, "NUMBER", "Docker API: so many requests at once; 8 by default"},
    {"json", OPTION_FLAG, NULL, "print one JSON object a line"},
    {"quiet", OPTION_FLAG, NULL, "print references HOST/NAME@DIGEST alone", .letter = 'q'},
};

const struct command images_command = {
    .name = "images",
    .arguments = "REPOSITORY…",
    .least = 1,
    .most = COMMAND_ANY_NUMBER,
    .summary = "list what a repository holds: every image with all its tags",
    .text =
        "REPOSITORY is HOST/NAME as one pulls it, without a tag; without HOST it is one of the\n"
        "default upstream. HOST/NAME:TAG and HOST/NAME@DIGEST list that one image.\n"
        "HOST/PROJECT/REPO lists all images of a repository of Artifact Registry.\n"
        "An image is a digest with all its tags. Only configured upstreams are asked, with their\n"
        "credentials. No tarn need run, and nothing is cached. Exit 1 when a REPOSITORY failed:\n"
        "the reason is on standard error, and the others are printed.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
