/* Renews what is known of a repository, here and in the other replicas. */
#include "registry/renewal.h"

#include <stdio.h>
#include <string.h>
#include "registry/call.h"
#include "upstream/name.h"

static const char manifest_written[] = "manifest-written", manifest_deleted[] = "manifest-deleted",
                  blob_written[] = "blob-written", blob_deleted[] = "blob-deleted";

/* ---- telling the others ---- */

static void tell(struct replica_asker *asker, const struct repository *repository, const char *what,
                 const struct reference *reference, const struct digest *subject) {
    char name[HOST_LIMIT + NAME_LIMIT + 2], digest[DIGEST_STRING_SIZE], of[DIGEST_STRING_SIZE] = "";
    if (!asker)
        return;
    snprintf(name, sizeof name, "%s/%s", repository->name.host, repository->name.path);
    if (subject->algorithm)
        digest_format(subject, of);
    const struct replica_write write = {
        .name = name,
        .reference =
            reference->is_digest ? digest_format(&reference->digest, digest) : reference->tag,
        .what = what,
        .subject = of,
    };
    replica_asker_renew(asker, &write);
}

static void tell_blob(struct replica_asker *asker, const struct repository *repository,
                      const char *what, const struct digest *digest) {
    const struct reference reference = {.is_digest = true, .digest = *digest};
    const struct digest none = {0};
    tell(asker, repository, what, &reference, &none);
}

void renewal_blob_written(struct replica_asker *asker, struct cache *cache,
                          const struct repository *repository, const struct digest *digest,
                          uint64_t size, bool is_stored) {
    tell_blob(asker, repository, blob_written, digest);
    cache_blob_written(cache, repository, digest, size, is_stored);
    tell_blob(asker, repository, blob_written, digest);
}

void renewal_blob_deleted(struct replica_asker *asker, struct cache *cache,
                          const struct repository *repository, const struct digest *digest) {
    tell_blob(asker, repository, blob_deleted, digest);
    cache_blob_deleted(cache, repository, digest);
    tell_blob(asker, repository, blob_deleted, digest);
}

void renewal_manifest_written(struct replica_asker *asker, struct cache *cache,
                              const struct repository *repository,
                              const struct cache_pushed *pushed) {
    const struct digest subject = cache_subject(pushed->bytes, pushed->length);
    tell(asker, repository, manifest_written, pushed->reference, &subject);
    cache_manifest_written(cache, repository, pushed);
    tell(asker, repository, manifest_written, pushed->reference, &subject);
}

void renewal_manifest_deleted(struct replica_asker *asker, struct cache *cache,
                              const struct repository *repository,
                              const struct reference *reference) {
    const struct digest none = {0};
    tell(asker, repository, manifest_deleted, reference, &none);
    cache_manifest_deleted(cache, repository, reference);
    tell(asker, repository, manifest_deleted, reference, &none);
}

/* ---- being told ---- */

/* An order as it came. */
struct renewal_order {
    struct repository repository;
    struct reference reference;
    struct digest subject;
    char what[24];
};

static bool read_parameter(const struct call *call, const char *name, char *out, size_t size) {
    bool found;
    return http_query(call->request, name, out, size, &found);
}

/* False: it is none. *is_ours: the repository's upstream is configured. */
static bool read_order(const struct call *call, struct renewal_order *order, bool *is_ours) {
    char name[HOST_LIMIT + NAME_LIMIT + 2], text[DIGEST_STRING_SIZE], subject[DIGEST_STRING_SIZE];
    struct error ignored;
    if (!read_parameter(call, "name", name, sizeof name) ||
        !read_parameter(call, "what", order->what, sizeof order->what) ||
        !read_parameter(call, "reference", text, sizeof text) ||
        !read_parameter(call, "subject", subject, sizeof subject) ||
        !reference_parse(text_of(text), &order->reference) ||
        (subject[0] && !digest_parse(text_of(subject), &order->subject)))
        return false;
    *is_ours = name_resolve(call->view->upstreams, "", text_of(name), &order->repository, &ignored);
    return true;
}

/* False: it is no order that there is. */
static bool carry_out(struct cache *cache, const struct renewal_order *order) {
    const struct repository *repository = &order->repository;
    const struct reference *reference = &order->reference;
    if (strcmp(order->what, manifest_written) == 0)
        cache_manifest_renewed(cache, repository, reference, &order->subject);
    else if (strcmp(order->what, manifest_deleted) == 0)
        cache_manifest_deleted(cache, repository, reference);
    else if (strcmp(order->what, blob_written) == 0 && reference->is_digest)
        cache_blob_renewed(cache, repository, &reference->digest);
    else if (strcmp(order->what, blob_deleted) == 0 && reference->is_digest)
        cache_blob_deleted(cache, repository, &reference->digest);
    else
        return false;
    return true;
}

bool call_handle_renew(struct call *call) {
    struct renewal_order order = {0};
    bool is_ours = false;
    if (call->must_not_wait)
        return false;
    if (!read_order(call, &order, &is_ours) ||
        (is_ours && !carry_out(call->registry->settings.cache, &order))) {
        call_fail(call, 400, "UNSUPPORTED", "there is no such order");
        return true;
    }
    call_set_answer(call, is_ours ? REPLICA_ANSWER_HELD : REPLICA_ANSWER_NO);
    http_respond(call->exchange, 200, "application/json", "{}", 2);
    return true;
}
