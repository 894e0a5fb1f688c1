/* The value of one setting, checked as its row in the table says. Private to config/. */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "base/yaml_tree.h"
#include "config/reader.h"

/* Sets the option's field in the struct at `base`. False: a problem was added, or memory ran out.
 */
bool config_read_value(struct config_reader *reader, const struct config_option *option, void *base,
                       const struct yaml_node *node, const char *path);

#endif
