/* A YAML tree as JSON. */
#include "kubernetes/yaml_json.h"

#include <string.h>
#include "base/json.h"

static json_t *scalar_of(const struct yaml_node *node) {
    if (!node->plain)
        return json_string(node->text);
    if (yaml_node_is_null(node))
        return json_null();
    if (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0)
        return json_boolean(node->text[0] == 't');
    json_t *number = NULL;
    if (strspn(node->text, "-0123456789.eE+") == strlen(node->text))
        number = json_loads(node->text, JSON_DECODE_ANY, NULL);
    return number ? number : json_string(node->text);
}

json_t *yaml_json_of(const struct yaml_node *node) {
    if (node->kind == YAML_SCALAR)
        return scalar_of(node);
    json_t *out = node->kind == YAML_LIST ? json_array() : json_object();
    for (const struct yaml_node *child = node->first; out && child; child = child->next) {
        json_t *value = yaml_json_of(child);
        int failed = node->kind == YAML_LIST ? json_array_append_new(out, value)
                                             : json_object_set_new(out, child->key, value);
        if (failed) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}
