/* Where the CNCF registry keeps its content, as tarn's root and bucket. Private to config/. */
#ifndef CONFIG_DISTRIBUTION_STORAGE_H
#define CONFIG_DISTRIBUTION_STORAGE_H

#include "config/translation.h"

void distribution_translate_storage(struct translation *translation);

#endif
