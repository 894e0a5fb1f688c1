/* The list of upstreams. Private to config/. */
#ifndef CONFIG_UPSTREAM_LIST_H
#define CONFIG_UPSTREAM_LIST_H

#include "base/yaml_tree.h"
#include "config/reader.h"

/* The host in lower case, and docker.io for every name of Docker Hub. NULL: out of memory. */
const char *config_canonical_host(struct config_reader *reader, const char *host);

/* Sets config->upstreams: the list in the file (`node`; NULL: the built-in list), changed by
 * --upstream and --default-upstream. The settings for all upstreams must have been read before. */
void config_read_upstreams(struct config_reader *reader, const struct yaml_node *node);

#endif
