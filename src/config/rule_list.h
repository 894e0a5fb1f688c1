/* The list of rules: who may read what. Private to config/. */
#ifndef CONFIG_RULE_LIST_H
#define CONFIG_RULE_LIST_H

#include "base/yaml_tree.h"
#include "config/reader.h"

/* The value of `clients.rules` in the file; NULL: there is none. */
const struct yaml_node *config_find_rules(const struct yaml_node *root);

/* Sets config->rules from that value. How clients log in must have been read before. */
void config_read_rules(struct config_reader *reader, const struct yaml_node *node);

/* Whether the configuration lets anybody log in. */
bool config_somebody_can_log_in(const struct config *config);

#endif
