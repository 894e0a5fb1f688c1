/*
 * Patterns of images, as ls and rm take them. Pure; any thread.
 *
 * A pattern is UPSTREAM/REPOSITORY with :TAG, with @DIGEST, or with neither, which means all of the
 * repository. UPSTREAM, REPOSITORY and TAG may be globs (text_matches_glob()). Any of Docker Hub's
 * hosts means Docker Hub, and its one-part names get library/ in front. "**" alone means
 * everything.
 */
#ifndef ADMIN_IMAGE_PATTERN_H
#define ADMIN_IMAGE_PATTERN_H

#include "oci/reference.h"

struct image_pattern {
    char repository[HOST_LIMIT + 1 + NAME_LIMIT + 1]; /* glob over HOST/REPOSITORY */
    char tag[TAG_LIMIT + 1];                          /* glob; "": none was given */
    struct digest digest;                             /* algorithm 0: none was given */
};

/* False: ERROR_INVALID says what is wrong with it. */
bool image_pattern_parse(struct text text, struct image_pattern *out, struct error *error);

/* The same for a NULL-terminated list (NULL: empty); the result is the caller's to free. NULL: the
 * error is set. */
struct image_pattern *image_patterns_parse(const char *const *texts, size_t *count,
                                           struct error *error);

/* Whether the pattern means a whole repository: it has neither tag nor digest. */
bool image_pattern_is_whole(const struct image_pattern *pattern);
bool image_pattern_matches_repository(const struct image_pattern *pattern,
                                      const struct repository_name *repository);
/* Whether the pattern means the tag `tag`, which points to `digest`. False for a pattern of a whole
 * repository. */
bool image_pattern_matches_tag(const struct image_pattern *pattern, const char *tag,
                               const struct digest *digest);

#endif
