/*
 * The source of images that asks the REST API of Artifact Registry: a page of up to 1,000 images a
 * request, each with its digest, all its tags, its size and its times.
 *
 * The API is at https://artifactregistry.UNIVERSE/, where UNIVERSE is that of the credentials. The
 * access token is sent to the API's origin and to no other, and no redirect is followed. 408, 429,
 * 500, 502, 503, 504 and a connection that fails are tried again, four times in all; every other
 * status is final.
 *
 * Nothing here was tried against Google's live service. The formats are those of Google's own
 * client libraries and of their tests.
 *
 * Threads: any.
 */
#ifndef CATALOG_ARTIFACT_REGISTRY_H
#define CATALOG_ARTIFACT_REGISTRY_H

#include "auth/credential.h"
#include "catalog/artifact_name.h"
#include "catalog/source.h"
#include "client/client.h"

enum {
    ARTIFACT_REGISTRY_ATTEMPTS = 4,
    ARTIFACT_REGISTRY_PAGE_SIZE = 1000,
    ARTIFACT_REGISTRY_PAGES_LIMIT = 1000,
    ARTIFACT_REGISTRY_PAGE_BYTES = 16 << 20,
    ARTIFACT_REGISTRY_PATIENCE_S = 60, /* the longest wait before another attempt */
};

struct artifact_registry;

/* As catalog_new(). */
struct artifact_registry *artifact_registry_new(struct client *client, const char *endpoint);
void artifact_registry_free(struct artifact_registry *registry); /* NULL is allowed */

/*
 * What the API calls the repository. It is one of Artifact Registry when its host is, or when the
 * upstream's `url` leads to such a host. False: it is none, or its name ends too early.
 */
bool artifact_registry_name(const struct repository *repository, struct artifact_name *out);

/* Whether the credential is a Google access token. */
bool artifact_registry_accepts(const struct credential *credential);

/*
 * Fills the list with the images of `name`, which is that of the question's repository, with a
 * credential that artifact_registry_accepts(). True: the list is complete. False: error->status is
 * the API's, if it refused.
 */
bool artifact_registry_list_images(struct artifact_registry *registry,
                                   const struct catalog_question *question,
                                   const struct artifact_name *name,
                                   const struct credential *credential, struct catalog_list *list,
                                   struct error *error);

#endif
