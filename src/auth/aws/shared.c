/*
 * AWS's shared files: which profile is meant, and which of its keys give credentials.
 *
 * Within a profile the order is that of AWS's SDKs: a role, static keys, a program. A profile that
 * is the source of another one's role gives its static keys first, because they are then meant for
 * that role.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/aws/profiles.h"
#include "auth/aws/sources.h"
#include "auth/aws/sts.h"
#include "auth/shown.h"
#include "base/file.h"

enum { CHAIN_LIMIT = 8, PATH_SIZE = 512 };

/* ---- the files ---- */

struct shared_file {
    char path[PATH_SIZE]; /* "": there is no home folder */
    bool named;           /* by the settings or the environment */
    bool is_there;
    char *bytes; /* owned; holds secrets */
    size_t length;
    struct aws_profiles profiles;
};

struct files {
    struct shared_file credentials, config;
    const char *profile; /* which is meant */
    bool profile_named;
};

static void file_wipe(struct shared_file *file) {
    aws_profiles_finish(&file->profiles);
    if (file->bytes)
        explicit_bzero(file->bytes, file->length);
    free(file->bytes);
}

static void files_wipe(struct files *files) {
    file_wipe(&files->credentials);
    file_wipe(&files->config);
}

#define cleanup_files __attribute__((cleanup(files_wipe)))

/* `name`: below the home folder. */
static bool find_path(struct shared_file *file, const char *named, const char *name,
                      struct error *error) {
    const char *home = aws_variable("HOME");
    int length = 0;
    file->named = named;
    if (named && strncmp(named, "~/", 2) == 0 && home)
        length = snprintf(file->path, sizeof file->path, "%s/%s", home, named + 2);
    else if (named)
        length = snprintf(file->path, sizeof file->path, "%s", named);
    else if (home)
        length = snprintf(file->path, sizeof file->path, "%s/.aws/%s", home, name);
    return length < PATH_SIZE ||
           error_set(error, ERROR_INVALID, "the path of the file %s is too long", name);
}

/* A file that is not there is empty. */
static bool read_file(struct shared_file *file, enum aws_profiles_kind kind, struct error *error) {
    struct error reason = {0};
    /* So is the device by which people switch a file off. */
    if (!*file->path || strcmp(file->path, "/dev/null") == 0) {
        file->is_there = *file->path;
        return true;
    }
    file->bytes = file_read_small(file->path, AWS_PROFILES_FILE_LIMIT, FILE_REGULAR | FILE_TEXT,
                                  &file->length, NULL, &reason);
    if (!file->bytes && reason.kind == ERROR_NOT_FOUND)
        return true;
    file->is_there = true;
    if (file->bytes && aws_profiles_read(file->bytes, kind, &file->profiles, &reason))
        return true;
    if (error)
        *error = reason;
    return error_wrap(error, "%.300s", shown_value(file->path));
}

static bool read_files(const struct aws_settings *settings, struct files *files,
                       struct error *error) {
    const char *credentials =
        settings->file ? settings->file : aws_variable("AWS_SHARED_CREDENTIALS_FILE");
    const char *profile = settings->profile ? settings->profile : aws_variable("AWS_PROFILE");
    files->profile = profile ? profile : "default";
    files->profile_named = profile;
    return find_path(&files->credentials, credentials, "credentials", error) &&
           find_path(&files->config, aws_variable("AWS_CONFIG_FILE"), "config", error) &&
           read_file(&files->credentials, AWS_PROFILES_CREDENTIALS, error) &&
           read_file(&files->config, AWS_PROFILES_CONFIG, error);
}

static const char *value_of(const struct files *files, const char *profile, const char *key) {
    const char *value = aws_profiles_get(&files->credentials.profiles, profile, key);
    return value ? value : aws_profiles_get(&files->config.profiles, profile, key);
}

static bool has_profile(const struct files *files, const char *profile) {
    return aws_profiles_has(&files->credentials.profiles, profile) ||
           aws_profiles_has(&files->config.profiles, profile);
}

/* ---- one profile ---- */

struct chain {
    const struct aws_question *question;
    const struct files *files;
    unsigned depth;
};

static bool has_static(const struct files *files, const char *profile) {
    return value_of(files, profile, "aws_access_key_id") ||
           value_of(files, profile, "aws_secret_access_key");
}

static bool is_sso(const struct files *files, const char *profile) {
    static const char *const keys[] = {"sso_session", "sso_start_url", "sso_account_id",
                                       "sso_role_name", "sso_region"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (value_of(files, profile, keys[i]))
            return true;
    }
    return false;
}

static enum aws_finding finding_of(bool ok) {
    return ok ? AWS_FOUND : AWS_BROKEN;
}

static enum aws_finding take_static(const struct files *files, const char *profile,
                                    struct aws_answer *out, struct error *error) {
    const char *id = value_of(files, profile, "aws_access_key_id");
    const char *secret = value_of(files, profile, "aws_secret_access_key");
    const char *token = value_of(files, profile, "aws_session_token");
    if (!id || !secret)
        return finding_of(error_set(error, ERROR_INVALID, "%s is missing",
                                    id ? "aws_secret_access_key" : "aws_access_key_id"));
    return finding_of(aws_credentials_fill(&out->credentials, text_of(id), text_of(secret),
                                           text_of(token ? token : ""), error));
}

/* credential_source: the credentials for a role come from the environment or the machine. */
static enum aws_finding take_machine(const struct chain *chain, const char *source,
                                     struct aws_answer *out, struct error *error) {
    static const struct {
        const char *name;
        enum aws_finding (*look)(const struct aws_question *question, struct aws_answer *out,
                                 struct error *error);
    } sources[] = {{"Environment", aws_environment_look},
                   {"EcsContainer", aws_container_look},
                   {"Ec2InstanceMetadata", aws_instance_look}};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        if (strcmp(source, sources[i].name) != 0)
            continue;
        enum aws_finding finding = sources[i].look(chain->question, out, error);
        if (finding == AWS_ABSENT)
            error_set(error, ERROR_NOT_FOUND, "there are no credentials");
        if (finding != AWS_FOUND)
            error_wrap(error, "credential_source %s", source);
        return finding == AWS_FOUND ? AWS_FOUND : AWS_BROKEN;
    }
    return finding_of(error_set(error, ERROR_UNSUPPORTED,
                                "credential_source \"%.60s\" is not Environment, EcsContainer or "
                                "Ec2InstanceMetadata",
                                shown_value(source)));
}

static enum aws_finding take_profile(const struct chain *chain, const char *profile,
                                     struct aws_answer *out, struct error *error);

/* The credentials by which the role of `profile` is taken. */
static enum aws_finding take_source(const struct chain *chain, const char *profile,
                                    struct aws_answer *out, struct error *error) {
    const char *source = value_of(chain->files, profile, "source_profile");
    const char *machine = value_of(chain->files, profile, "credential_source");
    struct chain next = *chain;
    next.depth++;
    if (source && strcmp(source, profile) == 0 && !has_static(chain->files, profile))
        return finding_of(error_set(error, ERROR_INVALID, "source_profile leads to itself"));
    if (source)
        return take_profile(&next, source, out, error);
    if (machine)
        return take_machine(chain, machine, out, error);
    return finding_of(error_set(error, ERROR_INVALID,
                                "role_arn needs source_profile, credential_source or "
                                "web_identity_token_file"));
}

static enum aws_finding take_role(const struct chain *chain, const char *profile,
                                  struct aws_answer *out, struct error *error) {
    const struct files *files = chain->files;
    const char *token_file = value_of(files, profile, "web_identity_token_file");
    const struct aws_role role = {
        .arn = value_of(files, profile, "role_arn"),
        .session_name = value_of(files, profile, "role_session_name"),
        .external_id = value_of(files, profile, "external_id"),
        .duration_s = value_of(files, profile, "duration_seconds"),
        .region = chain->question->region,
    };
    if (token_file)
        return finding_of(
            aws_sts_by_web_identity(chain->question, &role, token_file, &out->credentials, error));
    if (value_of(files, profile, "mfa_serial"))
        return finding_of(error_set(error, ERROR_UNSUPPORTED,
                                    "mfa_serial needs a person with a device; use a role without "
                                    "it"));
    struct aws_answer by = {0};
    enum aws_finding finding = take_source(chain, profile, &by, error);
    if (finding == AWS_FOUND)
        finding = finding_of(
            aws_sts_by_role(chain->question, &role, &by.credentials, &out->credentials, error));
    aws_credentials_wipe(&by.credentials);
    return finding;
}

static enum aws_finding take_keys(const struct chain *chain, const char *profile,
                                  struct aws_answer *out, struct error *error) {
    const struct files *files = chain->files;
    bool is_source = chain->depth > 0, keys = has_static(files, profile);
    const char *command = value_of(files, profile, "credential_process");
    if (value_of(files, profile, "role_arn") && !(is_source && keys))
        return take_role(chain, profile, out, error);
    if (keys)
        return take_static(files, profile, out, error);
    if (command)
        return finding_of(aws_process_run(command, &out->credentials, error));
    if (is_sso(files, profile))
        return finding_of(error_set(error, ERROR_UNSUPPORTED,
                                    "its credentials come from SSO, for which a person has to log "
                                    "in; tarn does not use SSO: give tarn a role or keys"));
    if (value_of(files, profile, "web_identity_token_file"))
        return finding_of(
            error_set(error, ERROR_INVALID, "web_identity_token_file needs role_arn"));
    return AWS_ABSENT;
}

static enum aws_finding take_profile(const struct chain *chain, const char *profile,
                                     struct aws_answer *out, struct error *error) {
    const struct files *files = chain->files;
    const char *shown = shown_value(profile);
    if (chain->depth > CHAIN_LIMIT)
        return finding_of(error_set(error, ERROR_INVALID,
                                    "source_profile leads in a circle, or over more than %d "
                                    "profiles",
                                    CHAIN_LIMIT));
    if (!has_profile(files, profile))
        return finding_of(error_set(error, ERROR_NOT_FOUND,
                                    "profile \"%.100s\" is neither in %.120s nor in %.120s", shown,
                                    files->credentials.path, files->config.path));
    enum aws_finding finding = take_keys(chain, profile, out, error);
    if (finding == AWS_ABSENT && chain->depth > 0)
        finding = finding_of(error_set(error, ERROR_NOT_FOUND, "it has no credentials"));
    if (finding == AWS_BROKEN && chain->depth > 0)
        error_wrap(error, "profile \"%.100s\"", shown);
    return finding;
}

/* ---- the source ---- */

/* A file that is named must be there, unless the other one has what is wanted. */
static bool check_named(const struct files *files, struct error *error) {
    const struct shared_file *file = &files->credentials;
    if (!file->named || file->is_there)
        file = &files->config;
    return !file->named || file->is_there ||
           error_set(error, ERROR_NOT_FOUND, "%.300s: no such file", shown_value(file->path));
}

static void describe(const struct files *files, struct aws_answer *out) {
    bool in_credentials = aws_profiles_has(&files->credentials.profiles, files->profile);
    const struct shared_file *file = in_credentials ? &files->credentials : &files->config;
    snprintf(out->from, sizeof out->from, "profile %.60s of %.240s", shown_value(files->profile),
             *file->path ? shown_value(file->path) : "~/.aws/config");
}

enum aws_finding aws_shared_look(const struct aws_question *question, struct aws_answer *out,
                                 struct error *error) {
    cleanup_files struct files files = {0};
    const struct aws_settings *settings = question->settings;
    snprintf(out->from, sizeof out->from, "shared files");
    if (!read_files(settings, &files, error))
        return AWS_BROKEN;
    if (!has_profile(&files, files.profile) && !files.profile_named && !settings->file)
        return check_named(&files, error) ? AWS_ABSENT : AWS_BROKEN;
    describe(&files, out);
    if (!has_profile(&files, files.profile) && !check_named(&files, error))
        return AWS_BROKEN;
    const struct chain chain = {.question = question, .files = &files};
    enum aws_finding finding = take_profile(&chain, files.profile, out, error);
    if (finding != AWS_ABSENT || (!settings->profile && !settings->file))
        return finding;
    return finding_of(error_set(error, ERROR_NOT_FOUND, "it has no credentials"));
}

const char *aws_shared_region(const struct aws_settings *settings,
                              char out[static AWS_REGION_SIZE]) {
    cleanup_files struct files files = {0};
    *out = '\0';
    if (!read_files(settings, &files, NULL))
        return out;
    const char *region = value_of(&files, files.profile, "region");
    if (region && aws_region_ok(text_of(region)))
        text_copy(text_of(region), out, AWS_REGION_SIZE);
    return out;
}

bool aws_shared_may_run(const struct aws_settings *settings) {
    cleanup_files struct files files = {0};
    if (!read_files(settings, &files, NULL))
        return false;
    const char *profile = files.profile;
    for (unsigned depth = 0; profile && depth <= CHAIN_LIMIT; depth++) {
        if (value_of(&files, profile, "credential_process"))
            return true;
        profile = value_of(&files, profile, "source_profile");
    }
    return false;
}
