/* The pod that makes a node pull an image. */
#include "keep/pod.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "base/json.h"

#define CONTAINER "pull" /* its name */

/* ---- writing ---- */

void keep_pod_prefix(const char *tag, const char *digest, char out[static KEEP_POD_PREFIX_SIZE]) {
    size_t length = (size_t)snprintf(out, KEEP_POD_PREFIX_SIZE, "keep-");
    const char *from = tag && *tag                     ? tag
                       : digest && strchr(digest, ':') ? strchr(digest, ':') + 1
                                                       : "";
    size_t limit = tag && *tag ? KEEP_POD_PREFIX_SIZE - 2 : length + 12;
    for (; *from && length < limit; from++) {
        unsigned char byte = (unsigned char)*from;
        if (isalnum(byte) && byte < 0x80)
            out[length++] = (char)tolower(byte);
        else if (out[length - 1] != '-')
            out[length++] = '-';
    }
    if (out[length - 1] != '-')
        out[length++] = '-';
    out[length] = '\0';
}

/* Adds what is set of key and value. */
static void put_string(json_t *object, const char *key, const char *value) {
    if (value && *value)
        json_object_set_new(object, key, json_string(value));
}

static json_t *metadata_of(const struct keep_pod_wish *wish, const char *image) {
    char prefix[KEEP_POD_PREFIX_SIZE];
    keep_pod_prefix(wish->tag, wish->digest, prefix);
    json_t *labels = json_object(), *annotations = json_object();
    for (size_t i = 0; i < wish->pull->pod_label_count; i++)
        put_string(labels, wish->pull->pod_labels[i].key, wish->pull->pod_labels[i].value);
    for (size_t i = 0; i < wish->pull->pod_annotation_count; i++)
        put_string(annotations, wish->pull->pod_annotations[i].key,
                   wish->pull->pod_annotations[i].value);
    put_string(labels, "app.kubernetes.io/name", KEEP_POD_NAME);
    put_string(labels, "app.kubernetes.io/component", KEEP_POD_COMPONENT);
    put_string(labels, "app.kubernetes.io/managed-by", KEEP_POD_MANAGED_BY);
    put_string(labels, "tarn/keep", wish->keep);
    put_string(annotations, "tarn/image", image);
    put_string(annotations, "tarn/digest", wish->digest);
    put_string(annotations, "cluster-autoscaler.kubernetes.io/safe-to-evict", "true");
    put_string(annotations, "sidecar.istio.io/inject", "false");
    put_string(annotations, "linkerd.io/inject", "disabled");
    json_t *metadata = json_pack("{s:s, s:o, s:o}", "generateName", prefix, "labels", labels,
                                 "annotations", annotations);
    put_string(metadata, "namespace", wish->namespace);
    if (wish->owner_name && wish->owner_uid)
        json_object_set_new(metadata, "ownerReferences",
                            json_pack("[{s:s, s:s, s:s, s:s}]", "apiVersion", "v1", "kind", "Pod",
                                      "name", wish->owner_name, "uid", wish->owner_uid));
    return metadata;
}

static json_t *tolerations_of(const struct keep_nodes *nodes) {
    json_t *list = json_array();
    for (size_t i = 0; i < nodes->toleration_count; i++) {
        const struct keep_toleration *toleration = &nodes->tolerations[i];
        json_t *entry = json_object();
        put_string(entry, "key", toleration->key);
        put_string(entry, "operator", toleration->op);
        put_string(entry, "value", toleration->value);
        put_string(entry, "effect", toleration->effect);
        if (toleration->has_seconds)
            json_object_set_new(entry, "tolerationSeconds", json_integer(toleration->seconds));
        json_array_append_new(list, entry);
    }
    return list;
}

static json_t *container_of(const char *image, bool always) {
    json_t *amount = json_pack("{s:s, s:s}", "cpu", "1m", "memory", "16Mi");
    json_t *container = json_pack(
        "{s:s, s:s, s:s, s:[s], s:s, s:{s:O, s:o}, s:{s:b, s:b, s:{s:[s]}, s:b, s:i}}", "name",
        CONTAINER, "image", image, "imagePullPolicy", always ? "Always" : "IfNotPresent", "command",
        "/bin/true", "workingDir", "/", "resources", "requests", amount, "limits", amount,
        "securityContext", "allowPrivilegeEscalation", 0, "readOnlyRootFilesystem", 1,
        "capabilities", "drop", "ALL", "runAsNonRoot", 1, "runAsUser", 65532);
    return container;
}

bool keep_pod_write(const struct keep_pod_wish *wish, struct buffer *out) {
    const struct keep_pull *pull = wish->pull;
    cleanup_buffer struct buffer image = {0};
    buffer_append_string(&image, wish->name);
    if (wish->tag && *wish->tag)
        buffer_printf(&image, ":%s", wish->tag);
    if (wish->digest && *wish->digest &&
        (pull->by == KEEP_PULL_BY_DIGEST || !wish->tag || !*wish->tag))
        buffer_printf(&image, "@%s", wish->digest);
    if (image.failed)
        return false;
    json_t *spec =
        json_pack("{s:s, s:s, s:I, s:i, s:b, s:b, s:{s:b, s:i, s:i, s:{s:s}}, s:o, s:[o]}",
                  "nodeName", wish->node, "restartPolicy", "Never", "activeDeadlineSeconds",
                  (json_int_t)(pull->timeout_ms / 1000), "terminationGracePeriodSeconds", 1,
                  "automountServiceAccountToken", 0, "enableServiceLinks", 0, "securityContext",
                  "runAsNonRoot", 1, "runAsUser", 65532, "runAsGroup", 65532, "seccompProfile",
                  "type", "RuntimeDefault", "tolerations", tolerations_of(wish->nodes),
                  "containers", container_of(image.bytes, wish->always));
    put_string(spec, "serviceAccountName", pull->service_account);
    put_string(spec, "priorityClassName", pull->priority_class);
    if (pull->secret && *pull->secret)
        json_object_set_new(spec, "imagePullSecrets", json_pack("[{s:s}]", "name", pull->secret));
    cleanup_json json_t *pod = json_pack("{s:s, s:s, s:o, s:o}", "apiVersion", "v1", "kind", "Pod",
                                         "metadata", metadata_of(wish, image.bytes), "spec", spec);
    return bounded_json_dump(pod, JSON_COMPACT, out);
}

/* ---- reading ---- */

static bool is_one_of(const char *reason, const char *const *list) {
    for (; *list; list++) {
        if (strcmp(reason, *list) == 0)
            return true;
    }
    return false;
}

/* Control characters of a message become spaces, and it is cut. */
static void copy_message(const char *from, char *out, size_t size) {
    size_t length = 0;
    for (; *from && length + 1 < size; from++)
        out[length++] = (unsigned char)*from < 0x20 || *from == 0x7f ? ' ' : *from;
    while (length > 0 && ((unsigned char)out[length - 1] & 0xc0) == 0x80 && *from)
        length--; /* a character of UTF-8 that was cut */
    if (length > 0 && *from && (unsigned char)out[length - 1] >= 0xc0)
        length--;
    out[length] = '\0';
}

static void judge(struct keep_pod *out, enum keep_verdict verdict, const char *reason,
                  const char *message) {
    out->verdict = verdict;
    snprintf(out->reason, sizeof out->reason, "%s", reason);
    copy_message(message, out->message, sizeof out->message);
}

static const char *const after_pull[] = {"CreateContainerConfigError", "CreateContainerError",
                                         "RunContainerError",          "StartError",
                                         "ContainerCannotRun",         "CrashLoopBackOff",
                                         "PostStartHookError",         "PreStartHookError",
                                         "PreCreateHookError",         NULL};
static const char *const refusals[] = {
    "ErrImagePull",      "ImagePullBackOff",    "InvalidImageName",          "ImageInspectError",
    "ErrImageNeverPull", "RegistryUnavailable", "SignatureValidationFailed", NULL};

static void judge_waiting(struct keep_pod *out, const json_t *waiting) {
    const char *reason = json_member_text(waiting, "reason");
    if (is_one_of(reason, after_pull))
        judge(out, KEEP_PULLED, reason, json_member_text(waiting, "message"));
    else if (is_one_of(reason, refusals))
        judge(out, KEEP_REFUSED, reason, json_member_text(waiting, "message"));
}

/* The pod has ended without success. */
static void judge_failed(struct keep_pod *out, const json_t *status, const json_t *container) {
    const json_t *terminated = json_object_get(json_object_get(container, "state"), "terminated");
    const char *ended = json_member_text(terminated, "reason"),
               *reason = json_member_text(status, "reason");
    const char *message = json_member_text(status, "message");
    if (*json_member_text(container, "imageID") || is_one_of(ended, after_pull))
        judge(out, KEEP_PULLED, ended, json_member_text(terminated, "message"));
    else if (strcmp(reason, "DeadlineExceeded") == 0)
        judge(out, KEEP_TIMED_OUT, reason, message);
    else
        judge(out, KEEP_NODE_FAILED,
              *reason  ? reason
              : *ended ? ended
                       : "Failed",
              *message ? message : json_member_text(terminated, "message"));
}

/* The status of our container. Webhooks may have put others beside it. NULL: there is none yet. */
static const json_t *container_in(const json_t *status) {
    const json_t *list = json_object_get(status, "containerStatuses"), *container;
    size_t index;
    json_array_foreach (list, index, container) {
        if (strcmp(json_member_text(container, "name"), CONTAINER) == 0)
            return container;
    }
    return json_array_size(list) == 1 ? json_array_get(list, 0) : NULL;
}

static void judge_status(struct keep_pod *out, const json_t *status) {
    const json_t *container = container_in(status);
    const json_t *state = json_object_get(container, "state");
    const char *phase = json_member_text(status, "phase");
    bool has_run = json_object_get(state, "running") || (json_object_get(state, "terminated") &&
                                                         *json_member_text(container, "imageID"));
    if (strcmp(phase, "Failed") == 0)
        judge_failed(out, status, container);
    else if (strcmp(phase, "Succeeded") == 0 || has_run)
        judge(out, KEEP_PULLED, "", "");
    else
        judge_waiting(out, json_object_get(state, "waiting"));
    const char *id = json_member_text(container, "imageID"), *at = strrchr(id, '@');
    if (out->verdict == KEEP_PULLED && at && strlen(at + 1) < sizeof out->pulled)
        snprintf(out->pulled, sizeof out->pulled, "%s", at + 1);
}

bool keep_pod_read(const json_t *json, struct keep_pod *out) {
    const json_t *metadata = json_object_get(json, "metadata");
    const json_t *labels = json_object_get(metadata, "labels");
    const json_t *annotations = json_object_get(metadata, "annotations");
    *out = (struct keep_pod){0};
    out->name = json_member_text(metadata, "name");
    out->uid = json_member_text(metadata, "uid");
    out->node = json_member_text(json_object_get(json, "spec"), "nodeName");
    out->keep = json_member_text(labels, "tarn/keep");
    out->image = json_member_text(annotations, "tarn/image");
    out->digest = json_member_text(annotations, "tarn/digest");
    out->deleting = json_is_string(json_object_get(metadata, "deletionTimestamp"));
    if (!*out->uid || !*out->name || !*out->keep ||
        strcmp(json_member_text(labels, "app.kubernetes.io/component"), KEEP_POD_COMPONENT) != 0 ||
        strcmp(json_member_text(labels, "app.kubernetes.io/managed-by"), KEEP_POD_MANAGED_BY) != 0)
        return false;
    judge_status(out, json_object_get(json, "status"));
    return true;
}

const char *keep_refusal(const char *reason) {
    return strcmp(reason, "ImagePullBackOff") == 0 ? "ErrImagePull" : reason;
}
