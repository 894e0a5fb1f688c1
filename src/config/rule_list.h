/* The list of rules: who may read what. Private to config/. */
#ifndef CONFIG_RULE_LIST_H
#define CONFIG_RULE_LIST_H

#include "config/reader.h"
#include "config/yaml_tree.h"

/* The value of `clients.rules` in the file; NULL: there is none. */
const struct config_node *config_find_rules(const struct config_node *root);

/* Sets config->rules from that value. How clients log in must have been read before. */
void config_read_rules(struct config_reader *reader, const struct config_node *node);

#endif
