/* The REGISTRY_ variables, which change the file of the CNCF registry. Private to config/. */
#ifndef CONFIG_DISTRIBUTION_ENVIRONMENT_H
#define CONFIG_DISTRIBUTION_ENVIRONMENT_H

#include "base/yaml_tree.h"
#include "config/reader.h"

/*
 * Sets in `root`, a mapping, what the variables say. Each `_` of a name is one level down, the last
 * part may be the number of a list's item, and the value is YAML: REGISTRY_PROXY_TTL=24h,
 * REGISTRY_STORAGE='{filesystem: {rootdirectory: /x}}'. A variable for a whole section takes effect
 * before those for its keys. A variable that names no place is ignored with a warning.
 */
void distribution_read_environment(struct config_reader *reader, struct yaml_node *root,
                                   char *const *environment);

#endif
