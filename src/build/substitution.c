/* Finds the names that a build's texts use. */
#include "build/substitution.h"

#include <ctype.h>
#include <string.h>

static const char *const built_in[] = {
    "PROJECT_ID",
    "PROJECT_NUMBER",
    "LOCATION",
    "BUILD_ID",
    "REPO_NAME",
    "REPO_FULL_NAME",
    "BRANCH_NAME",
    "TAG_NAME",
    "REF_NAME",
    "REVISION_ID",
    "COMMIT_SHA",
    "SHORT_SHA",
    "TRIGGER_NAME",
    "TRIGGER_BUILD_CONFIG_PATH",
    "SERVICE_ACCOUNT_EMAIL",
    "SERVICE_ACCOUNT",
    NULL,
};

static size_t name_length(struct text text) {
    size_t length = 0;
    while (length < text.length &&
           (isupper((unsigned char)text.at[length]) || isdigit((unsigned char)text.at[length]) ||
            text.at[length] == '_'))
        length++;
    return length > 0 && isdigit((unsigned char)text.at[0]) ? 0 : length;
}

bool substitution_is_own(struct text name) {
    return name.length > 1 && name.at[0] == '_' && name_length(name) == name.length;
}

static bool is_built_in(struct text name) {
    for (size_t i = 0; built_in[i]; i++)
        if (text_is(name, built_in[i]))
            return true;
    return false;
}

struct checking {
    const json_t *values; /* substitutions; NULL: none */
    json_t *used;         /* an object whose keys are the names in use */
    bool loose;           /* ALLOW_LOOSE */
    bool automatic;       /* a value need not be used */
    struct error *error;
};

static bool use(struct checking *checking, struct text name) {
    char key[SUBSTITUTION_NAME_LIMIT + 1];
    if (!text_copy(name, key, sizeof key))
        return error_set(checking->error, ERROR_INVALID,
                         "the substitution $%.40s... has a name of more than %d bytes", name.at,
                         SUBSTITUTION_NAME_LIMIT);
    if (json_object_set_new(checking->used, key, json_true()) != 0)
        return error_set(checking->error, ERROR_MEMORY, "out of memory");
    if (checking->loose || json_object_get(checking->values, key))
        return true;
    if (name.at[0] == '_')
        return error_set(checking->error, ERROR_INVALID,
                         "the build uses $%s, which has no value: add --substitution %s=VALUE, or "
                         "$$%s for the text itself",
                         key, key, key);
    return is_built_in(name) ||
           error_set(checking->error, ERROR_INVALID,
                     "the build uses $%s, which Cloud Build does not know: names of your own begin "
                     "with _, and $$%s is the text itself",
                     key, key);
}

static bool check_text(struct checking *checking, struct text rest) {
    while (rest.length > 0) {
        const char *dollar = memchr(rest.at, '$', rest.length);
        if (!dollar)
            return true;
        rest = text_from(rest, (size_t)(dollar - rest.at) + 1);
        if (text_starts(rest, "$")) {
            rest = text_from(rest, 1);
            continue;
        }
        bool braces = text_starts(rest, "{");
        if (braces)
            rest = text_from(rest, 1);
        struct text name = {rest.at, name_length(rest)};
        if (name.length > 0 && !use(checking, name))
            return false;
        rest = text_from(rest, name.length);
    }
    return true;
}

static bool check_value(struct checking *checking, const json_t *value) {
    const char *key;
    json_t *item;
    size_t index;
    if (json_is_string(value))
        return check_text(checking,
                          (struct text){json_string_value(value), json_string_length(value)});
    json_array_foreach (value, index, item) {
        if (!check_value(checking, item))
            return false;
    }
    json_object_foreach ((json_t *)value, key, item) {
        /* In a script nothing is substituted. */
        if (strcmp(key, "script") != 0 && !check_value(checking, item))
            return false;
    }
    return true;
}

/* Whether values become variables of a step's environment, so that a script may use them. */
static bool maps_automatically(const json_t *build) {
    size_t index;
    json_t *step;
    if (json_is_true(json_object_get(json_object_get(build, "options"), "automapSubstitutions")))
        return true;
    json_array_foreach (json_object_get(build, "steps"), index, step) {
        if (json_is_true(json_object_get(step, "automapSubstitutions")))
            return true;
    }
    return false;
}

static bool check_values(const struct checking *checking) {
    const char *key;
    json_t *value;
    if (json_object_size(checking->values) > SUBSTITUTIONS_LIMIT)
        return error_set(checking->error, ERROR_INVALID, "there are more than %d substitutions",
                         SUBSTITUTIONS_LIMIT);
    json_object_foreach ((json_t *)checking->values, key, value) {
        struct text name = text_of(key);
        if (!substitution_is_own(name) && !is_built_in(name))
            return error_set(checking->error, ERROR_INVALID,
                             "the substitution %.60s: a name begins with _ and has capitals, "
                             "digits and _",
                             key);
        if (name.length > SUBSTITUTION_NAME_LIMIT ||
            json_string_length(value) > SUBSTITUTION_VALUE_LIMIT)
            return error_set(checking->error, ERROR_INVALID,
                             "the substitution %.60s: a name has at most %d bytes and a value %d",
                             key, SUBSTITUTION_NAME_LIMIT, SUBSTITUTION_VALUE_LIMIT);
        if (!checking->loose && !checking->automatic && name.at[0] == '_' &&
            !json_object_get(checking->used, key))
            return error_set(checking->error, ERROR_INVALID,
                             "nothing in the build uses the substitution %s: leave it out, or set "
                             "options.substitutionOption to ALLOW_LOOSE",
                             key);
    }
    return true;
}

bool substitution_check(const json_t *build, struct error *error) {
    const json_t *options = json_object_get(build, "options");
    const char *option = json_string_value(json_object_get(options, "substitutionOption"));
    struct checking checking = {
        .values = json_object_get(build, "substitutions"),
        .used = json_object(),
        .loose = option && strcmp(option, "ALLOW_LOOSE") == 0,
        .automatic = maps_automatically(build),
        .error = error,
    };
    if (!checking.used)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool ok = check_value(&checking, build) && check_values(&checking);
    json_decref(checking.used);
    return ok;
}
