/* The config of an image that gets more layers. */
#include "copy/append_config.h"

#include <string.h>
#include <time.h>
#include "base/cleanup.h"
#include "base/json.h"

/* ---- what people give ---- */

bool append_is_pair(const char *text) {
    const char *sign = strchr(text, '=');
    return sign && sign != text;
}

json_t *append_words(const char *text) {
    const char *at = text + strspn(text, " \t\r\n");
    if (*at != '[')
        return *text ? json_pack("[s]", text) : json_array();
    json_t *words = bounded_json_load_by(0, text, strlen(text), NULL);
    bool ok = json_is_array(words);
    for (size_t i = 0; ok && i < json_array_size(words); i++)
        ok = json_is_string(json_array_get(words, i));
    if (ok)
        return words;
    json_decref(words);
    return NULL;
}

/* ---- reading ---- */

json_t *append_config_scratch(const struct copy_platform *platform) {
    json_t *config =
        json_pack("{s:s, s:s, s:{}, s:{s:s, s:[]}, s:[]}", "architecture", platform->architecture,
                  "os", platform->os, "config", "rootfs", "type", "layers", "diff_ids", "history");
    if (config && platform->variant[0] &&
        json_object_set_new(config, "variant", json_string(platform->variant)) != 0) {
        json_decref(config);
        return NULL;
    }
    return config;
}

/* The member is of this type, or null, or absent. */
static bool is_or_absent(const json_t *object, const char *name, json_type type) {
    const json_t *member = json_object_get(object, name);
    return !member || json_is_null(member) || json_typeof(member) == type;
}

static const char *find_fault(const json_t *config, size_t layer_count) {
    const json_t *rootfs = json_object_get(config, "rootfs");
    const json_t *diff_ids = json_object_get(rootfs, "diff_ids");
    const json_t *own = json_object_get(config, "config");
    if (!json_is_object(config))
        return "it is no object";
    if (!json_is_array(diff_ids))
        return "its rootfs has no list diff_ids";
    if (json_array_size(diff_ids) != layer_count)
        return "its rootfs.diff_ids are not as many as the manifest's layers";
    for (size_t i = 0; i < layer_count; i++)
        if (!json_is_string(json_array_get(diff_ids, i)))
            return "one of its rootfs.diff_ids is no string";
    if (!is_or_absent(config, "history", JSON_ARRAY) ||
        !is_or_absent(config, "config", JSON_OBJECT))
        return "its config or history has the wrong type";
    if (!is_or_absent(own, "Env", JSON_ARRAY) || !is_or_absent(own, "Labels", JSON_OBJECT))
        return "its config.Env or config.Labels has the wrong type";
    return NULL;
}

json_t *append_config_read(const struct buffer *bytes, size_t layer_count, struct error *error) {
    json_t *config = bounded_json_load(bytes->bytes, bytes->length, error);
    if (!config) {
        error_wrap(error, "the base's config");
        return NULL;
    }
    const char *fault = find_fault(config, layer_count);
    if (!fault)
        return config;
    error_set(error, ERROR_INVALID, "the base's config cannot be added to: %s", fault);
    json_decref(config);
    return NULL;
}

/* ---- changing ---- */

/* The member `name`, an array or an object; made by `make` if there is none. NULL: out of
 * memory. */
static json_t *member(json_t *object, const char *name, json_t *(*make)(void)) {
    json_t *is = json_object_get(object, name);
    if (is && !json_is_null(is))
        return is;
    return json_object_set_new(object, name, make()) == 0 ? json_object_get(object, name) : NULL;
}

/* Whether an entry of Env sets the variable whose name is the first `length` bytes of `pair`. */
static bool sets(const json_t *entry, const char *pair, size_t length) {
    const char *is = json_string_value(entry);
    return is && strncmp(is, pair, length) == 0 && (is[length] == '=' || is[length] == '\0');
}

/* Sets it where it stood first. Engines take the last one, so that no second may stay. */
static bool set_variable(json_t *list, const char *pair) {
    const size_t length = strcspn(pair, "=");
    size_t first = json_array_size(list);
    for (size_t i = json_array_size(list); i-- > 0;) {
        if (!sets(json_array_get(list, i), pair, length))
            continue;
        if (first < json_array_size(list))
            json_array_remove(list, first);
        first = i;
    }
    return first < json_array_size(list) ? json_array_set_new(list, first, json_string(pair)) == 0
                                         : json_array_append_new(list, json_string(pair)) == 0;
}

static bool set_variables(json_t *own, const struct append_changes *changes) {
    json_t *list = changes->env_count ? member(own, "Env", json_array) : NULL;
    bool ok = list || !changes->env_count;
    for (size_t i = 0; ok && i < changes->env_count; i++)
        ok = set_variable(list, changes->env[i]);
    return ok;
}

static bool set_labels(json_t *own, const struct append_changes *changes) {
    json_t *labels = changes->label_count ? member(own, "Labels", json_object) : NULL;
    bool ok = labels || !changes->label_count;
    for (size_t i = 0; ok && i < changes->label_count; i++) {
        const char *label = changes->labels[i], *sign = strchr(label, '=');
        cleanup_free char *key = strndup(label, (size_t)(sign - label));
        ok = key && json_object_set_new(labels, key, json_string(sign + 1)) == 0;
    }
    return ok;
}

/* Sets a member, or deletes it for an empty value. */
static bool set_words(json_t *own, const char *name, const char *text) {
    json_t *words = append_words(text);
    if (words && json_array_size(words) == 0) {
        json_decref(words);
        json_object_del(own, name);
        return true;
    }
    return json_object_set_new(own, name, words) == 0;
}

static bool set_string(json_t *own, const char *name, const char *value) {
    return !value || json_object_set_new(own, name, json_string(value)) == 0;
}

static bool change_own(json_t *config, const struct append_changes *changes) {
    json_t *own = member(config, "config", json_object);
    if (!own || !set_variables(own, changes) || !set_labels(own, changes))
        return false;
    if (changes->entrypoint) {
        /* The base's Cmd holds arguments of the base's entrypoint. */
        json_object_del(own, "Cmd");
        if (!set_words(own, "Entrypoint", changes->entrypoint))
            return false;
    }
    return (!changes->cmd || set_words(own, "Cmd", changes->cmd)) &&
           set_string(own, "User", changes->user) &&
           set_string(own, "WorkingDir", changes->workdir);
}

/* ---- history ---- */

static bool is_of_layer(const json_t *entry) {
    return !json_is_true(json_object_get(entry, "empty_layer"));
}

/* A base may tell nothing of its layers. Each layer has one entry then, because readers count
 * them. */
static bool fill_history(json_t *history, size_t base_layers) {
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(history); i++)
        count += is_of_layer(json_array_get(history, i));
    for (; count < base_layers; count++)
        if (json_array_append_new(history, json_pack("{s:s}", "created_by", "unknown")) != 0)
            return false;
    return true;
}

static bool add_layers(json_t *config, const struct append_layer *layers, size_t count,
                       const char *created) {
    char text[DIGEST_STRING_SIZE];
    json_t *diff_ids = json_object_get(json_object_get(config, "rootfs"), "diff_ids");
    json_t *history = member(config, "history", json_array);
    if (!history || !fill_history(history, json_array_size(diff_ids)))
        return false;
    for (size_t i = 0; i < count; i++) {
        json_t *entry =
            json_pack("{s:s, s:s}", "created", created, "created_by", layers[i].history);
        if (json_array_append_new(history, entry) != 0 ||
            json_array_append_new(diff_ids,
                                  json_string(digest_format(&layers[i].result.diff_id, text))) != 0)
            return false;
    }
    return true;
}

bool append_config_change(json_t *config, const struct append_changes *changes,
                          const struct append_layer *layers, size_t layer_count, int64_t created) {
    char text[sizeof "+292277026596-12-04T15:30:07Z" + 8];
    const time_t seconds = (time_t)created;
    struct tm parts;
    if (!gmtime_r(&seconds, &parts) || !strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts))
        return false;
    return json_object_set_new(config, "created", json_string(text)) == 0 &&
           change_own(config, changes) && add_layers(config, layers, layer_count, text);
}
