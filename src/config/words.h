/* Words that the operator wrote: how messages quote them, and what was meant by a wrong one.
 * Private to config/. */
#ifndef CONFIG_WORDS_H
#define CONFIG_WORDS_H

#include <stdbool.h>

enum { QUOTE_SIZE = 100 };

/* "value" in quotes, shortened, with everything unprintable escaped. Returns `out`. */
const char *config_quote(const char *value, char out[static QUOTE_SIZE]);

/* The word of `known` (NULL-terminated) that is most like `word`; NULL when none is like it. */
const char *config_nearest_word(const char *word, const char *const *known);

/* Whether `word` is one of `known` (NULL-terminated). */
bool config_is_word(const char *word, const char *const *known);

#endif
