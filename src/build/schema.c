/* The keys of a Cloud Build file, and what stands under each. */
#include "build/schema.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "base/json.h"
#include "base/yaml_tree.h"

enum kind {
    KIND_STRING,
    KIND_NUMBER,   /* a whole number; JSON's int64 is a string */
    KIND_BOOLEAN,  /* true or false */
    KIND_DURATION, /* "600s", "3.5s" */
    KIND_WORD,     /* one of a list */
    KIND_STRINGS,
    KIND_NUMBERS, /* 32 bits each: numbers in JSON, too */
    KIND_STRING_MAP,
    KIND_MESSAGE,
    KIND_MESSAGES,
    KIND_OUTPUT, /* the service fills it in */
};

struct message;

struct field {
    const char *name; /* in camelCase */
    enum kind kind;
    const struct message *of;  /* MESSAGE, MESSAGES */
    const char *const *values; /* WORD; NULL-terminated */
};

struct message {
    const struct field *fields;
    size_t count;
};

#define MESSAGE(table)                                                                             \
    { table, sizeof(table) / sizeof *(table) }

/* ---- the tables ---- */

static const struct field volume_fields[] = {{"name", KIND_STRING}, {"path", KIND_STRING}};
static const struct message volume = MESSAGE(volume_fields);

static const struct field step_fields[] = {
    {"name", KIND_STRING},
    {"args", KIND_STRINGS},
    {"env", KIND_STRINGS},
    {"entrypoint", KIND_STRING},
    {"dir", KIND_STRING},
    {"id", KIND_STRING},
    {"waitFor", KIND_STRINGS},
    {"secretEnv", KIND_STRINGS},
    {"volumes", KIND_MESSAGES, &volume},
    {"timeout", KIND_DURATION},
    {"script", KIND_STRING},
    {"allowFailure", KIND_BOOLEAN},
    {"allowExitCodes", KIND_NUMBERS},
    {"automapSubstitutions", KIND_BOOLEAN},
    {"timing", KIND_OUTPUT},
    {"pullTiming", KIND_OUTPUT},
    {"status", KIND_OUTPUT},
    {"exitCode", KIND_OUTPUT},
};
static const struct message step = MESSAGE(step_fields);

static const char *const substitution_options[] = {"MUST_MATCH", "ALLOW_LOOSE", NULL};
static const char *const log_streaming[] = {"STREAM_DEFAULT", "STREAM_ON", "STREAM_OFF", NULL};
static const char *const loggings[] = {
    "LOGGING_UNSPECIFIED", "LEGACY", "GCS_ONLY", "STACKDRIVER_ONLY",
    "CLOUD_LOGGING_ONLY",  "NONE",   NULL};
static const char *const bucket_behaviors[] = {"DEFAULT_LOGS_BUCKET_BEHAVIOR_UNSPECIFIED",
                                               "REGIONAL_USER_OWNED_BUCKET", "LEGACY_BUCKET", NULL};
static const char *const verify_options[] = {"NOT_VERIFIED", "VERIFIED", NULL};
static const char *const hashes[] = {"NONE", "SHA256", "MD5", "GO_MODULE_H1", "SHA512", NULL};

static const struct field pool_fields[] = {{"name", KIND_STRING}};
static const struct message pool = MESSAGE(pool_fields);

static const struct field option_fields[] = {
    {"machineType", KIND_STRING},
    {"diskSizeGb", KIND_NUMBER},
    {"substitutionOption", KIND_WORD, .values = substitution_options},
    {"dynamicSubstitutions", KIND_BOOLEAN},
    {"automapSubstitutions", KIND_BOOLEAN},
    {"logStreamingOption", KIND_WORD, .values = log_streaming},
    {"logging", KIND_WORD, .values = loggings},
    {"pool", KIND_MESSAGE, &pool},
    {"workerPool", KIND_STRING},
    {"env", KIND_STRINGS},
    {"secretEnv", KIND_STRINGS},
    {"volumes", KIND_MESSAGES, &volume},
    {"defaultLogsBucketBehavior", KIND_WORD, .values = bucket_behaviors},
    {"requestedVerifyOption", KIND_WORD, .values = verify_options},
    {"sourceProvenanceHash", KIND_STRINGS, .values = hashes},
    {"enableStructuredLogging", KIND_BOOLEAN},
    {"pubsubTopic", KIND_STRING},
};
static const struct message options = MESSAGE(option_fields);

static const struct field objects_fields[] = {
    {"location", KIND_STRING}, {"paths", KIND_STRINGS}, {"timing", KIND_OUTPUT}};
static const struct message objects = MESSAGE(objects_fields);
static const struct field maven_fields[] = {{"repository", KIND_STRING},
                                            {"path", KIND_STRING},
                                            {"artifactId", KIND_STRING},
                                            {"groupId", KIND_STRING},
                                            {"version", KIND_STRING}};
static const struct message maven = MESSAGE(maven_fields);
static const struct field python_fields[] = {{"repository", KIND_STRING}, {"paths", KIND_STRINGS}};
static const struct message python = MESSAGE(python_fields);
static const struct field npm_fields[] = {{"repository", KIND_STRING},
                                          {"packagePath", KIND_STRING}};
static const struct message npm = MESSAGE(npm_fields);
static const struct field go_fields[] = {
    {"repositoryName", KIND_STRING},      {"repositoryLocation", KIND_STRING},
    {"repositoryProjectId", KIND_STRING}, {"sourcePath", KIND_STRING},
    {"modulePath", KIND_STRING},          {"moduleVersion", KIND_STRING}};
static const struct message go = MESSAGE(go_fields);

static const struct field artifact_fields[] = {
    {"images", KIND_STRINGS},
    {"objects", KIND_MESSAGE, &objects},
    {"mavenArtifacts", KIND_MESSAGES, &maven},
    {"pythonPackages", KIND_MESSAGES, &python},
    {"npmPackages", KIND_MESSAGES, &npm},
    {"goModules", KIND_MESSAGES, &go},
};
static const struct message artifacts = MESSAGE(artifact_fields);

static const struct field secret_fields[] = {{"kmsKeyName", KIND_STRING},
                                             {"secretEnv", KIND_STRING_MAP}};
static const struct message secret = MESSAGE(secret_fields);
static const struct field manager_fields[] = {{"versionName", KIND_STRING}, {"env", KIND_STRING}};
static const struct message manager = MESSAGE(manager_fields);
static const struct field inline_fields[] = {{"kmsKeyName", KIND_STRING},
                                             {"envMap", KIND_STRING_MAP}};
static const struct message inline_secret = MESSAGE(inline_fields);
static const struct field available_fields[] = {{"secretManager", KIND_MESSAGES, &manager},
                                                {"inline", KIND_MESSAGES, &inline_secret}};
static const struct message available = MESSAGE(available_fields);

static const struct field build_fields[] = {
    {"steps", KIND_MESSAGES, &step},
    {"images", KIND_STRINGS},
    {"tags", KIND_STRINGS},
    {"substitutions", KIND_STRING_MAP},
    {"timeout", KIND_DURATION},
    {"queueTtl", KIND_DURATION},
    {"logsBucket", KIND_STRING},
    {"serviceAccount", KIND_STRING},
    {"options", KIND_MESSAGE, &options},
    {"artifacts", KIND_MESSAGE, &artifacts},
    {"secrets", KIND_MESSAGES, &secret},
    {"availableSecrets", KIND_MESSAGE, &available},
    {"approval", KIND_OUTPUT},
    {"buildTriggerId", KIND_OUTPUT},
    {"createTime", KIND_OUTPUT},
    {"failureInfo", KIND_OUTPUT},
    {"finishTime", KIND_OUTPUT},
    {"id", KIND_OUTPUT},
    {"logUrl", KIND_OUTPUT},
    {"name", KIND_OUTPUT},
    {"projectId", KIND_OUTPUT},
    {"results", KIND_OUTPUT},
    {"source", KIND_OUTPUT},
    {"sourceProvenance", KIND_OUTPUT},
    {"startTime", KIND_OUTPUT},
    {"status", KIND_OUTPUT},
    {"statusDetail", KIND_OUTPUT},
    {"timing", KIND_OUTPUT},
    {"warnings", KIND_OUTPUT},
};
static const struct message build = MESSAGE(build_fields);

/* ---- reading ---- */

struct reading {
    char path[200]; /* the key that is read: "steps[0].args" */
    struct error *error;
};

static bool refuse(const struct reading *reading, const struct yaml_place *place,
                   const char *what) {
    return error_set(reading->error, ERROR_INVALID, "%s:%u:%u: %s%s%s", place->source, place->line,
                     place->column, reading->path, reading->path[0] ? ": " : "", what);
}

static bool out_of_memory(const struct reading *reading) {
    return error_set(reading->error, ERROR_MEMORY, "out of memory");
}

/* Goes on with a part of the value; returns the length to go back to. */
static size_t enter(struct reading *reading, const char *key, size_t index) {
    size_t length = strlen(reading->path);
    char *end = reading->path + length;
    if (key)
        snprintf(end, sizeof reading->path - length, "%s%s", length ? "." : "", key);
    else
        snprintf(end, sizeof reading->path - length, "[%zu]", index);
    return length;
}

static void leave(struct reading *reading, size_t length) {
    reading->path[length] = '\0';
}

/* "wait_for" is "waitFor". False: it does not fit. */
static bool camel_case(const char *key, char *out, size_t size) {
    size_t length = 0;
    for (; *key && length + 1 < size; key++) {
        bool joins = *key == '_' && islower((unsigned char)key[1]) && length > 0;
        out[length++] = (char)(joins ? toupper((unsigned char)*++key) : *key);
    }
    out[length] = '\0';
    return !*key;
}

static const struct field *find_field(const struct message *message, const char *key) {
    char name[64];
    if (!camel_case(key, name, sizeof name))
        return NULL;
    for (size_t i = 0; i < message->count; i++)
        if (strcmp(message->fields[i].name, name) == 0)
            return &message->fields[i];
    return NULL;
}

static bool is_scalar(const struct yaml_node *node) {
    return node->kind == YAML_SCALAR && !yaml_node_is_null(node);
}

static bool is_whole_number(const char *text) {
    size_t length = strspn(text, "0123456789");
    return length > 0 && length <= 18 && !text[length];
}

static bool is_duration(const char *text) {
    size_t whole = strspn(text, "0123456789");
    const char *rest = text + whole;
    if (*rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    return whole > 0 && whole <= 12 && strcmp(rest, "s") == 0 && rest[-1] != '.';
}

static bool is_one_of(const char *const *values, const char *text) {
    for (; *values; values++)
        if (strcmp(*values, text) == 0)
            return true;
    return false;
}

static bool refuse_word(const struct reading *reading, const struct yaml_node *node,
                        const char *const *values) {
    char text[160] = "it must be one of";
    for (size_t i = 0; values[i]; i++) {
        size_t length = strlen(text);
        snprintf(text + length, sizeof text - length, "%s %s", i ? "," : "", values[i]);
    }
    return refuse(reading, &node->place, text);
}

static json_t *read_message(struct reading *reading, const struct message *message,
                            const struct yaml_node *node);

static json_t *read_scalar(struct reading *reading, const struct field *field,
                           const struct yaml_node *node) {
    if (!is_scalar(node))
        return refuse(reading, &node->place, "it must be a text, not a list or a mapping") ? NULL
                                                                                           : NULL;
    const char *text = node->text;
    bool is_true = strcmp(text, "true") == 0;
    if (field->values && !is_one_of(field->values, text))
        refuse_word(reading, node, field->values);
    else if (field->kind == KIND_NUMBER && !is_whole_number(text))
        refuse(reading, &node->place, "it must be a whole number");
    else if (field->kind == KIND_DURATION && !is_duration(text))
        refuse(reading, &node->place, "it must be seconds with an s behind them, such as 1200s");
    else if (field->kind == KIND_BOOLEAN && !is_true && strcmp(text, "false") != 0)
        refuse(reading, &node->place, "it must be true or false");
    else {
        json_t *json = field->kind == KIND_BOOLEAN ? json_boolean(is_true) : json_string(text);
        if (!json) /* the text is UTF-8, because YAML is */
            out_of_memory(reading);
        return json;
    }
    return NULL;
}

static json_t *read_number(struct reading *reading, const struct yaml_node *node) {
    uint64_t number;
    if (is_scalar(node) && text_to_u64(text_of(node->text), &number) && number <= INT32_MAX)
        return json_integer((json_int_t)number);
    refuse(reading, &node->place, "it must be a whole number");
    return NULL;
}

/* One item of a list. */
static json_t *read_item(struct reading *reading, const struct field *field,
                         const struct yaml_node *node) {
    if (field->kind == KIND_MESSAGES)
        return read_message(reading, field->of, node);
    if (field->kind == KIND_NUMBERS)
        return read_number(reading, node);
    return read_scalar(reading, &(struct field){field->name, KIND_STRING, NULL, field->values},
                       node);
}

static json_t *read_list(struct reading *reading, const struct field *field,
                         const struct yaml_node *node) {
    if (node->kind != YAML_LIST) {
        refuse(reading, &node->place, "it must be a list");
        return NULL;
    }
    json_t *list = json_array();
    size_t index = 0;
    for (const struct yaml_node *item = node->first; list && item; item = item->next) {
        size_t length = enter(reading, NULL, index++);
        json_t *json = read_item(reading, field, item);
        leave(reading, length);
        if (!json || json_array_append_new(list, json) != 0) {
            if (json)
                out_of_memory(reading);
            json_decref(list);
            return NULL;
        }
    }
    if (!list)
        out_of_memory(reading);
    return list;
}

static json_t *read_string_map(struct reading *reading, const struct yaml_node *node) {
    static const struct field string = {"", KIND_STRING};
    if (node->kind != YAML_MAP) {
        refuse(reading, &node->place, "it must be a mapping of names to texts");
        return NULL;
    }
    json_t *map = json_object();
    for (const struct yaml_node *item = node->first; map && item; item = item->next) {
        size_t length = enter(reading, item->key, 0);
        json_t *json = read_scalar(reading, &string, item);
        leave(reading, length);
        if (!json || json_object_set_new(map, item->key, json) != 0) {
            if (json)
                out_of_memory(reading);
            json_decref(map);
            return NULL;
        }
    }
    if (!map)
        out_of_memory(reading);
    return map;
}

static json_t *read_value(struct reading *reading, const struct field *field,
                          const struct yaml_node *node) {
    switch (field->kind) {
    case KIND_OUTPUT:
        refuse(reading, &node->key_place,
               strcmp(field->name, "source") == 0
                   ? "the source is the folder that tarn build is given, and cannot stand here"
                   : "the service fills this in, and it cannot be given");
        return NULL;
    case KIND_STRINGS:
    case KIND_NUMBERS:
    case KIND_MESSAGES:
        return read_list(reading, field, node);
    case KIND_STRING_MAP:
        return read_string_map(reading, node);
    case KIND_MESSAGE:
        return read_message(reading, field->of, node);
    default:
        return read_scalar(reading, field, node);
    }
}

static bool read_field(struct reading *reading, const struct message *message,
                       const struct yaml_node *node, json_t *out) {
    const struct field *field = find_field(message, node->key);
    if (!field)
        return refuse(reading, &node->key_place, "no such key");
    if (json_object_get(out, field->name))
        return refuse(reading, &node->key_place, "it stands here twice");
    if (yaml_node_is_null(node))
        return true;
    json_t *json = read_value(reading, field, node);
    if (!json)
        return reading->error && reading->error->kind != ERROR_NONE ? false
                                                                    : out_of_memory(reading);
    return json_object_set_new(out, field->name, json) == 0 || out_of_memory(reading);
}

static json_t *read_message(struct reading *reading, const struct message *message,
                            const struct yaml_node *node) {
    if (node->kind != YAML_MAP) {
        refuse(reading, &node->place, "it must be a mapping");
        return NULL;
    }
    json_t *out = json_object();
    for (const struct yaml_node *item = node->first; out && item; item = item->next) {
        size_t length = enter(reading, item->key, 0);
        bool ok = read_field(reading, message, item, out);
        leave(reading, length);
        if (!ok) {
            json_decref(out);
            return NULL;
        }
    }
    if (!out)
        out_of_memory(reading);
    return out;
}

json_t *schema_read(struct text bytes, const char *name, struct error *error) {
    struct yaml_problem problem;
    struct error own = {0};
    struct reading reading = {.error = error ? error : &own};
    cleanup_yaml_node struct yaml_node *root = NULL;
    if (!yaml_read(bytes, name, &problem, &root)) {
        error_set(error, problem.is_memory ? ERROR_MEMORY : ERROR_INVALID, "%s:%u:%u: %s", name,
                  problem.place.line, problem.place.column, problem.text);
        return NULL;
    }
    json_t *json = root ? read_message(&reading, &build, root) : NULL;
    if (!root || (json && json_array_size(json_object_get(json, "steps")) == 0)) {
        const struct yaml_place place = {name, 1, 1};
        refuse(&reading, root ? &root->place : &place, "steps: a build needs at least one step");
        json_decref(json);
        return NULL;
    }
    return json;
}
