/* Reads images of a registry. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/json.h"
#include "catalog/source.h"
#include "copy/describe.h"
#include "copy/hosts.h"
#include "copy/patience.h"
#include "copy/sources.h"
#include "oci/manifest.h"
#include "oci/referrers.h"
#include "upstream/asking.h"
#include "upstream/pages.h"

struct registry_source {
    struct copy_source source;
    struct copy_registry registry;
};

static struct registry_source *own_of(struct copy_source *source) {
    return (struct registry_source *)source;
}

/* ---- manifests ---- */

static bool ask_manifest(const struct copy_registry *registry, const char *reference,
                         struct copy_manifest *out, struct error *error) {
    const struct repository *repository = &registry->repository;
    struct digest wanted = {0};
    cleanup_asking struct asking asking = {
        .request = {.what = UPSTREAM_MANIFEST, .reference = reference, .stop = registry->stop},
        .limit = MANIFEST_SIZE_LIMIT,
    };
    if (!asking_get(repository, &asking, error))
        return false;
    const struct upstream_head *head = &asking.head;
    bool by_digest = digest_parse(text_of(reference), &wanted);
    copy_manifest_finish(out);
    out->bytes = asking.body;
    out->bytes.limit = 0;
    asking.body = (struct buffer){0};
    if (copy_describe(out, head->content_type,
                      by_digest          ? &wanted
                      : head->has_digest ? &head->digest
                                         : NULL,
                      error)) {
        /* The registry's word counts: clients get the same one. */
        if (manifest_is_media_type(text_of(head->content_type)) &&
            strcmp(head->content_type, MEDIA_UNKNOWN) != 0)
            snprintf(out->media_type, sizeof out->media_type, "%s", head->content_type);
        return true;
    }
    return error_wrap(error, "upstream %s: manifest %s%s%s", repository->name.host,
                      repository->name.path, by_digest ? "@" : ":", reference);
}

static struct copy_patience patience_of(const struct copy_registry *registry) {
    struct copy_patience patience = {.limit_ms = registry->patience_ms, .stop = registry->stop};
    copy_patience_reset(&patience);
    return patience;
}

static bool get_manifest(struct copy_source *source, const char *reference,
                         struct copy_manifest *out, struct error *error) {
    const struct copy_registry *registry = &own_of(source)->registry;
    struct copy_patience patience = patience_of(registry);
    struct error why = {0};
    while (!ask_manifest(registry, reference, out, &why)) {
        if (copy_patience_wait(&patience, &why))
            continue;
        if (error)
            *error = why;
        return false;
    }
    return true;
}

/* Whether what was asked for by its digest has that digest. */
static bool check_answer(const struct copy_registry *registry, const char *reference,
                         const struct digest *is, struct error *error) {
    struct digest wanted;
    char text[DIGEST_STRING_SIZE];
    return !digest_parse(text_of(reference), &wanted) || wanted.algorithm != is->algorithm ||
           digest_equal(&wanted, is) ||
           error_set(error, ERROR_CORRUPT,
                     "upstream %s: manifest %s@%s: the registry says that its digest is %s",
                     registry->repository.name.host, registry->repository.name.path, reference,
                     digest_format(is, text));
}

bool copy_registry_find_digest(const struct copy_registry *registry, const char *reference,
                               struct digest *out, struct error *error) {
    struct copy_patience patience = patience_of(registry);
    struct error why = {0};
    while (!docker_digest_by_head((void *)(uintptr_t)registry->stop, &registry->repository,
                                  reference, out, &why)) {
        if (copy_patience_wait(&patience, &why))
            continue;
        if (error)
            *error = why;
        return false;
    }
    return check_answer(registry, reference, out, error);
}

static bool find_digest(struct copy_source *source, const char *reference, struct digest *out,
                        struct error *error) {
    return copy_registry_find_digest(&own_of(source)->registry, reference, out, error);
}

/* ---- blobs ---- */

/* A reading under way. */
struct reading {
    const struct copy_read *read;
    uint64_t next; /* byte that comes next */
    struct copy_patience patience;
    bool failed; /* by the taker of the bytes */
};

static bool take_head(void *context, const struct upstream_head *head, struct error *error) {
    struct reading *reading = context;
    uint64_t first = head->has_range ? head->range_first : 0;
    return first == reading->next ||
           error_set(error, ERROR_UNSUPPORTED,
                     "the response begins at byte %llu instead of %llu, because the registry takes "
                     "no ranges",
                     (unsigned long long)first, (unsigned long long)reading->next);
}

static bool take_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct reading *reading = context;
    const struct copy_read *read = reading->read;
    /* A registry without ranges sends what lies behind `last` as well. */
    if (read->last != UINT64_MAX && length > read->last + 1 - reading->next)
        length = (size_t)(read->last + 1 - reading->next);
    if (!length)
        return error_set(error, ERROR_CLOSED, "enough");
    reading->failed = !read->on_bytes(read->context, bytes, length, error);
    reading->next += length;
    copy_patience_reset(&reading->patience); /* our own waiting does not count either */
    return !reading->failed;
}

static bool is_done(const struct reading *reading) {
    return reading->read->last != UINT64_MAX && reading->next > reading->read->last;
}

static bool ask_blob(const struct registry_source *own, struct reading *reading,
                     struct error *error) {
    const struct copy_read *read = reading->read;
    char digest[DIGEST_STRING_SIZE];
    struct upstream_request request = {
        .what = UPSTREAM_BLOB,
        .host = own->registry.repository.name.host,
        .repository = own->registry.repository.name.path,
        .reference = digest_format(&read->digest, digest),
        .has_range = reading->next > 0 || read->last != UINT64_MAX,
        .range_first = reading->next,
        .range_last = read->last,
        .target = read->target,
        .stop = read->stop ? read->stop : own->registry.stop,
        .insists = reading->next > read->first,
    };
    const struct upstream_sink sink = {
        .context = reading, .on_head = take_head, .on_bytes = take_bytes};
    return upstream_perform(own->registry.repository.upstream, &request, &sink, error) ||
           is_done(reading);
}

static bool read_blob(struct copy_source *source, const struct copy_read *read,
                      struct error *error) {
    const struct registry_source *own = own_of(source);
    struct reading reading = {.read = read, .next = read->first};
    struct error why = {0};
    reading.patience = patience_of(&own->registry);
    if (read->stop)
        reading.patience.stop = read->stop;
    while (!ask_blob(own, &reading, &why)) {
        if (!reading.failed && copy_patience_wait(&reading.patience, &why))
            continue;
        if (error)
            *error = why;
        return false;
    }
    return true;
}

/* ---- lists ---- */

/* Calls `add` with each entry of the list. */
static bool walk_pages(const struct copy_registry *registry, enum upstream_what what,
                       const char *reference, bool (*add)(void *context, json_t *entry),
                       void *context, struct error *error) {
    struct pages *pages = pages_new(&registry->repository, what, reference);
    bool more = true, ok = pages || error_set(error, ERROR_MEMORY, "out of memory");
    size_t i;
    json_t *entry;
    if (pages)
        pages->asking.request.stop = registry->stop;
    while (ok && more) {
        ok = pages_get(pages, error);
        json_array_foreach (ok ? json_object_get(pages->page, pages->member) : NULL, i, entry) {
            if (ok && !add(context, entry))
                ok = error_set(error, ERROR_MEMORY, "out of memory");
        }
        ok = ok && pages_find_next(pages, &more, error);
    }
    pages_free(pages);
    return ok;
}

/* Walks the list, and from its beginning again after a fault that may pass. */
static bool walk(const struct registry_source *own, enum upstream_what what, const char *reference,
                 bool (*add)(void *context, json_t *entry), void *context, struct error *error) {
    struct copy_patience patience = patience_of(&own->registry);
    while (!walk_pages(&own->registry, what, reference, add, context, error)) {
        if (!copy_patience_wait(&patience, error))
            return false;
    }
    return true;
}

static bool add_tag(void *context, json_t *entry) {
    struct text tag = {json_string_value(entry), json_string_length(entry)};
    return !tag.at || !reference_is_tag(tag) || copy_names_add(context, tag);
}

static bool list_tags(struct copy_source *source, struct copy_names *out, struct error *error) {
    struct error why = {0};
    bool ok = walk(own_of(source), UPSTREAM_TAGS, NULL, add_tag, out, &why);
    copy_names_settle(out);
    if (!ok && error)
        *error = why;
    return ok;
}

/* A list of referrers, each one once, whatever was begun anew. */
static bool add_referrer(void *context, json_t *entry) {
    json_t *list = context, *other;
    const char *digest = json_string_value(json_object_get(entry, "digest"));
    size_t i;
    json_array_foreach (list, i, other) {
        const char *is = json_string_value(json_object_get(other, "digest"));
        if (digest && is && strcmp(digest, is) == 0)
            return true;
    }
    return !digest || json_array_append(list, entry) == 0;
}

/* Adds the entries of the index under the fallback tag; none, if it is no index, or the subject
 * itself, which some registries find under that tag. */
static bool read_fallback(struct copy_source *source, const struct digest *subject, json_t *list,
                          struct error *error) {
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    char tag[DIGEST_STRING_SIZE];
    struct error why = {0};
    size_t i;
    json_t *entry;
    if (!get_manifest(source, copy_describe_fallback(subject, tag), &manifest, &why)) {
        if (error)
            *error = why;
        return why.kind == ERROR_NOT_FOUND;
    }
    cleanup_json json_t *json =
        bounded_json_load_by(0, manifest.bytes.bytes, manifest.bytes.length, NULL);
    if (!referrers_is_index(json) || digest_equal(&manifest.digest, subject))
        return true;
    json_array_foreach (json_object_get(json, "manifests"), i, entry) {
        if (!add_referrer(list, entry))
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    return true;
}

/* Whether the failure says that there is no referrers API: registries say so by many statuses. */
static bool has_no_api(const struct error *error) {
    return error->kind == ERROR_UNSUPPORTED || error->status == 401 || error->status == 403 ||
           error->status == 501 || pages_is_about_request(error->status);
}

static bool get_referrers(struct copy_source *source, const struct digest *subject,
                          struct buffer *index, struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    struct error why = {0};
    cleanup_json json_t *list = json_array();
    bool ok = walk(own_of(source), UPSTREAM_REFERRERS, digest_format(subject, digest), add_referrer,
                   list, &why);
    if (!ok && has_no_api(&why))
        ok = read_fallback(source, subject, list, &why);
    if (ok)
        ok = copy_describe_index(list, index) || error_set(&why, ERROR_MEMORY, "out of memory");
    if (!ok && error)
        *error = why;
    return ok;
}

/* ---- its life ---- */

static void free_source(struct copy_source *source) {
    free(source);
}

static const struct copy_source_kind kind = {
    .get_manifest = get_manifest,
    .find_digest = find_digest,
    .read_blob = read_blob,
    .get_referrers = get_referrers,
    .list_tags = list_tags,
    .free = free_source,
};

struct copy_source *copy_registry_source_of(const struct copy_registry *registry,
                                            struct error *error) {
    struct registry_source *own = calloc(1, sizeof *own);
    if (!own) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    own->registry = *registry;
    own->source = (struct copy_source){.kind = &kind, .repository = &own->registry.repository};
    return &own->source;
}

struct copy_source *copy_registry_source_open(struct copy_hosts *hosts,
                                              const struct copy_reference *reference,
                                              struct error *error) {
    struct copy_registry registry = {.stop = copy_hosts_stop(hosts)};
    if (!copy_hosts_find(hosts, &reference->name, &registry.repository, error))
        return NULL;
    registry.patience_ms = copy_hosts_patience_ms(&registry.repository);
    return copy_registry_source_of(&registry, error);
}
