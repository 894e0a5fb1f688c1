/* The section `bucket`, as far as its settings belong together. Private to config/. */
#ifndef CONFIG_BUCKET_SECTION_H
#define CONFIG_BUCKET_SECTION_H

#include "base/yaml_tree.h"
#include "config/reader.h"

/* Reads the bucket's address and credentials, and checks all its settings together, after file,
 * variables and flags were read. `node`: the section of the file; NULL: it has none. */
void config_read_bucket(struct config_reader *reader, const struct yaml_node *node);

#endif
