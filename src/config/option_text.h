/* How a setting is written for people: its names, its placeholder, its default and its limits. */
#ifndef CONFIG_OPTION_TEXT_H
#define CONFIG_OPTION_TEXT_H

#include "config/options.h"

enum { CONFIG_NAME_SIZE = 64, CONFIG_VALUE_SIZE = 128 };

void config_option_flag(const struct config_option *option, char out[static CONFIG_NAME_SIZE]);
void config_option_variable(const struct config_option *option, char out[static CONFIG_NAME_SIZE]);
const char *config_option_placeholder(const struct config_option *option); /* "FILE" */

/* "4", "1m", or words if the default is computed or there is none. */
void config_option_default(const struct config_option *option, char out[static CONFIG_VALUE_SIZE]);

/* The option's value in the struct that its offset is in, as it may stand in the file; what is too
 * long is cut. An unset string is "". */
void config_option_show(const struct config_option *option, const void *base,
                        char out[static CONFIG_VALUE_SIZE]);

/* "1 to 16", "at least 1"; "" if there are none. */
void config_option_limits(const struct config_option *option, char out[static CONFIG_VALUE_SIZE]);

/* A number of the option's type as it may stand in the file. A duration that is no whole number of
 * seconds is rounded down to days if it is longer than a day. */
void config_option_format(const struct config_option *option, uint64_t number,
                          char out[static CONFIG_VALUE_SIZE]);

#endif
