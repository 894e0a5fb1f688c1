/* Words of the operator's, as messages repeat them. Private to config/. */
#ifndef CONFIG_WORDS_H
#define CONFIG_WORDS_H

#include <stdbool.h>

enum { QUOTE_SIZE = 100 };

/* "value" in quotes, shortened, with everything unprintable escaped. Returns `out`. */
const char *config_quote(const char *value, char out[static QUOTE_SIZE]);

/* The one of `known` (NULL-terminated) that a person who typed `word` most likely meant; NULL when
 * none is near. */
const char *config_nearest_word(const char *word, const char *const *known);

/* Whether `word` is one of `known` (NULL-terminated). */
bool config_is_word(const char *word, const char *const *known);

#endif
