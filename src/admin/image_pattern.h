/* Names of images in the cache, as they are given to ls and rm (contents.h). Inside the room. */
#ifndef ADMIN_IMAGE_PATTERN_H
#define ADMIN_IMAGE_PATTERN_H

#include "oci/reference.h"

struct content_name {
    char repository[HOST_LIMIT + 1 + NAME_LIMIT + 1]; /* glob over HOST/REPOSITORY */
    char tag[TAG_LIMIT + 1];                          /* glob; "": none was given */
    struct digest digest;                             /* algorithm 0: none was given */
};

/* ERROR_INVALID says what is wrong with it. */
bool content_name_parse(struct text text, struct content_name *out, struct error *error);

/* The same for a NULL-terminated list (NULL: empty); the result is the caller's to free. */
struct content_name *content_names_parse(const char *const *texts, size_t *count,
                                         struct error *error);

bool content_name_is_whole(const struct content_name *name); /* has neither tag nor digest */
bool content_name_takes_repository(const struct content_name *name, const char *host,
                                   const char *repository);
/* Whether a tag that points to `digest` is meant; false for a whole repository. */
bool content_name_takes_tag(const struct content_name *name, const char *tag,
                            const struct digest *digest);

#endif
