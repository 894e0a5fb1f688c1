/* The default of every setting. Private to config/. */
#ifndef CONFIG_DEFAULTS_H
#define CONFIG_DEFAULTS_H

#include "config/reader.h"

/* Sets every field that has a default. A field that stays zero has none, or its default is computed
 * after the reading. */
void config_set_defaults(struct config_loaded *loaded);

#endif
