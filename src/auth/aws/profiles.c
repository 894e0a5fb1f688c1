/* The profiles of AWS's shared files. */
#include "auth/aws/profiles.h"

#include <ctype.h>
#include <stdlib.h>

void aws_profiles_finish(struct aws_profiles *profiles) {
    free(profiles->entries);
    *profiles = (struct aws_profiles){0};
}

/* ---- reading ---- */

struct reading {
    struct aws_profiles *out;
    size_t capacity;
    enum aws_profiles_kind kind;
    bool in_section, has_key;
    struct text profile; /* of the section */
};

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

static bool add(struct reading *reading, struct text key, const char *value, struct error *error) {
    struct aws_profiles *out = reading->out;
    if (out->count == AWS_PROFILES_KEYS_LIMIT)
        return error_set(error, ERROR_INVALID, "the file has more than %d keys",
                         AWS_PROFILES_KEYS_LIMIT);
    if (out->count == reading->capacity) {
        size_t capacity = reading->capacity ? 2 * reading->capacity : 64;
        struct aws_profiles_entry *entries =
            reallocarray(out->entries, capacity, sizeof *out->entries);
        if (!entries)
            return error_set(error, ERROR_MEMORY, "out of memory");
        out->entries = entries;
        reading->capacity = capacity;
    }
    out->entries[out->count++] = (struct aws_profiles_entry){reading->profile, key, value};
    return true;
}

/* Without quotes around it. */
static struct text unquoted(struct text name) {
    if (name.length >= 2 && (*name.at == '"' || *name.at == '\'') &&
        name.at[name.length - 1] == *name.at)
        return (struct text){name.at + 1, name.length - 2};
    return name;
}

/* The profile that a section's name means; empty: none. */
static struct text profile_of(struct text name, enum aws_profiles_kind kind) {
    static const char word[] = "profile";
    const size_t length = sizeof word - 1;
    name = text_trim(name);
    if (kind == AWS_PROFILES_CREDENTIALS)
        return unquoted(name);
    if (text_starts(name, word) && name.length > length && is_blank(name.at[length]))
        return unquoted(text_trim(text_from(name, length)));
    return text_is(name, "default") ? name : (struct text){"", 0};
}

static bool read_section(struct reading *reading, struct text line, struct error *error) {
    const char *end = memchr(line.at, ']', line.length);
    if (!end)
        return error_set(error, ERROR_INVALID, "a section has no ]");
    struct text name = {line.at + 1, (size_t)(end - line.at) - 1};
    reading->profile = profile_of(name, reading->kind);
    reading->in_section = true;
    reading->has_key = false;
    return add(reading, (struct text){"", 0}, "", error);
}

static bool read_pair(struct reading *reading, struct text line, struct error *error) {
    size_t length = 0;
    while (length < line.length && line.at[length] != '=' && line.at[length] != ':')
        length++;
    struct text key = text_trim((struct text){line.at, length});
    if (length == line.length || !key.length)
        return error_set(error, ERROR_INVALID, "there is neither a section nor \"key = value\"");
    if (!reading->in_section)
        return error_set(error, ERROR_INVALID, "a key stands before the first section");
    reading->has_key = true;
    struct text value = text_trim(text_from(line, length + 1));
    ((char *)value.at)[value.length] = '\0'; /* in the place of a blank or of the line's end */
    return add(reading, key, value.at, error);
}

static bool read_line(struct reading *reading, struct text line, struct error *error) {
    if (line.length && line.at[line.length - 1] == '\r')
        line.length--;
    struct text content = text_trim(line);
    if (!content.length || *content.at == '#' || *content.at == ';')
        return true;
    if (is_blank(*line.at) && reading->has_key)
        return true; /* a setting below another one: none of those is a credential */
    if (*content.at == '[')
        return read_section(reading, content, error);
    return read_pair(reading, content, error);
}

bool aws_profiles_read(char *bytes, enum aws_profiles_kind kind, struct aws_profiles *out,
                       struct error *error) {
    struct reading reading = {.out = out, .kind = kind};
    struct text rest = text_of(bytes);
    unsigned number = 0;
    *out = (struct aws_profiles){0};
    if (text_starts(rest, "\xef\xbb\xbf")) /* a byte order mark, as some editors write it */
        rest = text_from(rest, 3);
    while (rest.at && rest.length) {
        struct text line = text_cut(rest, '\n', &rest);
        number++;
        if (read_line(&reading, line, error))
            continue;
        aws_profiles_finish(out);
        return error_wrap(error, "line %u", number);
    }
    return true;
}

/* ---- looking up ---- */

bool aws_profiles_has(const struct aws_profiles *profiles, const char *profile) {
    for (size_t i = 0; i < profiles->count; i++) {
        if (profiles->entries[i].profile.length && text_is(profiles->entries[i].profile, profile))
            return true;
    }
    return false;
}

const char *aws_profiles_get(const struct aws_profiles *profiles, const char *profile,
                             const char *key) {
    const char *found = NULL;
    for (size_t i = 0; i < profiles->count; i++) {
        const struct aws_profiles_entry *entry = &profiles->entries[i];
        if (entry->profile.length && text_is(entry->profile, profile) &&
            text_is_nocase(entry->key, key))
            found = entry->value;
    }
    return found && *found ? found : NULL;
}
