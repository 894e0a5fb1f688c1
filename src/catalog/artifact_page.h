/*
 * One page of the REST API's list of images (projects.locations.repositories.dockerImages.list),
 * and the errors of Google's APIs. Pure; hostile input.
 */
#ifndef CATALOG_ARTIFACT_PAGE_H
#define CATALOG_ARTIFACT_PAGE_H

#include "base/buffer.h"
#include "catalog/artifact_name.h"
#include "catalog/list.h"

enum { ARTIFACT_TOKEN_LIMIT = 8 * 1024 }; /* bytes of a page's token */

/* Which images of a repository are wanted, and under which name they enter the list. */
struct artifact_wanted {
    const struct artifact_name *name; /* without `image`: all images of the repository */
    /* "HOST/NAME" of the one image that is wanted; of a whole repository "HOST/PROJECT/REPO", to
     * which "/" and the image's name are added. */
    const char *shown;
    /* Of a whole repository: whether images of the name ("HOST/PROJECT/REPO/NAME", as shown) may be
     * listed. NULL: all. */
    bool (*may_list)(void *context, const char *shown);
    void *context;
};

/*
 * Adds the wanted images of a page to the list. Appends the next page's token to `token`; nothing:
 * this page is the last one. False (ERROR_UNAVAILABLE, lasting; ERROR_MEMORY): the page is no JSON
 * object, or an entry is malformed, has no `uri`, or is of another repository. The text says what;
 * what was entered before stays.
 */
bool artifact_page_read(const void *bytes, size_t length, const struct artifact_wanted *wanted,
                        struct catalog_list *list, struct buffer *token, struct error *error);

/* What Google's JSON envelope of an error says; each is "" when it does not say it, and printable.
 */
struct artifact_failure {
    char message[400];
    char status[64];   /* "PERMISSION_DENIED" */
    char reason[64];   /* "SERVICE_DISABLED" */
    char consumer[80]; /* the project that a SERVICE_DISABLED is about: an id, or a number */
};
void artifact_page_read_failure(const void *bytes, size_t length, struct artifact_failure *out);

#endif
