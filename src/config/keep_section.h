/* The section `keep`: what `tarn keep` keeps on the nodes of a cluster. Private to config/. */
#ifndef CONFIG_KEEP_SECTION_H
#define CONFIG_KEEP_SECTION_H

#include "base/yaml_tree.h"
#include "config/reader.h"

/* Sets the keeps of config->keep from the value of `keep` in the file. Its other keys are options.
 */
void config_read_keep(struct config_reader *reader, const struct yaml_node *node);

/* Checks of single values, as struct config_option wants them. */
bool config_check_keep_name(const char *value, char *why, size_t size);
bool config_check_keep_prefix(const char *value, char *why, size_t size);
bool config_check_operators(const char *value, char *why, size_t size); /* a file, or "anyone" */

/* ---- shared by keep_section.c and keep_images.c ---- */

struct config_table {
    const struct config_option *options;
    size_t count;
    const char *const *known; /* all keys of the mapping, with those that are no options */
};

/* Reads the options of a mapping into the struct at `base`. False: it is no mapping. */
bool config_read_table(struct config_reader *reader, const struct config_table *table, void *base,
                       const struct yaml_node *node, const char *path);

/* Adds one entry to the list of images of a keep. */
void config_read_keep_image(struct config_reader *reader, const struct yaml_node *node,
                            const char *path, struct keep_entry *out);

#endif
