/* The section `bucket`: what the rows of the table cannot say, each for itself. */
#include "config/bucket_section.h"

#include <stdio.h>
#include <string.h>
#include "config/checks.h"
#include "config/credentials.h"
#include "config/map.h"
#include "config/value.h"
#include "config/words.h"

#define SECTION     "bucket"
#define CREDENTIALS SECTION ".credentials"

#define BUCKET(member)                                                                             \
    .offset = offsetof(struct bucket_settings, member),                                            \
    .size = sizeof(((struct bucket_settings *)0)->member)

/* ---- strings of the table ---- */

bool config_check_bucket_url(const char *value, char *why, size_t size) {
    struct bucket_address address;
    struct error error = {0};
    char quoted[QUOTE_SIZE];
    if (bucket_address_parse(value, &address, &error))
        return true;
    if (strchr(value, '@')) /* there may be a secret in front of it */
        snprintf(why, size, "%s", error.text);
    else
        snprintf(why, size, "%s: %s", config_quote(value, quoted), error.text);
    return false;
}

static const char *const words[] = {
    [BUCKET_CREDENTIALS_DEFAULT] = "",
    [BUCKET_CREDENTIALS_AWS] = "aws",
    [BUCKET_CREDENTIALS_GOOGLE] = "google",
    [BUCKET_CREDENTIALS_ANONYMOUS] = "anonymous",
};
enum { WORDS = sizeof words / sizeof *words };

bool config_check_bucket_word(const char *value, char *why, size_t size) {
    char quoted[QUOTE_SIZE];
    for (size_t i = BUCKET_CREDENTIALS_AWS; i < WORDS; i++) {
        if (strcmp(value, words[i]) == 0)
            return true;
    }
    snprintf(why, size,
             "%s is not one of aws, google, anonymous, {aws: {profile: P, file: F}}, "
             "{google: {file: F}}, {key_id: K, secret_file: F}",
             config_quote(value, quoted));
    return false;
}

/* ---- credentials ---- */

static void refuse(struct config_reader *reader, const struct yaml_node *node, const char *path,
                   const char *why) {
    config_problem_add(&reader->problems, node->place, path, "%s", why);
}

/* Reads the options that are in the mapping. */
static void read_options(struct config_reader *reader, const struct config_option *options,
                         const struct yaml_node *map, const char *path) {
    for (; options->key; options++) {
        const struct yaml_node *value = yaml_node_get(map, options->key);
        char value_path[KEY_PATH_SIZE];
        config_path_join(path, options->key, value_path);
        if (value)
            config_read_value(reader, options, &reader->loaded->config.bucket, value, value_path);
    }
}

/* The shared files of AWS may come later than tarn starts, so they are not looked at here. */
static void read_aws(struct config_reader *reader, const struct yaml_node *node) {
    static const char *const known[] = {"profile", "file", NULL};
    static const struct config_option options[] = {
        {.key = "profile", .type = CONFIG_STRING, BUCKET(aws_profile)},
        {.key = "file", .type = CONFIG_STRING, BUCKET(aws_file)},
        {.key = NULL},
    };
    reader->loaded->config.bucket.credentials = BUCKET_CREDENTIALS_AWS;
    if (!yaml_node_is_null(node) && config_read_map(reader, node, CREDENTIALS ".aws", known))
        read_options(reader, options, node, CREDENTIALS ".aws");
}

static void read_google(struct config_reader *reader, const struct yaml_node *node) {
    struct bucket_settings *bucket = &reader->loaded->config.bucket;
    bucket->credentials = BUCKET_CREDENTIALS_GOOGLE;
    if (!yaml_node_is_null(node))
        config_read_google(reader, node, CREDENTIALS ".google", &bucket->google);
}

static void read_key(struct config_reader *reader, const struct yaml_node *node) {
    static const struct config_option options[] = {
        {.key = "key_id", .type = CONFIG_STRING, BUCKET(key_id)},
        {.key = "secret_file",
         .type = CONFIG_STRING,
         BUCKET(secret_file),
         .check = config_check_file},
        {.key = "secret", .type = CONFIG_STRING, BUCKET(secret)},
        {.key = NULL},
    };
    bool is_whole = reader->is_distribution; /* its translation gives both or none */
    reader->loaded->config.bucket.credentials = BUCKET_CREDENTIALS_KEY;
    if (!is_whole && !yaml_node_get(node, "key_id"))
        refuse(reader, node, CREDENTIALS ".key_id",
               "is missing; it is the name of the key in secret_file");
    if (!is_whole && !yaml_node_get(node, "secret_file"))
        refuse(reader, node, CREDENTIALS ".secret_file",
               "is missing; it names a file with the secret of the key");
    read_options(reader, options, node, CREDENTIALS);
}

static void read_credentials(struct config_reader *reader, const struct yaml_node *node) {
    static const char *const known[] = {"aws", "google", "key_id", "secret_file", NULL};
    static const char *const translated[] = {"google", "key_id", "secret", NULL};
    if (!config_read_map(reader, node, CREDENTIALS, reader->is_distribution ? translated : known))
        return;
    const struct yaml_node *aws = yaml_node_get(node, "aws"),
                           *google = yaml_node_get(node, "google");
    bool key = yaml_node_get(node, "key_id") || yaml_node_get(node, "secret_file");
    if ((aws != NULL) + (google != NULL) + key != 1)
        refuse(reader, node, CREDENTIALS,
               "expected exactly one of aws, google, or key_id with secret_file");
    else if (aws)
        read_aws(reader, aws);
    else if (google)
        read_google(reader, google);
    else
        read_key(reader, node);
}

/* ---- all of it ---- */

/* Forgets a setting that was found wrong, so that the others can be checked. */
static void forget(struct bucket_settings *settings, const char *key) {
    const struct bucket_settings standard = bucket_settings_default();
    if (strcmp(key, "endpoint") == 0)
        settings->endpoint = NULL;
    else if (strcmp(key, "region") == 0)
        settings->region = NULL;
    else if (strcmp(key, "credentials.key_id") == 0)
        settings->key_id = NULL;
    else if (strcmp(key, "storage_class") == 0)
        settings->storage_class = NULL;
    else if (strcmp(key, "part_size") == 0)
        settings->part_size = standard.part_size;
    else
        settings->encryption = settings->kms_key = NULL;
}

/* Where a setting was set: `key` is one of the table's, or one below credentials. */
static struct yaml_place place_of(const struct config_reader *reader, const struct yaml_node *node,
                                  const char *key) {
    const char *dot = strchr(key, '.');
    if (dot) {
        const struct yaml_node *credentials = node ? yaml_node_get(node, "credentials") : NULL,
                               *value = credentials && credentials->kind == YAML_MAP
                                            ? yaml_node_get(credentials, dot + 1)
                                            : NULL;
        return value ? value->place : reader->loaded->set_at[config_option_index(CREDENTIALS)];
    }
    char path[KEY_PATH_SIZE];
    config_path_join(SECTION, key, path);
    return reader->loaded->set_at[config_option_index(path)];
}

static void check(struct config_reader *reader, const struct yaml_node *node) {
    struct bucket_settings rest = reader->loaded->config.bucket;
    struct error error = {0};
    const char *key;
    while (!bucket_settings_check(&rest, &key, &error)) {
        char path[KEY_PATH_SIZE];
        config_path_join(SECTION, key, path);
        config_problem_add(&reader->problems, place_of(reader, node, key), path, "%s", error.text);
        forget(&rest, key);
        error = (struct error){0};
    }
}

/* Whoever sets something of a bucket wants one. */
static void want_url(struct config_reader *reader) {
    const struct yaml_place *given = reader->loaded->set_at;
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].group != CONFIG_BUCKET || !given[i].source)
            continue;
        config_problem_add(&reader->problems, given[i], config_options[i].key,
                           "there is no bucket without " SECTION ".url; write for example "
                           "s3://my-cache/tarn");
        return;
    }
}

void config_read_bucket(struct config_reader *reader, const struct yaml_node *node) {
    struct config_loaded *loaded = reader->loaded;
    struct bucket_settings *bucket = &loaded->config.bucket;
    const struct yaml_node *credentials =
        node && node->kind == YAML_MAP ? yaml_node_get(node, "credentials") : NULL;
    for (size_t i = BUCKET_CREDENTIALS_AWS; loaded->bucket_credentials && i < WORDS; i++) {
        if (strcmp(loaded->bucket_credentials, words[i]) == 0)
            bucket->credentials = (enum bucket_credentials)i;
    }
    if (!loaded->bucket_credentials && credentials && credentials->kind == YAML_MAP)
        read_credentials(reader, credentials);
    if (loaded->bucket_url)
        bucket_address_parse(loaded->bucket_url, &bucket->address, &(struct error){0});
    else if (!loaded->set_at[config_option_index(SECTION ".url")].source)
        want_url(reader);
    check(reader, node && node->kind == YAML_MAP ? node : NULL);
}
