/* Lists the images of a repository by the Docker API: the tags, and then the digest of each. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/jobs.h"
#include "catalog/docker_manifest.h"
#include "catalog/docker_page.h"
#include "catalog/source.h"
#include "oci/manifest.h"
#include "oci/schema1.h"
#include "upstream/pages.h"

/* A list under way. */
struct docker {
    const struct catalog_question *question;
    struct catalog_list *list;
    char repository[HOST_LIMIT + NAME_LIMIT + 2]; /* "HOST/NAME" */
    struct docker_tags tags;
    struct digest *digests; /* owned: of each tag; algorithm 0: not known */
};

static bool wrap(const struct docker *docker, struct error *error, const char *what) {
    return error_wrap(error, "upstream %s: %s of %s", docker->question->repository.name.host, what,
                      docker->question->repository.name.path);
}

/* Whether there is time for a further request. */
static bool is_in_time(const struct docker *docker, struct error *error) {
    const struct catalog_question *question = docker->question;
    return !question->deadline_ms || clock_ms() < question->deadline_ms ||
           error_set(error, ERROR_TIMEOUT, "upstream %s: the images of %s were not told in time",
                     question->repository.name.host, question->repository.name.path);
}

/* ---- the pages ---- */

/* Gathers the tags, and the images where a page tells them. */
static bool read_pages(struct docker *docker, struct error *error) {
    const struct catalog_question *question = docker->question;
    struct pages *pages = pages_new(&question->repository, UPSTREAM_TAGS, NULL);
    bool more = true, ok = pages || error_set(error, ERROR_MEMORY, "out of memory");
    if (ok && question->cancel)
        pages->asking.request.stop = question->cancel->stop;
    while (ok && more) {
        ok = cancel_check(question->cancel, error) && is_in_time(docker, error) &&
             pages_get(pages, error);
        if (ok &&
            !docker_page_read(pages->page, docker->repository, docker->list, &docker->tags, error))
            ok = wrap(docker, error, "the list of tags");
        ok = ok && pages_find_next(pages, &more, error);
    }
    pages_free(pages);
    return ok;
}

/* ---- digests ---- */

static bool find_digest(struct jobs *jobs, size_t number, struct error *error) {
    struct docker *docker = jobs->context;
    const struct catalog_question *question = docker->question;
    if (!is_in_time(docker, error))
        return false;
    if (question->digest_of(question->digest_context, &question->repository,
                            docker->tags.names[number], &docker->digests[number], error))
        return true;
    docker->digests[number] = (struct digest){0};
    return error->kind == ERROR_NOT_FOUND && !error->doubtful; /* the tag is gone meanwhile */
}

/* Enters an image for each tag, or with the digest that several tags have. */
static bool enter_tags(struct docker *docker, struct error *error) {
    const struct docker_tags *tags = &docker->tags;
    for (size_t i = 0; i < tags->count; i++) {
        const struct digest *digest = docker->digests ? &docker->digests[i] : NULL;
        if (digest && digest->algorithm == 0)
            continue;
        struct catalog_image *image =
            catalog_list_enter(docker->list, text_of(docker->repository), digest, error);
        if (!image || !catalog_list_add_tag(docker->list, image, text_of(tags->names[i]), error))
            return wrap(docker, error, "the list of tags");
    }
    return true;
}

static unsigned jobs_of(const struct catalog_question *question) {
    return question->jobs ? question->jobs : CATALOG_JOBS;
}

/* Finds the digest of each tag that no page has told. What is known is entered in any case. */
static bool find_digests(struct docker *docker, struct error *error) {
    const struct catalog_question *question = docker->question;
    if (question->no_digests)
        return enter_tags(docker, error);
    docker->digests = calloc(docker->tags.count + 1, sizeof *docker->digests);
    if (!docker->digests)
        return error_set(error, ERROR_MEMORY, "out of memory");
    struct jobs jobs = {.name = "images",
                        .count = docker->tags.count,
                        .at_once = jobs_of(question),
                        .cancel = question->cancel,
                        .work = find_digest,
                        .context = docker};
    struct error failure = {0};
    bool ok = jobs_run(&jobs, error);
    return enter_tags(docker, ok ? error : &failure) && ok;
}

/* The digest of what was asked for, by the algorithm of `wanted` (NULL: SHA-256). */
static bool compute(const struct buffer *body, const struct digest *wanted, struct digest *out) {
    enum digest_algorithm algorithm = wanted ? wanted->algorithm : DIGEST_SHA256;
    struct digest payload;
    if (!digest_of(algorithm, body->bytes, body->length, out))
        return false;
    if ((!wanted || !digest_equal(wanted, out)) &&
        schema1_digest(body->bytes, body->length, algorithm, &payload))
        *out = payload;
    return true;
}

static bool names_digest(const struct upstream_head *head) {
    return head->has_digest;
}

static bool check_manifest(struct asking *asking, struct error *error) {
    const struct repository *repository = asking->context;
    const struct upstream_head *head = &asking->head;
    struct digest digest;
    struct manifest manifest;
    if (head->has_digest) {
        if (!compute(&asking->body, &head->digest, &digest))
            return error_set(error, ERROR_MEMORY, "out of memory");
        return digest_equal(&digest, &head->digest) ||
               error_set(error, ERROR_UNAVAILABLE,
                         "upstream %s: manifest of %s: the bytes have another digest than the "
                         "response says",
                         repository->name.host, repository->name.path);
    }
    if (!manifest_parse(asking->body.bytes, asking->body.length, &manifest, error)) {
        if (error && error->kind != ERROR_MEMORY)
            error->kind = ERROR_UNAVAILABLE;
        return error_wrap(error, "upstream %s: manifest of %s: the response is no manifest",
                          repository->name.host, repository->name.path);
    }
    manifest_finish(&manifest);
    return true;
}

bool docker_digest_by_head(void *context, const struct repository *repository, const char *tag,
                           struct digest *out, struct error *error) {
    cleanup_asking struct asking asking = {
        .request = {.what = UPSTREAM_MANIFEST,
                    .head_only = true,
                    .reference = tag,
                    .stop = context},
        .limit = MANIFEST_SIZE_LIMIT,
        .accept = check_manifest,
        .context = (void *)repository,
        .says_enough = names_digest,
    };
    if (!asking_get(repository, &asking, error))
        return false;
    *out = asking.head.digest;
    if (asking.head.has_digest)
        return true;
    return compute(&asking.body, NULL, out) || error_set(error, ERROR_MEMORY, "out of memory");
}

/* ---- sizes ---- */

static bool check_digest(struct asking *asking, struct error *error) {
    const struct digest *wanted = asking->context;
    struct digest is;
    char text[DIGEST_STRING_SIZE];
    if (!compute(&asking->body, wanted, &is))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return digest_equal(wanted, &is) ||
           error_set(error, ERROR_UNAVAILABLE, "the bytes sent for %s have another digest",
                     digest_format(wanted, text));
}

/* Asks for one manifest. An image that is gone meanwhile keeps what is known of it. */
static bool read_manifest(struct jobs *jobs, size_t number, struct error *error) {
    struct docker *docker = jobs->context;
    const struct cancel *cancel = docker->question->cancel;
    char text[DIGEST_STRING_SIZE];
    lock_acquire(&jobs->state_lock);
    struct digest digest = docker->list->images[number].digest;
    lock_release(&jobs->state_lock);
    cleanup_asking struct asking asking = {
        .request = {.what = UPSTREAM_MANIFEST,
                    .reference = digest_format(&digest, text),
                    .stop = cancel ? cancel->stop : NULL},
        .limit = MANIFEST_SIZE_LIMIT,
        .accept = check_digest,
        .context = &digest,
    };
    if (!is_in_time(docker, error))
        return false;
    if (!asking_get(&docker->question->repository, &asking, error))
        return error->kind == ERROR_NOT_FOUND && !error->doubtful;
    lock_acquire(&jobs->state_lock);
    bool ok =
        docker_manifest_read(docker->list, number, &asking.body, asking.head.content_type, error);
    lock_release(&jobs->state_lock);
    return ok || wrap(docker, error, "a manifest");
}

static bool read_manifests(struct docker *docker, struct error *error) {
    struct jobs jobs = {.name = "images",
                        .count = docker->list->count,
                        .at_once = jobs_of(docker->question),
                        .cancel = docker->question->cancel,
                        .work = read_manifest,
                        .context = docker};
    return jobs_run(&jobs, error);
}

/* ---- the list ---- */

static bool list_images(struct docker *docker, struct error *error) {
    const struct catalog_question *question = docker->question;
    struct error failure = {0};
    if (!read_pages(docker, error)) {
        if (question->no_digests) /* what is known, if the registry asks to slow down */
            enter_tags(docker, &failure);
        return false;
    }
    if (!docker_tags_settle(&docker->tags, docker->list))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return find_digests(docker, error) &&
           (!question->sizes || question->no_digests || read_manifests(docker, error));
}

enum catalog_outcome docker_list_images(const struct catalog_question *question,
                                        struct catalog_list *list, struct error *error) {
    const struct repository_name *name = &question->repository.name;
    struct docker docker = {.question = question, .list = list};
    struct error why = {0};
    snprintf(docker.repository, sizeof docker.repository, "%s/%s", name->host, name->path);
    bool ok = !question->whole ? list_images(&docker, &why)
                               : error_set(&why, ERROR_UNSUPPORTED,
                                           "upstream %s: the Docker API does not tell which images "
                                           "%s has; name one of them",
                                           name->host, name->path);
    docker_tags_finish(&docker.tags);
    free(docker.digests);
    if (!ok && error)
        *error = why;
    if (ok)
        return CATALOG_COMPLETE;
    return why.kind == ERROR_RATE_LIMITED && list->count > 0 ? CATALOG_PARTIAL : CATALOG_FAILED;
}
