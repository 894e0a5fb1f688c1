/* Chooses the source of a list of images, and asks it. */
#include "catalog/catalog.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/google/google.h"
#include "base/base64.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/secret.h"
#include "catalog/artifact_registry.h"
#include "upstream/name.h"

enum { CREDENTIAL_MS = 60000 }; /* how long a source of credentials may take */

struct catalog {
    struct client *client;
    struct artifact_registry *artifact_registry;
    atomic_bool token_refused; /* the API said 401: the next token is not the one that is held */
};

struct catalog *catalog_new(struct client *client, const char *endpoint) {
    struct catalog *catalog = calloc(1, sizeof *catalog);
    if (!catalog)
        return NULL;
    catalog->client = client;
    catalog->artifact_registry = artifact_registry_new(client, endpoint);
    if (catalog->artifact_registry)
        return catalog;
    free(catalog);
    return NULL;
}

void catalog_free(struct catalog *catalog) {
    if (catalog)
        artifact_registry_free(catalog->artifact_registry);
    free(catalog);
}

const char *catalog_endpoint(void) {
    return getenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY");
}

/* ---- names of sources ---- */

static const char *const source_names[] = {
    [CATALOG_AUTO] = "auto",
    [CATALOG_ARTIFACT_REGISTRY] = "artifact-registry",
    [CATALOG_DOCKER] = "docker",
};

const char *catalog_source_name(enum catalog_source source) {
    return source_names[source];
}

bool catalog_source_parse(struct text text, enum catalog_source *out) {
    for (size_t i = 0; i < sizeof source_names / sizeof *source_names; i++) {
        if (text_is(text, source_names[i])) {
            *out = (enum catalog_source)i;
            return true;
        }
    }
    return false;
}

/* ---- which repository is meant ---- */

/* Whether the glob may match a name that begins with `path` and a slash. */
static bool may_match_below(const char *glob, struct text path) {
    struct text rest = text_of(glob);
    char part[NAME_LIMIT + 1];
    while (path.at) {
        struct text glob_part = text_cut(rest, '/', &rest);
        struct text path_part = text_cut(path, '/', &path);
        if (!text_copy(glob_part, part, sizeof part) || strstr(part, "**"))
            return true;
        if (!rest.at || !text_matches_glob(part, path_part))
            return false;
    }
    return true;
}

/* The first entry of the upstream's host that may serve names below `path`; NULL: there is none. */
static struct upstream *find_below(const struct upstreams *upstreams, const struct upstream *named,
                                   const char *path) {
    struct upstream *upstream = NULL;
    while ((upstream = upstreams_next(upstreams, upstream))) {
        const char *const *globs = upstream_settings(upstream)->repositories;
        if (strcmp(upstream_name(upstream), upstream_name(named)) != 0)
            continue;
        if (!globs)
            return upstream;
        for (; *globs; globs++) {
            if (may_match_below(*globs, text_of(path)))
                return upstream;
        }
    }
    return NULL;
}

/* HOST/PROJECT/REPO itself need not be one of the upstream's repositories, as long as names below
 * it may be. */
static bool resolve_denied(const struct upstreams *upstreams, struct text name,
                           struct repository *repository) {
    struct text rest, first = text_cut(name, '/', &rest);
    struct artifact_name artifact;
    struct repository whole = {.upstream = repository->upstream};
    if (rest.at && reference_looks_like_host(first))
        name = rest;
    if (!repository_name_parse(text_of(repository->name.host), name, &whole.name) ||
        !artifact_registry_name(&whole, &artifact) || artifact.image[0])
        return false;
    whole.upstream = find_below(upstreams, whole.upstream, whole.name.path);
    if (whole.upstream)
        *repository = whole;
    return whole.upstream != NULL;
}

bool catalog_resolve(const struct upstreams *upstreams, struct text name,
                     struct catalog_question *question, struct error *error) {
    struct artifact_name artifact;
    struct error reason = {0};
    struct repository *repository = &question->repository;
    question->upstreams = upstreams;
    if (!name_resolve(upstreams, "", name, repository, &reason) &&
        (reason.kind != ERROR_DENIED || !resolve_denied(upstreams, name, repository))) {
        if (error)
            *error = reason;
        return false;
    }
    question->whole = artifact_registry_name(repository, &artifact) && !artifact.image[0];
    return true;
}

/* ---- which source ---- */

/* An answer that is nothing but a failure. */
static bool fail(struct error *error, enum error_kind kind, const struct catalog_question *question,
                 const char *why) {
    return error_set(error, kind, "upstream %s: %s", question->repository.name.host, why);
}

/* The key in the password of _json_key or _json_key_base64, for secret_free(). NULL: it is another
 * user's, or malformed. */
static char *key_in(const struct credential *credential) {
    const char *user = credential->kind == CREDENTIAL_BASIC ? credential->username : "";
    size_t length;
    if (strcmp(user, "_json_key") == 0)
        return strdup(credential->secret);
    if (strcmp(user, "_json_key_base64") == 0)
        return base64_decode(text_trim(text_of(credential->secret)), &length);
    return NULL;
}

/* Takes a token of the service account in place of its key. */
static bool exchange_key(const struct catalog *catalog, struct credential *credential,
                         struct error *error) {
    cleanup_google_token struct google_token token = {0};
    cleanup_secret char *key = key_in(credential);
    if (!key)
        return true;
    if (!google_token_from_key(catalog->client, key, &token, error))
        return false;
    credential_wipe(credential);
    credential->kind = CREDENTIAL_BASIC;
    credential->username = strdup(GOOGLE_USERNAME);
    credential->secret = take(token.secret);
    memcpy(credential->quota_project, token.quota_project, sizeof token.quota_project);
    memcpy(credential->universe, token.universe, sizeof token.universe);
    return credential->username || error_set(error, ERROR_MEMORY, "out of memory");
}

/* The upstream's own credential for the repository. */
static bool get_credential(struct catalog *catalog, const struct catalog_question *question,
                           struct credential *credential, struct error *error) {
    const struct repository *repository = &question->repository;
    char name[HOST_LIMIT + NAME_LIMIT + 2];
    int64_t deadline_ms =
        question->deadline_ms ? question->deadline_ms : clock_ms() + CREDENTIAL_MS;
    snprintf(name, sizeof name, "%s/%s", repository->name.host, repository->name.path);
    bool renew = atomic_exchange(&catalog->token_refused, false);
    return credential_source_get(upstream_settings(repository->upstream)->credentials, name, renew,
                                 deadline_ms, credential, error) ||
           error_wrap(error, "upstream %s", repository->name.host);
}

/* The API that can tell everything refuses to: another one may answer. */
static bool is_refused(const struct error *error) {
    return error->status == 403 || error->status == 404 || error->status == 501;
}

static enum catalog_outcome ask_docker(const struct catalog_question *question,
                                       struct catalog_list *list, struct catalog_answer *answer,
                                       struct error *error) {
    if (question->whole) {
        fail(error, ERROR_UNSUPPORTED, question,
             "the Docker API lists the tags of one image name, and not all names of a repository; "
             "write the name of an image behind it");
        return CATALOG_FAILED;
    }
    answer->source = CATALOG_DOCKER;
    return docker_list_images(question, list, error);
}

/* After a failure that another API need not share, `auto` asks that one. */
static enum catalog_outcome fall_back(const struct catalog_question *question,
                                      struct catalog_list *list, struct catalog_answer *answer,
                                      struct error *error) {
    if (question->source != CATALOG_AUTO || question->whole)
        return CATALOG_FAILED;
    answer->fallback = *error;
    catalog_list_finish(list);
    return ask_docker(question, list, answer, error);
}

/* Without a token the API cannot be asked. */
static enum catalog_outcome ask_without_token(const struct catalog_question *question,
                                              struct catalog_list *list,
                                              struct catalog_answer *answer, struct error *error) {
    if (question->source == CATALOG_AUTO && !question->whole)
        return ask_docker(question, list, answer, error);
    fail(error, ERROR_DENIED, question,
         "the Artifact Registry API needs a Google access token, and the credentials of the "
         "upstream are none; set `credentials: google`, and see: tarn whoami");
    return CATALOG_FAILED;
}

static enum catalog_outcome
ask_artifact_registry(struct catalog *catalog, const struct catalog_question *question,
                      const struct artifact_name *name, struct catalog_list *list,
                      struct catalog_answer *answer, struct error *error) {
    cleanup_credential struct credential credential = {0};
    if (!get_credential(catalog, question, &credential, error))
        return CATALOG_FAILED;
    if (!exchange_key(catalog, &credential, error)) {
        error_wrap(error, "upstream %s", question->repository.name.host);
        return fall_back(question, list, answer, error);
    }
    if (!artifact_registry_accepts(&credential))
        return ask_without_token(question, list, answer, error);
    answer->source = CATALOG_ARTIFACT_REGISTRY;
    if (artifact_registry_list_images(catalog->artifact_registry, question, name, &credential, list,
                                      error))
        return CATALOG_COMPLETE;
    if (error->status == 401)
        atomic_store(&catalog->token_refused, true);
    return is_refused(error) ? fall_back(question, list, answer, error) : CATALOG_FAILED;
}

static enum catalog_outcome ask(struct catalog *catalog, const struct catalog_question *question,
                                struct catalog_list *list, struct catalog_answer *answer,
                                struct error *error) {
    struct artifact_name name;
    bool is_artifact = artifact_registry_name(&question->repository, &name);
    if (is_artifact && question->source != CATALOG_DOCKER)
        return ask_artifact_registry(catalog, question, &name, list, answer, error);
    if (question->source == CATALOG_ARTIFACT_REGISTRY) {
        fail(error, ERROR_UNSUPPORTED, question,
             "it is no host of Artifact Registry (LOCATION-docker.pkg.dev, gcr.io), or the name "
             "ends before PROJECT/REPO; the source `docker` asks any registry");
        return CATALOG_FAILED;
    }
    return ask_docker(question, list, answer, error);
}

enum catalog_outcome catalog_list_images(struct catalog *catalog,
                                         const struct catalog_question *question,
                                         struct catalog_list *list, struct catalog_answer *answer,
                                         struct error *error) {
    struct error reason = {0};
    *answer = (struct catalog_answer){0};
    enum catalog_outcome outcome = ask(catalog, question, list, answer, &reason);
    if (outcome == CATALOG_FAILED)
        catalog_list_finish(list);
    else
        catalog_list_seal(list);
    if (error)
        *error = reason;
    return outcome;
}
