/* Words that the operator wrote: how messages quote them, and which known word an unknown one may
 * stand for. Private to config/. */
#ifndef CONFIG_WORDS_H
#define CONFIG_WORDS_H

#include <stdbool.h>

enum { QUOTE_SIZE = 100 };

/* "value" in quotes, shortened, with everything unprintable escaped. Returns `out`. */
const char *config_quote(const char *value, char out[static QUOTE_SIZE]);

/* The word of `known` (NULL-terminated) that is most like `word`; NULL if none is similar. */
const char *config_nearest_word(const char *word, const char *const *known);

/* Whether `word` is one of `known` (NULL-terminated). */
bool config_is_word(const char *word, const char *const *known);

#endif
