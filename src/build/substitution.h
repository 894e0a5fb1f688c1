/*
 * Substitutions of Cloud Build: which names a build's texts use, and whether the build may be asked
 * for with the values that it has (Cloud Build documentation, "Substitute variable values").
 *
 * A text uses a name by `$NAME` or `${NAME}`; `$$` is a dollar sign. Names of one's own begin with
 * `_` and have capitals, digits and `_`; the others are the service's. Each name that is used needs
 * a value, and each value must be used, unless the build's options say ALLOW_LOOSE.
 *
 * Pure; any thread.
 */
#ifndef BUILD_SUBSTITUTION_H
#define BUILD_SUBSTITUTION_H

#include <jansson.h>
#include <stdbool.h>
#include "base/error.h"
#include "base/text.h"

enum {
    SUBSTITUTION_NAME_LIMIT = 100, /* bytes; the service's limits */
    SUBSTITUTION_VALUE_LIMIT = 4000,
    SUBSTITUTIONS_LIMIT = 200,
};

/* Whether a build may define it: "_BRANCH". */
bool substitution_is_own(struct text name);

/* Checks the build's substitutions. False: ERROR_INVALID, as a sentence. */
bool substitution_check(const json_t *build, struct error *error);

#endif
