/* A YAML tree as JSON. Pure. */
#ifndef KUBERNETES_YAML_JSON_H
#define KUBERNETES_YAML_JSON_H

#include <jansson.h>
#include "base/yaml_tree.h"

/* The same value, the caller's to json_decref(). An unquoted true, false, null or number is none of
 * a string (YAML 1.2 §10.3). NULL: out of memory, or a text that is not UTF-8. */
json_t *yaml_json_of(const struct yaml_node *node);

#endif
