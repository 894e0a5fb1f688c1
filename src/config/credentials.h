/* The credentials of an upstream. Private to config/. */
#ifndef CONFIG_CREDENTIALS_H
#define CONFIG_CREDENTIALS_H

#include "auth/google/google.h"
#include "base/yaml_tree.h"
#include "config/reader.h"

/* The source that `node` describes; NULL when a problem was added. The config owns the source. */
struct credential_source *config_read_credentials(struct config_reader *reader,
                                                  const struct yaml_node *node, const char *path);

/* Reads the mapping of `google`. False: a problem was added. */
bool config_read_google(struct config_reader *reader, const struct yaml_node *node,
                        const char *path, struct google_settings *out);

/* The source of an upstream without `credentials`: Google's for Google's registries, Docker's for
 * all others. If `url` (may be NULL) has another host than `host`, and not this machine: anonymous.
 * `docker_file`: in place of Docker's own config.json; NULL: that. */
struct credential_source *config_default_credentials(struct config_reader *reader, const char *host,
                                                     const char *url, const char *docker_file);

/* Warns of credentials that the file gives to an upstream and that go where they hardly should: a
 * Google token to a host that is not Google's, a secret over http. */
void config_warn_of_credentials(struct config_reader *reader,
                                const struct upstream_settings *settings);

#endif
