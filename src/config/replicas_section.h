/* The section `replicas`, as far as its settings belong together. Private to config/. */
#ifndef CONFIG_REPLICAS_SECTION_H
#define CONFIG_REPLICAS_SECTION_H

#include "base/yaml_tree.h"
#include "config/reader.h"

/* Checks all settings of replicas together, and fills in those that depend on `listen`, after file,
 * variables and flags were read. `node`: the section of the file; NULL: it has none. */
void config_read_replicas(struct config_reader *reader, const struct yaml_node *node);

#endif
