/*
 * Names of Artifact Registry: from what people pull to what its REST API calls it, and back.
 *
 *   eu-docker.pkg.dev/PROJECT/REPO/NAME projects/PROJECT/locations/europe/repositories/REPO
 *   docker.LOCATION.rep.pkg.dev/PROJECT/REPO/NAME  the same, at a regional endpoint
 *   gcr.io/PROJECT/NAME                          projects/PROJECT/locations/us/repositories/gcr.io
 *
 * A project of a domain is DOMAIN:PROJECT for the API and DOMAIN/PROJECT in a name. NAME may have
 * several parts, which the API joins by %2F. Pure; hostile input.
 */
#ifndef CATALOG_ARTIFACT_NAME_H
#define CATALOG_ARTIFACT_NAME_H

#include <stdbool.h>
#include "base/buffer.h"
#include "base/text.h"
#include "oci/reference.h"

struct artifact_name {
    char project[NAME_LIMIT + 1];    /* "my-project", "example.com:my-project" */
    char location[HOST_LIMIT + 1];   /* "us-central1" */
    char repository[NAME_LIMIT + 1]; /* "my-repo", "gcr.io" */
    char image[NAME_LIMIT + 1];      /* "app", "team/app"; "": the name ends before it */
};

/* Whether the host is one whose images the REST API lists. */
bool artifact_name_is_host(struct text host);

/* Reads HOST and the path behind it. False: the host is none of Artifact Registry's, or the path
 * ends before a repository. */
bool artifact_name_parse(struct text host, struct text path, struct artifact_name *out);

/* Whether both are of one repository of one project. */
bool artifact_name_same_repository(const struct artifact_name *a, const struct artifact_name *b);

/* Appends "projects/P/locations/L/repositories/R". */
void artifact_name_append_parent(const struct artifact_name *name, struct buffer *out);

/* Appends the filter for the images of this name, before any encoding for a URL:
 * name="projects/P/locations/L/repositories/R/dockerImages/team%2Fapp@*" False: out
 * of memory. */
bool artifact_name_append_filter(const struct artifact_name *name, struct buffer *out);

#endif
