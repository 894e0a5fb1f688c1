/* The keys of a mapping. Private to config/. */
#ifndef CONFIG_MAP_H
#define CONFIG_MAP_H

#include "base/yaml_tree.h"
#include "config/reader.h"

/* Whether `node` is a mapping. A key that appears twice or is not one of `known` (NULL-terminated)
 * adds a problem; the mapping can be read all the same. */
bool config_read_map(struct config_reader *reader, const struct yaml_node *node, const char *path,
                     const char *const *known);

/* "PATH.KEY", or "KEY" below the top level. The key may hold any bytes: what is not printable ASCII
 * becomes `?`. */
void config_path_join(const char *path, const char *key, char out[static KEY_PATH_SIZE]);

/* Whether `value` is the first of its key in the mapping. False: a problem was added. */
bool config_is_first(struct config_reader *reader, const struct yaml_node *map,
                     const struct yaml_node *value, const char *path);

#endif
