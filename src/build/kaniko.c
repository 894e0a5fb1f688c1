/* Composes the Job of a build. */
#include "build/kaniko.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "base/json.h"
#include "oci/reference.h"

enum { KEPT_S = 600 }; /* how long the cluster keeps a job that has ended */

static bool out_of_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

void kaniko_name(char out[static KANIKO_NAME_SIZE]) {
    uint32_t number = 0;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        number = (uint32_t)time(NULL);
    snprintf(out, KANIKO_NAME_SIZE, "tarn-build-%08x", number);
}

/* ---- the executor's arguments ---- */

/* Where the executor finds images: through a tarn, if there is one. */
static bool add_via(const struct kaniko_wish *wish, json_t *args) {
    if (!wish->via)
        return true;
    bool ok = json_array_append_printf(args, "--registry-mirror=%s/docker.io", wish->via);
    for (size_t i = 0; wish->hosts && wish->hosts[i]; i++)
        ok = ok && json_array_append_printf(args, "--registry-map=%s=%s/%s", wish->hosts[i],
                                            wish->via, wish->hosts[i]);
    return ok && (!wish->via_is_http ||
                  json_array_append_printf(args, "--insecure-registry=%s", wish->via));
}

static bool add_args(const struct kaniko_wish *wish, json_t *args) {
    bool ok = json_array_append_printf(args, "--context=%s", wish->context) &&
              json_array_append_printf(args, "--dockerfile=%s", wish->dockerfile) &&
              json_array_append_printf(args, "--digest-file=/dev/termination-log");
    for (size_t i = 0; wish->images[i]; i++)
        ok = ok && json_array_append_printf(args, "--destination=%s", wish->images[i]);
    for (size_t i = 0; wish->build_args && wish->build_args[i]; i++)
        ok = ok && json_array_append_printf(args, "--build-arg=%s", wish->build_args[i]);
    if (wish->target)
        ok = ok && json_array_append_printf(args, "--target=%s", wish->target);
    if (wish->platform)
        ok = ok && json_array_append_printf(args, "--custom-platform=%s", wish->platform);
    if (wish->cache)
        ok = ok && json_array_append_printf(args, "--cache=true");
    return ok && add_via(wish, args);
}

/* ---- the job ---- */

/* A quantity of Kubernetes: "500m", "16Gi". */
static bool is_quantity(const char *text) {
    size_t length = strspn(text, "0123456789.");
    static const char *const units[] = {"",  "m",  "k",  "M",  "G",  "T", "P",
                                        "E", "Ki", "Mi", "Gi", "Ti", NULL};
    for (size_t i = 0; length > 0 && units[i]; i++)
        if (strcmp(text + length, units[i]) == 0)
            return true;
    return false;
}

/* Requests and limits are the same, so that the pod is not the first to be evicted. */
static bool add_resources(const struct kaniko_wish *wish, json_t *container, struct error *error) {
    const struct {
        const char *option, *name, *value;
    } given[] = {{"--cpu", "cpu", wish->cpu}, {"--memory", "memory", wish->memory}};
    json_t *amounts = json_object();
    bool ok = amounts != NULL;
    for (size_t i = 0; ok && i < sizeof given / sizeof *given; i++) {
        if (given[i].value && !is_quantity(given[i].value)) {
            json_decref(amounts);
            return error_set(error, ERROR_INVALID, "%s %.40s: an amount such as %s is wanted",
                             given[i].option, given[i].value, i ? "16Gi" : "4 or 500m");
        }
        if (given[i].value)
            ok = json_object_set_new(amounts, given[i].name, json_string(given[i].value)) == 0;
    }
    if (ok && wish->storage_gib)
        ok = json_object_set_new(amounts, "ephemeral-storage",
                                 json_sprintf("%lldGi", (long long)wish->storage_gib)) == 0;
    if (ok && json_object_size(amounts) > 0)
        ok = json_object_set_new(container, "resources",
                                 json_pack("{s:O, s:O}", "requests", amounts, "limits", amounts)) ==
             0;
    json_decref(amounts);
    return ok || out_of_memory(error);
}

static bool add_node_selector(const struct kaniko_wish *wish, json_t *spec, struct error *error) {
    json_t *selector = json_object();
    if (!selector)
        return out_of_memory(error);
    for (size_t i = 0; wish->node_selector && wish->node_selector[i]; i++) {
        struct text value, key = text_cut(text_of(wish->node_selector[i]), '=', &value);
        if (!value.at || key.length == 0) {
            json_decref(selector);
            return error_set(error, ERROR_INVALID, "--node-selector %.100s: KEY=VALUE is wanted",
                             wish->node_selector[i]);
        }
        json_t *pair = json_pack("{s%:s}", key.at, key.length, value.at);
        json_object_update_new(selector, pair);
    }
    if (json_object_size(selector) == 0) {
        json_decref(selector);
        return true;
    }
    return json_object_set_new(spec, "nodeSelector", selector) == 0 || out_of_memory(error);
}

/* "KEY=VALUE:EFFECT", "KEY:EFFECT": a taint as kubectl writes it. */
static json_t *toleration(const char *text, struct error *error) {
    static const char *const effects[] = {"NoSchedule", "PreferNoSchedule", "NoExecute"};
    const char *colon = strrchr(text, ':');
    for (size_t i = 0; colon && colon > text && i < sizeof effects / sizeof *effects; i++) {
        if (strcmp(colon + 1, effects[i]) != 0)
            continue;
        struct text value, key = text_cut((struct text){text, (size_t)(colon - text)}, '=', &value);
        json_t *json =
            value.at ? json_pack("{s:s%, s:s, s:s%, s:s}", "key", key.at, key.length, "operator",
                                 "Equal", "value", value.at, value.length, "effect", effects[i])
                     : json_pack("{s:s%, s:s, s:s}", "key", key.at, key.length, "operator",
                                 "Exists", "effect", effects[i]);
        if (!json)
            out_of_memory(error);
        return json;
    }
    error_set(error, ERROR_INVALID,
              "--toleration %.100s: KEY=VALUE:EFFECT or KEY:EFFECT is wanted, and the effect is "
              "NoSchedule, PreferNoSchedule or NoExecute",
              text);
    return NULL;
}

static bool add_tolerations(const struct kaniko_wish *wish, json_t *spec, struct error *error) {
    for (size_t i = 0; wish->tolerations && wish->tolerations[i]; i++) {
        json_t *list = json_object_get(spec, "tolerations");
        if (!list && json_object_set_new(spec, "tolerations", list = json_array()) != 0)
            return out_of_memory(error);
        json_t *one = toleration(wish->tolerations[i], error);
        if (!one)
            return false;
        if (json_array_append_new(list, one) != 0)
            return out_of_memory(error);
    }
    return true;
}

static bool check_storage(const struct kaniko_wish *wish, struct error *error) {
    return wish->is_standard || wish->storage_gib <= KANIKO_AUTOPILOT_GIB ||
           error_set(error, ERROR_INVALID,
                     "--disk-size %lld: GKE Autopilot gives a pod at most %d GiB of ephemeral "
                     "storage, and Kaniko unpacks images there. What works: --with cloudbuild "
                     "--disk-size (up to 4000), tarn append for large folders, or, on nodes with "
                     "larger disks of a cluster that is no Autopilot, --standard-cluster",
                     (long long)wish->storage_gib, KANIKO_AUTOPILOT_GIB);
}

static json_t *make_spec(const struct kaniko_wish *wish) {
    return json_pack("{s:s, s:s*, s:b, s:[{s:s, s:s, s:[], s:s}]}", "restartPolicy", "Never",
                     "serviceAccountName", wish->service_account, "automountServiceAccountToken", 1,
                     "containers", "name", "kaniko", "image",
                     wish->image ? wish->image : KANIKO_IMAGE, "args", "terminationMessagePolicy",
                     "File");
}

static json_t *make_job(const struct kaniko_wish *wish, const char *name, json_t *spec) {
    json_t *labels = json_pack("{s:s, s:s}", "app.kubernetes.io/managed-by", "tarn-build",
                               "app.kubernetes.io/component", "build");
    json_t *job = json_pack("{s:s, s:s, s:{s:s, s:O}, s:{s:i, s:i, s:{s:{s:O}, s:O}}}",
                            "apiVersion", "batch/v1", "kind", "Job", "metadata", "name", name,
                            "labels", labels, "spec", "backoffLimit", 0, "ttlSecondsAfterFinished",
                            KEPT_S, "template", "metadata", "labels", labels, "spec", spec);
    json_decref(labels);
    if (job && wish->timeout_s)
        json_object_set_new(json_object_get(job, "spec"), "activeDeadlineSeconds",
                            json_integer(wish->timeout_s));
    return job;
}

json_t *kaniko_job(const struct kaniko_wish *wish, const char *name, struct error *error) {
    if (!check_storage(wish, error))
        return NULL;
    json_t *spec = make_spec(wish), *job = NULL;
    json_t *container = json_array_get(json_object_get(spec, "containers"), 0);
    if (!container || !add_args(wish, json_object_get(container, "args")))
        out_of_memory(error);
    else if (add_resources(wish, container, error) && add_node_selector(wish, spec, error) &&
             add_tolerations(wish, spec, error) && !(job = make_job(wish, name, spec)))
        out_of_memory(error);
    json_decref(spec);
    return job;
}

/* ---- the Dockerfile ---- */

static bool has_text(const json_t *list, struct text text) {
    size_t index;
    json_t *item;
    json_array_foreach (list, index, item) {
        if (text_is(text, json_string_value(item)))
            return true;
    }
    return false;
}

/* The next word of a line. Empty: there is none. */
static struct text next_word(struct text *line) {
    while (line->length > 0 && isspace((unsigned char)line->at[0]))
        *line = text_from(*line, 1);
    size_t length = 0;
    while (length < line->length && !isspace((unsigned char)line->at[length]))
        length++;
    struct text word = {line->at, length};
    *line = text_from(*line, length);
    return word;
}

bool kaniko_read_hosts(struct text dockerfile, json_t *hosts) {
    while (dockerfile.at && dockerfile.length > 0) {
        struct text rest, line = text_cut(dockerfile, '\n', &dockerfile);
        if (!text_is_nocase(next_word(&line), "FROM"))
            continue;
        struct text image = next_word(&line);
        while (text_starts(image, "--"))
            image = next_word(&line);
        struct text host = text_cut(image, '/', &rest);
        if (!rest.at || !reference_looks_like_host(host) || !reference_is_host(host) ||
            text_is(host, "docker.io") || has_text(hosts, host))
            continue;
        if (json_array_append_new(hosts, json_stringn(host.at, host.length)) != 0)
            return false;
    }
    return true;
}
