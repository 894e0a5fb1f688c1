/*
 * What a source of images is: one function that fills a list. A source has a file of its own:
 *
 *   artifact_registry.c  the REST API of Artifact Registry, which tells everything at once
 *   docker.c             tags/list of distribution-spec, and a digest for each tag
 *
 * Which one is asked decides catalog.c.
 */
#ifndef CATALOG_SOURCE_H
#define CATALOG_SOURCE_H

#include "base/cancel.h"
#include "catalog/list.h"
#include "upstream/upstream.h"

enum catalog_source { CATALOG_AUTO, CATALOG_ARTIFACT_REGISTRY, CATALOG_DOCKER };

/*
 * The digest of a tag. Called by several threads at once, for one repository. False with the error
 * set, by the kinds of upstream_perform(): NOT_FOUND, because the tag is gone meanwhile;
 * RATE_LIMITED ends the whole list.
 */
typedef bool catalog_digest_of(void *context, const struct repository *repository, const char *tag,
                               struct digest *out, struct error *error);

enum { CATALOG_JOBS = 8 };

struct catalog_question {
    /* `path` is NAME as one pulls it, with library/ added. With `whole`: PROJECT/REPO. */
    struct repository repository;
    const struct upstreams *upstreams; /* the set that `repository` is of */
    /* Every image name of an Artifact Registry repository, as far as the `repositories:` of the
     * upstream allow it. Only that API can tell. */
    bool whole;
    enum catalog_source source; /* what the user wants */

    /* For the Docker API. */
    bool no_digests;              /* names only: an image for each tag, with its digest untold */
    bool sizes;                   /* one GET of each manifest, for size, media type, platforms */
    unsigned jobs;                /* requests for digests at once; 0: CATALOG_JOBS */
    catalog_digest_of *digest_of; /* not NULL unless no_digests */
    void *digest_context;

    const struct cancel *cancel; /* looked at between requests and in waits; may be NULL */
    int64_t deadline_ms; /* clock_ms() beyond which nothing is tried again; 0: there is none */
};

enum catalog_outcome {
    CATALOG_FAILED,   /* the error is set; what the list holds is of no use */
    CATALOG_PARTIAL,  /* the error is set (RATE_LIMITED), and what the list holds is true: the
                         source was told to stop in the middle */
    CATALOG_COMPLETE, /* the list holds all images */
};

/* The sources. The caller seals the list. Every text of an error begins with "upstream HOST: ". */

struct artifact_registry; /* catalog/artifact_registry.h */

/*
 * Fills the list from `GET /v2/NAME/tags/list`, page by page (catalog/docker.c). NOT_FOUND: there
 * is no such repository; a repository without tags is COMPLETE.
 */
enum catalog_outcome docker_list_images(const struct catalog_question *question,
                                        struct catalog_list *list, struct error *error);

/* A catalog_digest_of that asks upstream with a plain HEAD of the manifest, and with a GET where
 * HEAD is refused (catalog/docker.c). `context` is a const atomic_bool, or NULL: set, it ends the
 * question (CLOSED). */
catalog_digest_of docker_digest_by_head;

#endif
