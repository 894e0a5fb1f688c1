/* The list of images that are pulled before a client asks for them. Private to config/. */
#ifndef CONFIG_WARM_LIST_H
#define CONFIG_WARM_LIST_H

#include "base/yaml_tree.h"
#include "config/reader.h"

/* Sets config->warm from the value of `warm` in the file. */
void config_read_warm(struct config_reader *reader, const struct yaml_node *node);

#endif
