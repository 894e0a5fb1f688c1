/*
 * The credentials of an upstream: a word (anonymous, docker, google) or a mapping:
 *
 *   {docker: {file: F}}   {username: U, password_file: F}   {helper: NAME}
 *   {google: {file: F | metadata: HOST | gcloud: true, impersonate: ACCOUNT, scopes: [S, …]}}
 *
 * Upstreams with the same credentials share one source, so that all upstreams with
 * `credentials: google` share one access token.
 */
#include "config/credentials.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "auth/google/google.h"
#include "config/checks.h"
#include "config/hosts.h"
#include "config/map.h"
#include "config/value.h"
#include "config/words.h"

/* The values of the mapping, from which a source is made. */
struct keys {
    const char *username, *password_file, *helper;
    const char *password; /* only in the file of the CNCF registry */
    const char *docker_file;
    struct google_settings google;
};

#define FIELD(member)                                                                              \
    .offset = offsetof(struct keys, member), .size = sizeof(((struct keys *)0)->member)

static const struct config_option basic_options[] = {
    {.key = "username", .type = CONFIG_STRING, FIELD(username), .check = config_check_any},
    {.key = "password_file",
     .type = CONFIG_STRING,
     FIELD(password_file),
     .check = config_check_file},
    {.key = "password", .type = CONFIG_STRING, FIELD(password)},
    {.key = "helper", .type = CONFIG_STRING, FIELD(helper), .check = config_check_helper},
    {.key = NULL},
};
static const struct config_option docker_options[] = {
    {.key = "file", .type = CONFIG_STRING, FIELD(docker_file), .check = config_check_file},
    {.key = NULL},
};
static const struct config_option google_options[] = {
    {.key = "file", .type = CONFIG_STRING, FIELD(google.file), .check = config_check_file},
    {.key = "metadata", .type = CONFIG_STRING, FIELD(google.metadata), .check = config_check_host},
    {.key = "gcloud", .type = CONFIG_BOOLEAN, FIELD(google.gcloud)},
    {.key = "impersonate",
     .type = CONFIG_STRING,
     FIELD(google.impersonate),
     .check = config_check_any},
    {.key = "scopes",
     .type = CONFIG_LIST,
     FIELD(google.scopes),
     .least = 1,
     .check = config_check_any},
    {.key = NULL},
};

/* Reads the `options` that are in the mapping. False: one of them is wrong. */
static bool read_options(struct config_reader *reader, const struct config_option *options,
                         struct keys *keys, const struct yaml_node *map, const char *path) {
    bool fine = true;
    for (; options->key; options++) {
        const struct yaml_node *value = yaml_node_get(map, options->key);
        char value_path[KEY_PATH_SIZE];
        snprintf(value_path, sizeof value_path, "%.120s.%s", path, options->key);
        if (value && !config_read_value(reader, options, keys, value, value_path))
            fine = false;
    }
    return fine;
}

/* The source with this identity. The first call makes it, later calls share it. */
static struct credential_source *share(struct config_reader *reader, const char *identity,
                                       const struct keys *keys) {
    struct config_loaded *loaded = reader->loaded;
    for (struct shared_source *shared = loaded->sources; shared; shared = shared->next) {
        if (strcmp(shared->identity, identity) == 0)
            return shared->source;
    }
    struct shared_source *shared = config_keep(reader, sizeof *shared);
    const char *kept = config_keep_text(reader, text_of(identity));
    if (!shared || !kept)
        return NULL;
    shared->identity = kept;
    if (strcmp(identity, "anonymous") == 0)
        shared->source = credential_source_anonymous();
    else if (text_starts(text_of(identity), "docker"))
        shared->source = credential_source_docker(keys->docker_file);
    else if (text_starts(text_of(identity), "google"))
        shared->source = google_credential_source(&keys->google);
    else if (keys->helper)
        shared->source = credential_source_helper(keys->helper);
    else if (keys->password)
        shared->source = credential_source_password(keys->username, keys->password);
    else
        shared->source = credential_source_static(keys->username, keys->password_file);
    if (!shared->source) {
        reader->no_memory = true;
        return NULL;
    }
    shared->next = loaded->sources;
    loaded->sources = shared;
    if (!credential_source_identify(shared->source, kept))
        reader->no_memory = true;
    return shared->source;
}

static struct credential_source *
share_built(struct config_reader *reader, const struct buffer *identity, const struct keys *keys) {
    if (!identity->failed)
        return share(reader, identity->bytes, keys);
    reader->no_memory = true;
    return NULL;
}

static struct credential_source *share_docker(struct config_reader *reader, const char *file) {
    const struct keys keys = {.docker_file = file};
    if (!file)
        return share(reader, "docker", &keys);
    cleanup_buffer struct buffer identity = {0};
    buffer_printf(&identity, "docker\n%s", file);
    return share_built(reader, &identity, &keys);
}

static struct credential_source *refuse(struct config_reader *reader, const struct yaml_node *node,
                                        const char *path, const char *why) {
    config_problem_add(&reader->problems, node->place, path, "%s", why);
    return NULL;
}

static struct credential_source *read_word(struct config_reader *reader,
                                           const struct yaml_node *node, const char *path) {
    static const char *const words[] = {"anonymous", "docker", "google", NULL};
    for (size_t i = 0; words[i]; i++) {
        if (strcmp(node->text, words[i]) == 0)
            return share(reader, words[i], &(struct keys){0});
    }
    char quoted[QUOTE_SIZE];
    config_problem_add(
        &reader->problems, node->place, path,
        "%s is not one of anonymous, docker, google, {username: U, password_file: F}, "
        "{helper: NAME}",
        config_quote(node->text, quoted));
    return NULL;
}

static struct credential_source *read_docker(struct config_reader *reader,
                                             const struct yaml_node *node, const char *path) {
    static const char *const known[] = {"file", NULL};
    struct keys keys = {0};
    if (!config_read_map(reader, node, path, known) ||
        !read_options(reader, docker_options, &keys, node, path))
        return NULL;
    return share_docker(reader, keys.docker_file);
}

bool config_read_google(struct config_reader *reader, const struct yaml_node *node,
                        const char *path, struct google_settings *out) {
    static const char *const known[] = {"file",        "metadata", "gcloud",
                                        "impersonate", "scopes",   NULL};
    struct keys keys = {0};
    if (!config_read_map(reader, node, path, known) ||
        !read_options(reader, google_options, &keys, node, path))
        return false;
    const struct google_settings *google = &keys.google;
    if ((google->file != NULL) + (google->metadata != NULL) + google->gcloud > 1) {
        refuse(reader, node, path, "only one of file, metadata and gcloud may be set");
        return false;
    }
    *out = *google;
    return true;
}

static struct credential_source *read_google(struct config_reader *reader,
                                             const struct yaml_node *node, const char *path) {
    struct keys keys = {0};
    const struct google_settings *google = &keys.google;
    if (!config_read_google(reader, node, path, &keys.google))
        return NULL;
    if (node->count == 0)
        return share(reader, "google", &keys);

    cleanup_buffer struct buffer identity = {0};
    buffer_printf(&identity, "google\n%s\n%s\n%d\n%s", google->file ? google->file : "",
                  google->metadata ? google->metadata : "", google->gcloud,
                  google->impersonate ? google->impersonate : "");
    for (const char *const *scope = google->scopes; scope && *scope; scope++)
        buffer_printf(&identity, "\n%s", *scope);
    return share_built(reader, &identity, &keys);
}

struct credential_source *config_read_credentials(struct config_reader *reader,
                                                  const struct yaml_node *node, const char *path) {
    static const char *const known[] = {"username", "password_file", "helper",
                                        "docker",   "google",        NULL};
    static const char *const translated[] = {"username", "password", "helper", NULL};
    if (node->kind == YAML_SCALAR)
        return read_word(reader, node, path);
    if (!config_read_map(reader, node, path, reader->is_distribution ? translated : known))
        return NULL;

    const struct yaml_node *username = yaml_node_get(node, "username");
    const struct yaml_node *password =
        yaml_node_get(node, reader->is_distribution ? "password" : "password_file");
    const struct yaml_node *helper = yaml_node_get(node, "helper");
    const struct yaml_node *docker = yaml_node_get(node, "docker"),
                           *google = yaml_node_get(node, "google");
    if ((username || password) + (helper != NULL) + (docker != NULL) + (google != NULL) != 1)
        return refuse(reader, node, path,
                      "expected exactly one of docker, google, helper, or "
                      "username with password_file");
    char below[KEY_PATH_SIZE];
    snprintf(below, sizeof below, "%.140s.%s", path, docker ? "docker" : "google");
    if (docker)
        return read_docker(reader, docker, below);
    if (google)
        return read_google(reader, google, below);

    struct keys keys = {0};
    if (!read_options(reader, basic_options, &keys, node, path))
        return NULL;
    if (!helper && !password)
        return refuse(reader, node, path, "username is set, but password_file is missing");
    if (!helper && !username)
        return refuse(reader, node, path, "password_file is set, but username is missing");
    cleanup_buffer struct buffer identity = {0};
    if (helper)
        buffer_printf(&identity, "helper\n%s", keys.helper);
    else if (keys.password) /* there is one upstream, and so one password */
        buffer_printf(&identity, "password\n%s", keys.username);
    else
        buffer_printf(&identity, "static\n%s\n%s", keys.username, keys.password_file);
    return share_built(reader, &identity, &keys);
}

struct credential_source *config_default_credentials(struct config_reader *reader, const char *host,
                                                     const char *url, const char *docker_file) {
    char elsewhere[300];
    const struct keys nothing = {0};
    if (url && config_url_host(url, elsewhere, sizeof elsewhere)) {
        const char *port = strrchr(host, ':');
        size_t length = port ? (size_t)(port - host) : strlen(host);
        bool same = strlen(elsewhere) == length && strncasecmp(elsewhere, host, length) == 0;
        if (!same && !config_host_is_loopback(elsewhere))
            return share(reader, "anonymous", &nothing);
    }
    return config_host_is_google(host) ? share(reader, "google", &nothing)
                                       : share_docker(reader, docker_file);
}

/* ---- where credentials go ---- */

static bool is_google_source(const struct config_reader *reader,
                             const struct credential_source *source) {
    const struct shared_source *shared = reader->loaded->sources;
    while (shared && shared->source != source)
        shared = shared->next;
    return shared && text_starts(text_of(shared->identity), "google");
}

/* `url`: where the credentials are sent; NULL: https://HOST. */
static void warn_of_one(struct config_reader *reader, const struct upstream_settings *settings,
                        const char *url) {
    char host[HOST_LIMIT + 1];
    if (url ? !config_url_host(url, host, sizeof host)
            : !text_copy(text_of(settings->host), host, sizeof host))
        return;
    if (!url)
        host[strcspn(host, ":")] = '\0';
    if (config_host_is_loopback(host))
        return;
    if (url && strncasecmp(url, "http://", 7) == 0)
        config_warn(reader,
                    "upstream %.100s: its credentials go to %.100s over http, so everybody on the "
                    "way can read them; use https",
                    settings->host, host);
    if (is_google_source(reader, settings->credentials) && !config_host_is_google(host))
        config_warn(reader,
                    "upstream %.100s: Google's access token goes to %.100s, which is no registry "
                    "of Google and can use the token itself; set other credentials if this is a "
                    "mistake",
                    settings->host, host);
}

void config_warn_of_credentials(struct config_reader *reader,
                                const struct upstream_settings *settings) {
    const struct credential_source *source = settings->credentials;
    if (!source || strcmp(credential_source_name(source), "anonymous") == 0)
        return;
    warn_of_one(reader, settings, settings->url);
    const char *const *fallback = settings->fallbacks;
    for (; credential_source_is_by_host(source) && fallback && *fallback; fallback++)
        warn_of_one(reader, settings, *fallback);
}
