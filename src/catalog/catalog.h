/*
 * What a repository holds: every image with all its tags.
 *
 * Artifact Registry tells everything at once over its REST API. Every other registry tells a list
 * of tags, and the digest of each for a request more. This room asks whichever API can answer, and
 * brings the answer in one shape. Only configured upstreams are asked, with their credentials, and
 * within their `repositories:`. It knows nothing of a cache: images are listed, not stored.
 *
 * A list is all of what there is, or the caller is told that it is not: a page that is malformed, a
 * chain of pages that has no end, or a response of another repository is an error, and what came
 * before it is not handed on as if it were all.
 *
 * Threads: any for catalog_list_images(), which blocks. A list belongs to one thread at a time.
 */
#ifndef CATALOG_CATALOG_H
#define CATALOG_CATALOG_H

#include "catalog/list.h"
#include "catalog/source.h"
#include "client/client.h"

struct catalog;

/*
 * `client` outlives it. `endpoint`: the base URL of the Artifact Registry API, in place of Google's
 * own; copied; NULL or "": Google's own (catalog_endpoint() is what the environment says). NULL:
 * out of memory.
 */
struct catalog *catalog_new(struct client *client, const char *endpoint);
void catalog_free(struct catalog *catalog); /* NULL is allowed */

/* $CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY, gcloud's name for it; NULL: not set. */
const char *catalog_endpoint(void);

/* "auto", "artifact-registry", "docker". */
const char *catalog_source_name(enum catalog_source source);
bool catalog_source_parse(struct text text, enum catalog_source *out);

/*
 * Finds out what `name` means: HOST/NAME without tag, or HOST/PROJECT/REPO of an Artifact Registry
 * host, by the rules of name_resolve(). Sets repository, upstreams and whole of *question. False:
 * the error is of the kinds of name_resolve().
 */
bool catalog_resolve(const struct upstreams *upstreams, struct text name,
                     struct catalog_question *question, struct error *error);

/* How a list came about. */
struct catalog_answer {
    enum catalog_source source; /* the one that was asked last; AUTO: none could be */
    /* `auto` asked Artifact Registry first, which failed with 403, 404 or 501, or got no token for
     * the key that it has, as this says. Kind NONE: it did not. */
    struct error fallback;
};

/*
 * Lists the images of the question's repository. The list is empty before; afterwards it is sealed
 * when the outcome is COMPLETE or PARTIAL, and empty when it is FAILED. The error is of the kinds
 * of upstream_perform(); a response that is no list of images is UNAVAILABLE and lasting.
 */
enum catalog_outcome catalog_list_images(struct catalog *catalog,
                                         const struct catalog_question *question,
                                         struct catalog_list *list, struct catalog_answer *answer,
                                         struct error *error);

#endif
