/*
 * The configuration of the CNCF registry (distribution, versions 2 and 3) in proxy mode: a file
 * with `version: 0.1`, changed by the REGISTRY_ variables of the environment. It is turned into the
 * tree of a file of tarn's own, which serves the same; each node keeps its place in the file.
 * Private to config/.
 *
 * Source: configuration/ and registry/ of distribution. Its keys are in distribution_keys.c.
 */
#ifndef CONFIG_DISTRIBUTION_H
#define CONFIG_DISTRIBUTION_H

#include "base/yaml_tree.h"
#include "config/reader.h"

/* Whether the file is one of the CNCF registry: its top level has `version`, as no file of tarn's
 * has. */
bool distribution_is(const struct yaml_node *root);

/*
 * Adds a warning with the word `ignored` for each key that tarn does not use, and a problem for
 * each that is wrong, or without which serving would be wrong. `root` gets the values of the
 * variables. From now on the problems name the keys as the CNCF registry does.
 * Returns tarn's tree, which is the caller's; NULL when out of memory (reader->no_memory). A
 * password stands at upstreams[0].credentials.password, which only such a tree may have.
 */
struct yaml_node *distribution_translate(struct config_reader *reader, struct yaml_node *root,
                                         char *const *environment);

#endif
