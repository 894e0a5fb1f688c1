/* The list of images of a keep: repositories with a choice of tags, and single images. */
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/units.h"
#include "config/checks.h"
#include "config/keep_section.h"
#include "config/map.h"
#include "config/upstream_list.h"
#include "config/value.h"
#include "config/words.h"
#include "oci/reference.h"

static bool refuse(const char *value, const char *what, char *why, size_t size) {
    char quoted[QUOTE_SIZE];
    snprintf(why, size, "%s %s", config_quote(value, quoted), what);
    return false;
}

/* ---- names ---- */

static bool check_repository(const char *value, char *why, size_t size) {
    struct text path, host = text_cut(text_of(value), '/', &path);
    return (path.at && reference_looks_like_host(host) && reference_is_host(host) &&
            reference_is_repository(path)) ||
           refuse(value,
                  "is not a repository; write HOST/NAME without a tag, for example "
                  "ghcr.io/org/app",
                  why, size);
}

static bool check_tag(const char *value, char *why, size_t size) {
    return reference_is_tag(text_of(value)) || refuse(value, "is not a tag", why, size);
}

/* "HOST/NAME" as tarn knows it: Docker Hub's under one host, with library/. */
static const char *canonical_repository(struct config_reader *reader, const char *host,
                                        const char *path) {
    char name[HOST_LIMIT + NAME_LIMIT + 16];
    const char *canonical = config_canonical_host(reader, *host ? host : "docker.io");
    if (!canonical)
        return NULL;
    bool is_library = strcmp(canonical, "docker.io") == 0 && !strchr(path, '/');
    snprintf(name, sizeof name, "%s/%s%s", canonical, is_library ? "library/" : "", path);
    return config_keep_text(reader, text_of(name));
}

/* Makes the repository's name canonical. Nodes pull it by the name that was written. */
static void set_repository(struct config_reader *reader, struct keep_entry *out) {
    char host[HOST_LIMIT + 1];
    struct text path, first = text_cut(text_of(out->repository), '/', &path);
    text_copy(first, host, sizeof host);
    const char *canonical = canonical_repository(reader, host, path.at);
    if (canonical && !out->pull_as && strcmp(canonical, out->repository) != 0 &&
        strcmp(host, "docker.io") != 0)
        out->pull_as = out->repository;
    if (canonical)
        out->repository = canonical;
}

/* Splits [HOST/]NAME[:TAG][@DIGEST]. */
static void set_image(struct config_reader *reader, struct keep_entry *out, const char *image) {
    struct image_name name;
    struct text digest, rest = text_cut(text_of(image), '@', &digest);
    char digest_text[DIGEST_STRING_SIZE] = "";
    if (!image_name_parse(rest, &name, NULL))
        return; /* the check has refused it */
    const char *last = memrchr(rest.at, '/', rest.length);
    size_t start = last ? (size_t)(last - rest.at) : 0;
    bool has_tag = memchr(rest.at + start, ':', rest.length - start) != NULL;
    out->repository = canonical_repository(reader, name.host, name.repository);
    if (digest.at && text_copy(digest, digest_text, sizeof digest_text))
        out->digest = config_keep_text(reader, digest);
    if (has_tag || !digest.at)
        out->tag = config_keep_text(reader, text_of(name.reference.tag));
}

/* ---- filters ---- */

/* "2024-05-01", or a whole RFC 3339 time. */
static bool parse_date(const char *value, int64_t *seconds) {
    char text[64];
    if (strlen(value) == 10)
        snprintf(text, sizeof text, "%sT00:00:00Z", value);
    else
        snprintf(text, sizeof text, "%s", value);
    return clock_parse_rfc3339(text, seconds);
}

static bool check_date(const char *value, char *why, size_t size) {
    int64_t seconds;
    return parse_date(value, &seconds) ||
           refuse(value, "is not a date; write for example 2024-05-01", why, size);
}

static bool check_version(const char *value, char *why, size_t size) {
    struct keep_tag version;
    return keep_tag_parse_version(text_of(value), &version) ||
           refuse(value, "is not a version; write for example r26_0_0, w_2024_10 or 26.0.0", why,
                  size);
}

struct filter_words {
    struct keep_filter filter;
    const char *date;
};

static void read_filter(struct config_reader *reader, const struct yaml_node *node,
                        const char *path, struct keep_filter *out) {
    struct filter_words read = {0};
#define FILTER(name) .offset = offsetof(struct keep_filter, name), .size = sizeof(uint64_t)
    static const struct config_option options[] = {
        {.key = "number", .type = CONFIG_COUNT, FILTER(number), .most = 100000},
        {.key = "age", .type = CONFIG_DURATION, FILTER(age_ms), .least = 1000},
        {.key = "cutoff_date",
         .type = CONFIG_STRING,
         .offset = offsetof(struct filter_words, date),
         .check = check_date},
        {.key = "cutoff_version",
         .type = CONFIG_STRING,
         FILTER(cutoff_version),
         .check = check_version},
        {.key = "cutoff_build", .type = CONFIG_COUNT, FILTER(cutoff_build)},
    };
#undef FILTER
    static const char *const known[] = {"number",         "age",          "cutoff_date",
                                        "cutoff_version", "cutoff_build", NULL};
    const struct config_table table = {options, sizeof options / sizeof *options, known};
    if (!config_read_table(reader, &table, &read, node, path))
        return;
    *out = read.filter;
    out->has_number = yaml_node_get(node, "number") != NULL;
    out->has_cutoff_build = yaml_node_get(node, "cutoff_build") != NULL;
    if (read.date)
        parse_date(read.date, &out->cutoff_date_s);
}

static void read_filters(struct config_reader *reader, const struct yaml_node *node,
                         const char *path, struct keep_rubin *out) {
    static const char *const kinds[] = {[KEEP_TAG_ALIAS] = "alias",
                                        [KEEP_TAG_RELEASE] = "release",
                                        [KEEP_TAG_WEEKLY] = "weekly",
                                        [KEEP_TAG_DAILY] = "daily",
                                        [KEEP_TAG_CANDIDATE] = "release_candidate",
                                        [KEEP_TAG_EXPERIMENTAL] = "experimental",
                                        [KEEP_TAG_UNKNOWN] = "unknown",
                                        NULL};
    char key_path[KEY_PATH_SIZE];
    if (!config_read_map(reader, node, path, kinds))
        return;
    for (size_t i = 0; kinds[i]; i++) {
        const struct yaml_node *value = yaml_node_get(node, kinds[i]);
        config_path_join(path, kinds[i], key_path);
        if (value)
            read_filter(reader, value, key_path, &out->filters[i]);
    }
}

/* ---- choices ---- */

static void read_rubin(struct config_reader *reader, const struct yaml_node *node, const char *path,
                       struct keep_rubin *out) {
#define RUBIN(name)                                                                                \
    .offset = offsetof(struct keep_rubin, name), .size = sizeof(uint64_t), .most = KEEP_IMAGE_LIMIT
#define TAGS(name) .offset = offsetof(struct keep_rubin, name), .check = check_tag
    static const struct config_option options[] = {
        {.key = "releases", .type = CONFIG_COUNT, RUBIN(releases)},
        {.key = "weeklies", .type = CONFIG_COUNT, RUBIN(weeklies)},
        {.key = "dailies", .type = CONFIG_COUNT, RUBIN(dailies)},
        {.key = "candidates", .type = CONFIG_COUNT, RUBIN(candidates)},
        {.key = "experimentals", .type = CONFIG_COUNT, RUBIN(experimentals)},
        {.key = "recommended", .type = CONFIG_STRING, TAGS(recommended)},
        {.key = "aliases", .type = CONFIG_LIST, TAGS(aliases)},
        {.key = "pin", .type = CONFIG_LIST, TAGS(pins)},
        {.key = "cycle",
         .type = CONFIG_COUNT,
         .offset = offsetof(struct keep_rubin, cycle),
         .size = sizeof(uint64_t)},
    };
#undef RUBIN
#undef TAGS
    static const char *const known[] = {"releases",      "weeklies",    "dailies", "candidates",
                                        "experimentals", "recommended", "aliases", "pin",
                                        "cycle",         "filter",      NULL};
    const struct config_table table = {options, sizeof options / sizeof *options, known};
    char key_path[KEY_PATH_SIZE];
    if (!config_read_table(reader, &table, out, node, path))
        return;
    out->has_cycle = yaml_node_get(node, "cycle") != NULL;
    const struct yaml_node *filter = yaml_node_get(node, "filter");
    config_path_join(path, "filter", key_path);
    if (filter)
        read_filters(reader, filter, key_path, out);
}

static void read_tags(struct config_reader *reader, const struct yaml_node *node, const char *path,
                      struct keep_tags *out) {
    static const char *const orders[] = {[KEEP_ORDER_VERSION] = "version",
                                         [KEEP_ORDER_UPLOADED] = "uploaded",
                                         [KEEP_ORDER_NAME] = "name",
                                         NULL};
#define TAGS(name) .offset = offsetof(struct keep_tags, name), .size = sizeof(uint64_t)
    static const struct config_option options[] = {
        {.key = "matching", .type = CONFIG_LIST, TAGS(matching), .least = 1},
        {.key = "order", .type = CONFIG_CHOICE, TAGS(order), .choices = orders},
        {.key = "newest", .type = CONFIG_COUNT, TAGS(newest), .least = 1, .most = KEEP_IMAGE_LIMIT},
        {.key = "newer_than", .type = CONFIG_DURATION, TAGS(newer_than_ms), .least = 1000},
    };
#undef TAGS
    static const char *const known[] = {"matching", "order", "newest", "newer_than", NULL};
    const struct config_table table = {options, sizeof options / sizeof *options, known};
    if (config_read_table(reader, &table, out, node, path))
        out->has_newest = yaml_node_get(node, "newest") != NULL;
}

/* ---- entries ---- */

static void read_choice(struct config_reader *reader, const struct yaml_node *node,
                        const char *path, struct keep_entry *out) {
    const struct yaml_node *rubin = yaml_node_get(node, "rubin");
    const struct yaml_node *tags = yaml_node_get(node, "tags");
    const struct yaml_node *filter = yaml_node_get(node, "filter");
    char key_path[KEY_PATH_SIZE];
    if (!rubin == !tags)
        config_problem_add(
            &reader->problems, node->place, path,
            "a repository needs either rubin or tags, which say which of its "
            "images are kept; write for example tags: {matching: \"v*\", newest: 3}");
    out->kind = rubin ? KEEP_ENTRY_RUBIN : KEEP_ENTRY_TAGS;
    config_path_join(path, "rubin", key_path);
    if (rubin)
        read_rubin(reader, rubin, key_path, &out->rubin);
    config_path_join(path, "tags", key_path);
    if (tags)
        read_tags(reader, tags, key_path, &out->tags);
    config_path_join(path, "filter", key_path);
    if (filter && !rubin)
        config_problem_add(&reader->problems, filter->place, key_path,
                           "filter is for rubin; tags has newest and newer_than");
    else if (filter)
        read_filters(reader, filter, key_path, &out->rubin);
}

struct entry_words {
    struct keep_entry entry;
    const char *image;
};

void config_read_keep_image(struct config_reader *reader, const struct yaml_node *node,
                            const char *path, struct keep_entry *out) {
    struct entry_words read = {0};
    static const struct config_option options[] = {
        {.key = "repository",
         .type = CONFIG_STRING,
         .offset = offsetof(struct keep_entry, repository),
         .check = check_repository},
        {.key = "pull_as",
         .type = CONFIG_STRING,
         .offset = offsetof(struct keep_entry, pull_as),
         .check = check_repository},
        {.key = "image",
         .type = CONFIG_STRING,
         .offset = offsetof(struct entry_words, image),
         .check = config_check_image},
    };
    static const char *const known[] = {"repository", "pull_as", "image", "rubin",
                                        "tags",       "filter",  NULL};
    const struct config_table table = {options, sizeof options / sizeof *options, known};
    if (!config_read_table(reader, &table, &read, node, path))
        return;
    *out = read.entry;
    const struct yaml_node *repository = yaml_node_get(node, "repository");
    const struct yaml_node *image = yaml_node_get(node, "image");
    if (!repository == !image) {
        config_problem_add(&reader->problems, node->place, path,
                           "an entry needs either repository or image; write for example image: "
                           "docker.io/library/python:3.12");
        return;
    }
    if (image) {
        out->kind = KEEP_ENTRY_IMAGE;
        if (yaml_node_get(node, "rubin") || yaml_node_get(node, "tags"))
            config_problem_add(&reader->problems, node->place, path,
                               "rubin and tags choose among the images of a repository; write "
                               "repository in place of image");
        if (read.image)
            set_image(reader, out, read.image);
        return;
    }
    read_choice(reader, node, path, out);
    if (out->repository)
        set_repository(reader, out);
}
