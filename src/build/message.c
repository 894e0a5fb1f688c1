/* Composes and checks a Build message. */
#include "build/message.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "build/substitution.h"
#include "oci/reference.h"

/* Cloud Build's own image of the docker program. */
#define DOCKER_IMAGE "gcr.io/cloud-builders/docker"

enum { DISK_MOST_GB = 4000 };

static bool out_of_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* The object or array under `key`, made when it is absent. NULL: out of memory. */
static json_t *object_in(json_t *parent, const char *key) {
    json_t *child = json_object_get(parent, key);
    if (!child && json_object_set_new(parent, key, child = json_object()) != 0)
        return NULL;
    return child;
}

static json_t *array_in(json_t *parent, const char *key) {
    json_t *child = json_object_get(parent, key);
    if (!child && json_object_set_new(parent, key, child = json_array()) != 0)
        return NULL;
    return child;
}

static bool set_string(json_t *object, const char *key, const char *value) {
    return json_object_set_new(object, key, json_string(value)) == 0;
}

static bool add_string(json_t *array, const char *value) {
    return json_array_append_new(array, json_string(value)) == 0;
}

static bool has_string(const json_t *array, const char *value) {
    size_t index;
    json_t *item;
    json_array_foreach (array, index, item) {
        if (json_is_string(item) && strcmp(json_string_value(item), value) == 0)
            return true;
    }
    return false;
}

/* ---- names ---- */

bool message_image(const char *image, char *out, size_t size, struct error *error) {
    struct image_name name;
    if (!image_name_parse(text_of(image), &name, NULL) || !name.host[0] || name.reference.is_digest)
        return error_set(error, ERROR_INVALID,
                         "%.200s is no image to push: HOST/NAME:TAG is wanted", image);
    int length = snprintf(out, size, "%s/%s:%s", name.host, name.repository, name.reference.tag);
    return (length >= 0 && (size_t)length < size) || out_of_memory(error);
}

/* "e2-highcpu-8" is E2_HIGHCPU_8. */
static void machine_name(const char *text, char *out, size_t size) {
    size_t length = 0;
    for (; *text && length + 1 < size; text++)
        out[length++] = *text == '-' ? '_' : (char)toupper((unsigned char)*text);
    out[length] = '\0';
}

/* ---- the step of a Dockerfile ---- */

/* Pulls the first image, so that its layers need not be built again; there may be none yet. */
static bool add_cache_step(json_t *steps, const char *image) {
    json_t *step =
        json_pack("{s:s, s:s, s:s, s:[s, s, s]}", "name", DOCKER_IMAGE, "id", "cache", "entrypoint",
                  "sh", "args", "-c", "docker pull \"$$0\" || true", image);
    return json_array_append_new(steps, step) == 0;
}

static bool add_secrets(json_t *step, json_t *args, const char *const *secrets) {
    for (size_t i = 0; secrets && secrets[i]; i++) {
        const int length = (int)strcspn(secrets[i], "=");
        json_t *names = array_in(step, "secretEnv");
        json_t *name = json_sprintf("%.*s", length, secrets[i]);
        if (json_array_append_new(names, name) != 0 || !add_string(args, "--secret") ||
            !json_array_append_printf(args, "id=%.*s,env=%.*s", length, secrets[i], length,
                                      secrets[i]))
            return false;
    }
    return true;
}

static bool fill_docker_args(const struct message_wish *wish, json_t *args) {
    bool ok = add_string(args, "build");
    for (size_t i = 0; wish->images[i]; i++)
        ok = ok && add_string(args, "--tag") && add_string(args, wish->images[i]);
    ok = ok && add_string(args, "--file") && add_string(args, wish->dockerfile);
    for (size_t i = 0; wish->build_args && wish->build_args[i]; i++)
        ok = ok && add_string(args, "--build-arg") && add_string(args, wish->build_args[i]);
    if (wish->target)
        ok = ok && add_string(args, "--target") && add_string(args, wish->target);
    if (wish->platform)
        ok = ok && add_string(args, "--platform") && add_string(args, wish->platform);
    if (wish->cache)
        ok = ok && add_string(args, "--cache-from") && add_string(args, wish->images[0]) &&
             add_string(args, "--build-arg") && add_string(args, "BUILDKIT_INLINE_CACHE=1");
    return ok;
}

/* A dollar sign of the command line is one for docker, too: the service would take it for a
 * substitution. */
static bool escape_dollars(json_t *args) {
    size_t index;
    json_t *item;
    json_array_foreach (args, index, item) {
        cleanup_buffer struct buffer text = {0};
        const char *value = json_string_value(item);
        if (!strchr(value, '$'))
            continue;
        for (; *value; value++)
            buffer_append(&text, *value == '$' ? "$$" : value, *value == '$' ? 2 : 1);
        if (text.failed || json_array_set_new(args, index, json_string(text.bytes)) != 0)
            return false;
    }
    return true;
}

static bool add_docker_step(const struct message_wish *wish, json_t *steps) {
    json_t *step = json_pack("{s:s, s:s, s:[], s:[s]}", "name", DOCKER_IMAGE, "id", "build", "args",
                             "env", "DOCKER_BUILDKIT=1");
    if (json_array_append_new(steps, step) != 0)
        return false;
    json_t *args = json_object_get(step, "args");
    return fill_docker_args(wish, args) && add_secrets(step, args, wish->secrets) &&
           add_string(args, ".") && escape_dollars(args);
}

/* ---- what the command line adds ---- */

static bool add_images(const struct message_wish *wish, json_t *message) {
    json_t *images = array_in(message, "images");
    for (size_t i = 0; wish->images[i]; i++)
        if (!has_string(images, wish->images[i]) && !add_string(images, wish->images[i]))
            return false;
    return images != NULL;
}

static bool add_substitutions(const struct message_wish *wish, json_t *message,
                              struct error *error) {
    for (size_t i = 0; wish->substitutions && wish->substitutions[i]; i++) {
        struct text value, name = text_cut(text_of(wish->substitutions[i]), '=', &value);
        cleanup_free char *key = text_dup(name);
        if (!value.at || !substitution_is_own(name))
            return error_set(error, ERROR_INVALID,
                             "--substitution %.100s: _NAME=VALUE is wanted, and the name has "
                             "capitals, digits and _",
                             wish->substitutions[i]);
        json_t *map = object_in(message, "substitutions");
        if (!key || !map || !set_string(map, key, value.at))
            return out_of_memory(error);
    }
    return true;
}

/* "projects/P/secrets/S/versions/V", as Secret Manager names a version. */
static bool is_secret_version(struct text text) {
    static const char *const parts[] = {"projects", NULL, "secrets", NULL, "versions", NULL};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct text part = text_cut(text, '/', &text);
        if (part.length == 0 || (parts[i] && !text_is(part, parts[i])))
            return false;
    }
    return !text.at;
}

static bool is_variable(struct text name) {
    for (size_t i = 0; i < name.length; i++)
        if (!isalnum((unsigned char)name.at[i]) && name.at[i] != '_')
            return false;
    return name.length > 0 && !isdigit((unsigned char)name.at[0]);
}

static bool add_secret_versions(const struct message_wish *wish, json_t *message,
                                struct error *error) {
    for (size_t i = 0; wish->secrets && wish->secrets[i]; i++) {
        struct text version, name = text_cut(text_of(wish->secrets[i]), '=', &version);
        if (!version.at || !is_variable(name) || !is_secret_version(version))
            return error_set(error, ERROR_INVALID,
                             "--secret %.150s: ENV=projects/P/secrets/S/versions/V is wanted",
                             wish->secrets[i]);
        json_t *available = object_in(message, "availableSecrets");
        json_t *list = available ? array_in(available, "secretManager") : NULL;
        json_t *secret =
            json_pack("{s:s, s:s%}", "versionName", version.at, "env", name.at, name.length);
        if (json_array_append_new(list, secret) != 0)
            return out_of_memory(error);
    }
    return true;
}

static bool add_tags(const struct message_wish *wish, json_t *message, struct error *error) {
    for (size_t i = 0; wish->tags && wish->tags[i]; i++) {
        size_t length = strlen(wish->tags[i]);
        bool sound = length > 0 && length <= 128 && isalnum((unsigned char)wish->tags[i][0]);
        for (size_t j = 0; sound && j < length; j++)
            sound = isalnum((unsigned char)wish->tags[i][j]) || strchr("_.-", wish->tags[i][j]);
        if (!sound)
            return error_set(error, ERROR_INVALID,
                             "--build-tag %.150s: letters, digits, _, . and - are allowed, and the "
                             "first is a letter or a digit",
                             wish->tags[i]);
        json_t *tags = array_in(message, "tags");
        if (!has_string(tags, wish->tags[i]) && !add_string(tags, wish->tags[i]))
            return out_of_memory(error);
    }
    return true;
}

static bool set_pool(const struct message_wish *wish, json_t *options, struct error *error) {
    if (strcmp(wish->region, "global") == 0 && !strchr(wish->pool, '/'))
        return error_set(error, ERROR_INVALID,
                         "--pool %.100s needs --region, because a private pool is in a region",
                         wish->pool);
    json_t *name = strchr(wish->pool, '/') ? json_string(wish->pool)
                                           : json_sprintf("projects/%s/locations/%s/workerPools/%s",
                                                          wish->project, wish->region, wish->pool);
    json_t *pool = object_in(options, "pool");
    if (!name || !pool || json_object_set_new(pool, "name", name) != 0)
        return out_of_memory(error);
    return !json_object_get(options, "machineType") ||
           error_set(error, ERROR_INVALID,
                     "a private pool has its own machines: leave --machine-type out");
}

static bool set_machine(const struct message_wish *wish, json_t *message, struct error *error) {
    char machine[64];
    if (!wish->machine_type && !wish->disk_size_gb && !wish->pool)
        return true;
    json_t *options = object_in(message, "options");
    if (!options)
        return out_of_memory(error);
    if (wish->disk_size_gb > DISK_MOST_GB)
        return error_set(error, ERROR_INVALID, "--disk-size: Cloud Build has at most %d GB",
                         DISK_MOST_GB);
    if (wish->machine_type) {
        machine_name(wish->machine_type, machine, sizeof machine);
        if (!set_string(options, "machineType", machine))
            return out_of_memory(error);
    }
    if (wish->disk_size_gb &&
        json_object_set_new(options, "diskSizeGb",
                            json_sprintf("%lld", (long long)wish->disk_size_gb)) != 0)
        return out_of_memory(error);
    return !wish->pool || set_pool(wish, options, error);
}

static bool set_account(const struct message_wish *wish, json_t *message) {
    if (!wish->service_account)
        return true;
    json_t *name =
        strchr(wish->service_account, '/')
            ? json_string(wish->service_account)
            : json_sprintf("projects/%s/serviceAccounts/%s", wish->project, wish->service_account);
    return json_object_set_new(message, "serviceAccount", name) == 0;
}

/* The log goes where the caller can read it, unless the file says otherwise. */
static bool set_logs(const struct message_wish *wish, json_t *message) {
    const json_t *options = json_object_get(message, "options");
    if (json_object_get(message, "logsBucket") || json_object_get(options, "logging") ||
        json_object_get(options, "defaultLogsBucketBehavior"))
        return true;
    json_t *own = object_in(message, "options");
    return own && set_string(own, "logging", "GCS_ONLY") &&
           json_object_set_new(message, "logsBucket", json_sprintf("gs://%s", wish->logs_bucket)) ==
               0;
}

static bool set_timeout(const struct message_wish *wish, json_t *message) {
    return !wish->timeout_s ||
           json_object_set_new(message, "timeout",
                               json_sprintf("%llds", (long long)wish->timeout_s)) == 0;
}

/* ---- checks ---- */

/* A step's `id` is there once, and `waitFor` names earlier ones. */
static bool check_ids(const json_t *steps, struct error *error) {
    cleanup_json json_t *seen = json_object();
    size_t index, at;
    json_t *step, *item;
    json_array_foreach (steps, index, step) {
        const char *id = json_string_value(json_object_get(step, "id"));
        if (!json_string_length(json_object_get(step, "name")))
            return error_set(error, ERROR_INVALID, "steps[%zu] has no name: the image that runs",
                             index);
        json_array_foreach (json_object_get(step, "waitFor"), at, item) {
            const char *other = json_string_value(item);
            if (strcmp(other, "-") != 0 && !json_object_get(seen, other))
                return error_set(error, ERROR_INVALID,
                                 "steps[%zu].waitFor: no step before it has the id %.100s", index,
                                 other);
        }
        if (id && json_object_get(seen, id))
            return error_set(error, ERROR_INVALID, "steps[%zu].id: %.100s is another step's", index,
                             id);
        if (id && json_object_set_new(seen, id, json_true()) != 0)
            return out_of_memory(error);
    }
    return true;
}

/* Whether a list of secrets has this name. */
static bool has_secret(const json_t *message, const char *name) {
    const json_t *available = json_object_get(message, "availableSecrets");
    size_t index;
    json_t *item;
    json_array_foreach (json_object_get(available, "secretManager"), index, item) {
        const char *own = json_string_value(json_object_get(item, "env"));
        if (own && strcmp(own, name) == 0)
            return true;
    }
    json_array_foreach (json_object_get(available, "inline"), index, item) {
        if (json_object_get(json_object_get(item, "envMap"), name))
            return true;
    }
    json_array_foreach (json_object_get(message, "secrets"), index, item) {
        if (json_object_get(json_object_get(item, "secretEnv"), name))
            return true;
    }
    return false;
}

static bool check_secrets(const json_t *message, struct error *error) {
    size_t index, at;
    json_t *step, *item;
    json_array_foreach (json_object_get(message, "steps"), index, step) {
        json_array_foreach (json_object_get(step, "secretEnv"), at, item) {
            if (!has_secret(message, json_string_value(item)))
                return error_set(error, ERROR_INVALID,
                                 "steps[%zu].secretEnv: %.100s is none of availableSecrets", index,
                                 json_string_value(item));
        }
    }
    return true;
}

/* With an account of the user's, the service has no log bucket of its own. */
static bool check_logs(const json_t *message, struct error *error) {
    const json_t *options = json_object_get(message, "options");
    const char *logging = json_string_value(json_object_get(options, "logging"));
    const char *behavior = json_string_value(json_object_get(options, "defaultLogsBucketBehavior"));
    bool elsewhere =
        logging && (strcmp(logging, "CLOUD_LOGGING_ONLY") == 0 || strcmp(logging, "NONE") == 0);
    bool regional = behavior && strcmp(behavior, "REGIONAL_USER_OWNED_BUCKET") == 0;
    return !json_object_get(message, "serviceAccount") || json_object_get(message, "logsBucket") ||
           elsewhere || regional ||
           error_set(error, ERROR_INVALID,
                     "with a service account, the build file must name a logsBucket, or set "
                     "options.logging to CLOUD_LOGGING_ONLY or NONE, or "
                     "options.defaultLogsBucketBehavior to REGIONAL_USER_OWNED_BUCKET");
}

/* ---- all of it ---- */

static json_t *begin(const struct message_wish *wish) {
    if (wish->file)
        return json_deep_copy(wish->file);
    json_t *message = json_pack("{s:[]}", "steps");
    json_t *steps = json_object_get(message, "steps");
    if (steps && (!wish->cache || add_cache_step(steps, wish->images[0])) &&
        add_docker_step(wish, steps))
        return message;
    json_decref(message);
    return NULL;
}

static bool fill(const struct message_wish *wish, json_t *message, struct error *error) {
    return add_substitutions(wish, message, error) && add_secret_versions(wish, message, error) &&
           add_tags(wish, message, error) && set_machine(wish, message, error) &&
           ((add_images(wish, message) && set_account(wish, message) && set_logs(wish, message) &&
             set_timeout(wish, message)) ||
            out_of_memory(error));
}

json_t *message_make(const struct message_wish *wish, struct error *error) {
    json_t *message = begin(wish);
    if (!message) {
        out_of_memory(error);
        return NULL;
    }
    if (fill(wish, message, error) && check_ids(json_object_get(message, "steps"), error) &&
        check_secrets(message, error) && check_logs(message, error) &&
        substitution_check(message, error))
        return message;
    json_decref(message);
    return NULL;
}

bool message_set_source(json_t *message, const struct message_source *source) {
    json_t *json = source->git_url ? json_pack("{s:{s:s, s:s*}}", "gitSource", "url",
                                               source->git_url, "revision", source->git_revision)
                                   : json_pack("{s:{s:s, s:s, s:s*}}", "storageSource", "bucket",
                                               source->bucket, "object", source->object,
                                               "generation", source->generation);
    return json_object_set_new(message, "source", json) == 0;
}
