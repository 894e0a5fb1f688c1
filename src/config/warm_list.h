/* The list of images that are pulled before a client asks for them. Private to config/. */
#ifndef CONFIG_WARM_LIST_H
#define CONFIG_WARM_LIST_H

#include "config/reader.h"
#include "config/yaml_tree.h"

/* Sets config->warm from the value of `warm` in the file. */
void config_read_warm(struct config_reader *reader, const struct config_node *node);

#endif
