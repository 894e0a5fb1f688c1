/*
 * Which files of a folder are left out of a build's context: the patterns of a .dockerignore or a
 * .gcloudignore.
 *
 * Docker's patterns are relative to the folder. `*` and `?` match within one part of a path, `**`
 * matches any number of parts, `[a-z]` one character, `\` takes the next character as it stands,
 * and `!` takes files back. The last pattern that matches a file, or a folder that it is in,
 * decides. Nothing is taken back from a folder that is left out, unless a pattern names something
 * in it letter by letter (github.com/moby/patternmatcher, and TarWithOptions() of Docker 20.10).
 *
 * The patterns of .gcloudignore are those of gitignore(5): a pattern without a slash before its end
 * matches at every depth, one with a slash at its end matches folders only, and what is in a folder
 * that is left out cannot be taken back.
 *
 * Pure. One thread at a time.
 */
#ifndef BUILD_IGNORE_H
#define BUILD_IGNORE_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"
#include "base/text.h"

enum ignore_rules { IGNORE_AS_DOCKER, IGNORE_AS_GIT };

enum {
    IGNORE_FILE_LIMIT = 1 << 20, /* bytes of a file of patterns */
    IGNORE_PATTERNS_LIMIT = 10000,
    IGNORE_PATTERN_LIMIT = 4096, /* bytes of one pattern */
};

struct ignore;

/* A set without patterns, which leaves nothing out. NULL: out of memory. */
struct ignore *ignore_new(enum ignore_rules rules);
void ignore_free(struct ignore *ignore); /* NULL is allowed */

/* Adds the patterns of a file. False: ERROR_INVALID, with `name` and the line in front, or
 * ERROR_MEMORY; the set is then to be freed. */
bool ignore_add_file(struct ignore *ignore, const char *name, struct text bytes,
                     struct error *error);

/* Adds one pattern as it would stand in a file. */
bool ignore_add(struct ignore *ignore, struct text pattern, struct error *error);

/* What is left out of a folder. `path` is relative to the folder, with slashes between its parts
 * and none at its ends. */
bool ignore_matches(const struct ignore *ignore, const char *path, bool is_folder);

/* Whether nothing below a folder that is left out is taken back. */
bool ignore_is_final(const struct ignore *ignore, const char *path);

static inline void ignore_free_call(struct ignore **ignore) {
    ignore_free(*ignore);
}
#define cleanup_ignore __attribute__((cleanup(ignore_free_call)))

#endif
