/* A node of the cluster: reading it, and whether a keep wants it. */
#include "keep/node.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"

/* ---- quantities ---- */

bool keep_node_quantity(const char *text, uint64_t *value) {
    static const struct {
        const char *suffix;
        double factor;
    } suffixes[] = {
        {"", 1},        {"m", 1e-3},    {"k", 1e3},     {"K", 1e3},     {"M", 1e6},
        {"G", 1e9},     {"T", 1e12},    {"P", 1e15},    {"E", 1e18},    {"Ki", 0x1p10},
        {"Mi", 0x1p20}, {"Gi", 0x1p30}, {"Ti", 0x1p40}, {"Pi", 0x1p50}, {"Ei", 0x1p60},
    };
    const char *end = text;
    while (isdigit((unsigned char)*end) || *end == '.')
        end++;
    size_t exponent = 0;
    if ((*end == 'e' || *end == 'E') && end > text) {
        const char *digits = end + 1 + (end[1] == '+' || end[1] == '-');
        if (isdigit((unsigned char)*digits))
            exponent = strspn(digits, "0123456789") + (size_t)(digits - end);
    }
    char *parsed_end;
    if (end == text || end - text > 40 || exponent > 5)
        return false;
    double number = strtod(text, &parsed_end);
    if (parsed_end != end + exponent)
        return false;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (strcmp(parsed_end, suffixes[i].suffix) == 0) {
            number *= suffixes[i].factor;
            if (!(number >= 0 && number < 0x1p63))
                return false;
            *value = (uint64_t)number;
            return true;
        }
    }
    return false;
}

/* ---- reading ---- */

/* Where the strings of a node go: first their lengths are added up, then they are copied. */
struct strings {
    char *next; /* NULL: only count */
    size_t length;
};

static const char *keep_string(struct strings *strings, const char *string) {
    size_t size = strlen(string) + 1;
    char *copy = strings->next;
    strings->length += size;
    if (copy) {
        memcpy(copy, string, size);
        strings->next += size;
    }
    return copy;
}

static void read_strings(struct keep_node *node, const json_t *json, struct strings *strings) {
    const json_t *metadata = json_object_get(json, "metadata");
    const json_t *info = json_object_get(json_object_get(json, "status"), "nodeInfo");
    node->name = keep_string(strings, json_member_text(metadata, "name"));
    node->uid = keep_string(strings, json_member_text(metadata, "uid"));
    node->boot_id = keep_string(strings, json_member_text(info, "bootID"));
    node->architecture = keep_string(strings, json_member_text(info, "architecture"));
    node->os = keep_string(strings, json_member_text(info, "operatingSystem"));
    const char *key;
    json_t *value;
    size_t count = 0;
    json_object_foreach (json_object_get(metadata, "labels"), key, value) {
        if (count == KEEP_NODE_PAIRS || !json_is_string(value))
            continue;
        struct keep_pair pair;
        pair.key = keep_string(strings, key);
        pair.value = keep_string(strings, json_string_value(value));
        if (strings->next)
            node->labels[count] = pair;
        count++;
    }
    node->label_count = count;
    count = 0;
    size_t index;
    json_array_foreach (json_object_get(json_object_get(json, "spec"), "taints"), index, value) {
        if (index >= KEEP_NODE_PAIRS)
            break;
        struct keep_taint taint;
        taint.key = keep_string(strings, json_member_text(value, "key"));
        taint.value = keep_string(strings, json_member_text(value, "value"));
        taint.effect = keep_string(strings, json_member_text(value, "effect"));
        if (strings->next)
            node->taints[count] = taint;
        count++;
    }
    node->taint_count = count;
}

static void read_status(struct keep_node *node, const json_t *json) {
    const json_t *status = json_object_get(json, "status");
    node->cordoned = json_is_true(json_object_get(json_object_get(json, "spec"), "unschedulable"));
    node->deleting =
        json_is_string(json_object_get(json_object_get(json, "metadata"), "deletionTimestamp"));
    size_t index;
    const json_t *condition;
    json_array_foreach (json_object_get(status, "conditions"), index, condition) {
        bool is_true = strcmp(json_member_text(condition, "status"), "True") == 0;
        if (strcmp(json_member_text(condition, "type"), "Ready") == 0)
            node->ready = is_true;
        else if (strcmp(json_member_text(condition, "type"), "DiskPressure") == 0)
            node->disk_pressure = is_true;
    }
    const char *capacity =
        json_member_text(json_object_get(status, "capacity"), "ephemeral-storage");
    if (!keep_node_quantity(capacity, &node->storage))
        keep_node_quantity(
            json_member_text(json_object_get(status, "allocatable"), "ephemeral-storage"),
            &node->storage);
}

static bool is_no_name(const char *name) {
    return strcmp(name, "<none>@<none>") == 0 || strcmp(name, "<none>:<none>") == 0;
}

static int by_key(const void *a, const void *b) {
    const struct keep_node_digest *left = a, *right = b;
    return (left->key > right->key) - (left->key < right->key);
}

/* Fills images, names and digests, which have room. False: out of memory. */
static bool read_images(struct keep_node *node, const json_t *list, struct keep_names *names) {
    size_t index, at;
    const json_t *image, *value;
    json_array_foreach (list, index, image) {
        if (index == KEEP_NODE_IMAGES)
            break;
        json_int_t size = json_integer_value(json_object_get(image, "sizeBytes"));
        struct keep_node_image *out = &node->images[node->image_count];
        *out = (struct keep_node_image){.size = size > 0 ? (uint64_t)size : 0,
                                        .first_name = (uint32_t)node->name_count};
        json_array_foreach (json_object_get(image, "names"), at, value) {
            const char *text = json_string_value(value);
            if (!text || at >= KEEP_NODE_NAMES || is_no_name(text))
                continue;
            struct keep_name *name = keep_names_use(names, text_of(text));
            if (!name)
                return false;
            node->names[node->name_count++] = name;
            out->name_count++;
            if (name->digest)
                node->digests[node->digest_count++] = (struct keep_node_digest){
                    .key = name->digest, .image = (uint32_t)node->image_count};
        }
        node->image_count++;
    }
    qsort(node->digests, node->digest_count, sizeof *node->digests, by_key);
    return true;
}

/* How many names read_images() will read at most. */
static size_t count_names(const json_t *list) {
    size_t total = 0, index;
    const json_t *image;
    json_array_foreach (list, index, image) {
        size_t count = json_array_size(json_object_get(image, "names"));
        total += count < KEEP_NODE_NAMES ? count : KEEP_NODE_NAMES;
    }
    return total;
}

static bool allocate(struct keep_node *node, size_t strings, size_t images, size_t names) {
    node->strings = malloc(strings + 1);
    node->labels = calloc(node->label_count + 1, sizeof *node->labels);
    node->taints = calloc(node->taint_count + 1, sizeof *node->taints);
    node->images = calloc(images + 1, sizeof *node->images);
    node->names = calloc(names + 1, sizeof(struct keep_name *));
    node->digests = calloc(names + 1, sizeof *node->digests);
    return node->strings && node->labels && node->taints && node->images && node->names &&
           node->digests;
}

struct keep_node *keep_node_read(const json_t *json, struct keep_names *names,
                                 struct error *error) {
    const json_t *metadata = json_object_get(json, "metadata");
    if (!*json_member_text(metadata, "name") || !*json_member_text(metadata, "uid")) {
        error_set(error, ERROR_INVALID, "a Node without metadata.name or metadata.uid");
        return NULL;
    }
    const json_t *list = json_object_get(json_object_get(json, "status"), "images");
    struct keep_node *node = calloc(1, sizeof *node);
    struct strings strings = {0};
    size_t images = json_array_size(list);
    if (node)
        read_strings(node, json, &strings);
    if (!node ||
        !allocate(node, strings.length, images < KEEP_NODE_IMAGES ? images : KEEP_NODE_IMAGES,
                  count_names(list)) ||
        !read_images(node, list, names)) {
        keep_node_free(node, names);
        error_set(error, ERROR_MEMORY, "out of memory while a Node is read");
        return NULL;
    }
    strings.next = node->strings;
    read_strings(node, json, &strings);
    read_status(node, json);
    return node;
}

void keep_node_free(struct keep_node *node, struct keep_names *names) {
    if (!node)
        return;
    for (size_t i = 0; i < node->name_count; i++)
        keep_names_drop(names, node->names[i]);
    free(node->names);
    free(node->labels);
    free(node->taints);
    free(node->images);
    free(node->digests);
    free(node->strings);
    free(node);
}

/* ---- what is in the list ---- */

const struct keep_node_image *keep_node_find(const struct keep_node *node, uint64_t digest) {
    struct keep_node_digest wanted = {.key = digest};
    if (node->digest_count == 0)
        return NULL;
    const struct keep_node_digest *found =
        bsearch(&wanted, node->digests, node->digest_count, sizeof wanted, by_key);
    return found ? &node->images[found->image] : NULL;
}

const struct keep_node_image *keep_node_find_name(const struct keep_node *node, uint64_t name) {
    for (size_t i = 0; i < node->image_count; i++) {
        const struct keep_node_image *image = &node->images[i];
        for (uint32_t n = 0; n < image->name_count; n++) {
            if (node->names[image->first_name + n]->key == name)
                return image;
        }
    }
    return NULL;
}

/* ---- choice ---- */

static bool is_set(const char *string) {
    return string && *string;
}

/* core/v1 Toleration.ToleratesTaint(). */
static bool tolerates(const struct keep_toleration *toleration, const struct keep_taint *taint) {
    if (is_set(toleration->effect) && strcmp(toleration->effect, taint->effect) != 0)
        return false;
    if (toleration->has_seconds && strcmp(taint->effect, "NoExecute") == 0)
        return false;
    bool exists = toleration->op && strcmp(toleration->op, "Exists") == 0;
    if (!is_set(toleration->key))
        return exists;
    if (strcmp(toleration->key, taint->key) != 0)
        return false;
    return exists || strcmp(toleration->value ? toleration->value : "", taint->value) == 0;
}

bool keep_node_taint_counts(const struct keep_taint *taint, const struct keep_nodes *wanted) {
    if (strcmp(taint->effect, "PreferNoSchedule") == 0)
        return false;
    for (size_t i = 0; i < wanted->toleration_count; i++) {
        if (tolerates(&wanted->tolerations[i], taint))
            return false;
    }
    return true;
}

static bool has_label(const struct keep_node *node, const struct keep_pair *label) {
    for (size_t i = 0; i < node->label_count; i++) {
        if (strcmp(node->labels[i].key, label->key) == 0)
            return strcmp(node->labels[i].value, label->value) == 0;
    }
    return false;
}

static enum keep_eligibility refuse(char *comment, const char *why) {
    snprintf(comment, KEEP_COMMENT_SIZE, "%s", why);
    return KEEP_NODE_INELIGIBLE;
}

enum keep_eligibility keep_node_eligible(const struct keep_node *node,
                                         const struct keep_nodes *wanted,
                                         char comment[static KEEP_COMMENT_SIZE]) {
    comment[0] = '\0';
    for (size_t i = 0; i < wanted->label_count; i++) {
        const struct keep_pair *label = &wanted->labels[i];
        if (!has_label(node, label)) {
            snprintf(comment, KEEP_COMMENT_SIZE, "Node has not the label %.120s = %.120s",
                     label->key, label->value);
            return KEEP_NODE_OTHER;
        }
    }
    if (node->deleting)
        return refuse(comment, "Node is being deleted");
    if (node->cordoned)
        return refuse(comment, "Node is cordoned");
    if (!node->ready)
        return refuse(comment, "Node is not Ready");
    for (size_t i = 0; i < node->taint_count; i++) {
        const struct keep_taint *taint = &node->taints[i];
        if (!keep_node_taint_counts(taint, wanted))
            continue;
        if (*taint->value)
            snprintf(comment, KEEP_COMMENT_SIZE, "Node is tainted (%.40s, %.150s = %.100s)",
                     taint->effect, taint->key, taint->value);
        else
            snprintf(comment, KEEP_COMMENT_SIZE, "Node is tainted (%.40s, %.200s)", taint->effect,
                     taint->key);
        return KEEP_NODE_INELIGIBLE;
    }
    if (*node->os && strcmp(node->os, "linux") != 0) {
        snprintf(comment, KEEP_COMMENT_SIZE, "Node runs %.60s, not linux", node->os);
        return KEEP_NODE_INELIGIBLE;
    }
    if (node->disk_pressure)
        return refuse(comment, "Node has DiskPressure");
    return KEEP_NODE_ELIGIBLE;
}
