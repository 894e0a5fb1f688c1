/* Which changes of the configuration a running tarn can take. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/aws/aws.h"
#include "auth/google/google.h"
#include "base/cleanup.h"
#include "config/config.h"
#include "config/reader.h"

/* The upstreams that the process uses. */
struct used {
    const struct upstream_settings *at;
    size_t count;
};

static struct used used_by(enum config_user user, const struct config *config) {
    return user == CONFIG_OF_KEEP
               ? (struct used){config->keep_upstreams, config->keep_upstream_count}
               : (struct used){config->upstreams, config->upstream_count};
}

/* The credentials of an upstream that may run programs, and that no upstream had before. NULL:
 * there are none. */
static const struct upstream_settings *find_new_program(const struct used *now,
                                                        const struct used *next) {
    for (size_t i = 0; i < next->count; i++) {
        const struct credential_source *source = next->at[i].credentials;
        bool is_known = !credential_source_may_run_programs(source);
        for (size_t j = 0; j < now->count && !is_known; j++)
            is_known = credential_source_equal(now->at[j].credentials, source);
        if (!is_known)
            return &next->at[i];
    }
    return NULL;
}

/* Whether the bucket's credentials may start a program. */
static bool bucket_runs_programs(const struct bucket_settings *bucket) {
    enum bucket_credentials credentials = bucket_settings_credentials(bucket);
    if (bucket->address.kind == BUCKET_NONE)
        return false;
    if (credentials == BUCKET_CREDENTIALS_AWS) {
        const struct aws_settings aws = {.profile = bucket->aws_profile, .file = bucket->aws_file};
        return aws_settings_may_run(&aws);
    }
    if (credentials != BUCKET_CREDENTIALS_GOOGLE)
        return false;
    struct credential_source *google = google_credential_source(&bucket->google);
    bool runs = credential_source_may_run_programs(google);
    credential_source_free(google);
    return runs;
}

const char *config_program_source(enum config_user user, const struct config *config) {
    const struct used used = used_by(user, config);
    for (size_t i = 0; i < used.count; i++) {
        const struct credential_source *source = used.at[i].credentials;
        if (credential_source_may_run_programs(source))
            return credential_source_name(source);
    }
    return user == CONFIG_OF_SERVE && bucket_runs_programs(&config->bucket) ? "bucket" : NULL;
}

/* Adds a problem. A setting that is no longer set has no place but its file. */
static void refuse(struct config_problems *problems, const struct config_loaded *next, size_t index,
                   const char *key, const char *why) {
    const struct yaml_place *place = &next->set_at[index];
    const char *file = next->config.file ? next->config.file : "tarn";
    if (place->source)
        config_problem_add(problems, *place, key, "%s", why);
    else
        config_problem_add(problems, (struct yaml_place){file, 0, 0}, "", "%s: %s", key, why);
}

static bool strings_equal(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_equal(const struct config_option *option, const void *a, const void *b) {
    const void *left = (const char *)a + option->offset, *right = (const char *)b + option->offset;
    if (option->type == CONFIG_STRING)
        return strings_equal(*(const char *const *)left, *(const char *const *)right);
    if (option->type == CONFIG_LIST)
        return text_lists_equal(*(const char *const *const *)left,
                                *(const char *const *const *)right);
    return memcmp(left, right, option->size) == 0;
}

static void check_option(struct config_problems *problems, const struct config_loaded *now,
                         const struct config_loaded *next, size_t index) {
    const struct config_option *option = &config_options[index];
    char before[CONFIG_VALUE_SIZE], after[CONFIG_VALUE_SIZE], why[2 * CONFIG_VALUE_SIZE + 100];
    if (is_equal(option, now, next))
        return;
    config_option_show(option, now, before);
    config_option_show(option, next, after);
    snprintf(why, sizeof why,
             "cannot change from \"%s\" to \"%s\" while tarn runs; restart tarn, or change it back",
             before, after);
    refuse(problems, next, index, option->key, why);
}

/* The rows of the bucket's settings are compared one by one, but for a mapping of credentials. */
static void check_bucket(struct config_problems *problems, const struct config_loaded *now,
                         const struct config_loaded *next) {
    struct bucket_settings same = now->config.bucket;
    const struct bucket_settings *bucket = &next->config.bucket;
    same.credentials = bucket->credentials;
    same.aws_profile = bucket->aws_profile;
    same.aws_file = bucket->aws_file;
    same.google = bucket->google;
    same.key_id = bucket->key_id;
    same.secret_file = bucket->secret_file;
    if (bucket_settings_equal(&same, bucket) &&
        !bucket_settings_equal(&now->config.bucket, bucket) &&
        strings_equal(now->bucket_credentials, next->bucket_credentials))
        refuse(problems, next, config_option_index("bucket.credentials"), "bucket.credentials",
               "cannot change while tarn runs; restart tarn, or change it back");
}

static void check_tls(struct config_problems *problems, const struct config_loaded *now,
                      const struct config_loaded *next) {
    bool had = now->config.tls_certificate, has = next->config.tls_certificate;
    if (had != has)
        refuse(problems, next, config_option_index("tls.certificate"), "tls.certificate",
               has ? "TLS cannot begin while tarn runs; restart tarn, or remove tls"
                   : "TLS cannot end while tarn runs; restart tarn, or set tls again");
}

/* A confined tarn has given up the right to start programs, unless it had a reason to keep it. */
static void check_programs(struct config_problems *problems, enum config_user user,
                           const struct config_loaded *now, const struct config_loaded *next) {
    const struct used before = used_by(user, &now->config), after = used_by(user, &next->config);
    const struct upstream_settings *upstream = find_new_program(&before, &after);
    if (now->config.confine == CONFIG_CONFINE_OFF || !upstream ||
        config_program_source(user, &now->config))
        return;
    const char *file = next->config.file ? next->config.file : "tarn";
    config_problem_add(problems, (struct yaml_place){file, 0, 0}, "",
                       "upstreams: the credentials (%s) of %s may start programs, and the running "
                       "tarn has given up the right to; restart tarn",
                       credential_source_name(upstream->credentials), upstream->host);
}

/* Whether a change of the option matters to the process. tarn keep has no cache. */
static bool is_used(const struct config_option *option, enum config_user user) {
    if (user == CONFIG_OF_KEEP)
        return option->group == CONFIG_KEEP || option->group == CONFIG_SERVER;
    return option->group != CONFIG_KEEP;
}

bool config_check_change(enum config_user user, const struct config *now, const struct config *next,
                         struct buffer *problems) {
    const struct config_loaded *before = (const struct config_loaded *)now,
                               *after = (const struct config_loaded *)next;
    cleanup_free struct config_problems *found = calloc(1, sizeof *found); /* large for a stack */
    if (!found) {
        buffer_append_string(problems, "tarn: out of memory\n");
        return false;
    }
    found->aliases = after->aliases;
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].needs_restart && is_used(&config_options[i], user))
            check_option(found, before, after, i);
    }
    if (user == CONFIG_OF_SERVE)
        check_bucket(found, before, after);
    check_tls(found, before, after);
    check_programs(found, user, before, after);
    config_problems_write(found, problems);
    return found->count == 0;
}
