/* Where settings of the top level come from: the file, the environment, the flags. Private to
 * config/. */
#ifndef CONFIG_INPUTS_H
#define CONFIG_INPUTS_H

#include "base/yaml_tree.h"
#include "config/flags.h"
#include "config/reader.h"

/* Each of these sets the options that its input gives, and so overrides what an earlier call set.
 */
void config_read_file(struct config_reader *reader, const struct yaml_node *root);
void config_read_environment(struct config_reader *reader, char *const *environment);
void config_read_flags(struct config_reader *reader, const struct config_flags *flags);

/* Sets what none of the others has set, by variables TARN_FALLBACK_LISTEN and so on: an image has
 * defaults of its own, which a file without these settings leaves as they are. */
void config_read_fallbacks(struct config_reader *reader, char *const *environment);

/* Adds a warning for each variable that begins with TARN_ and is not a setting. */
void config_warn_of_variables(struct config_reader *reader, char *const *environment);

/* The value of a variable; NULL when it is unset or empty. */
const char *config_variable(char *const *environment, const char *name);

#endif
