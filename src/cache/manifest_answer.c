/* Answers questions about manifests. */
#include "cache/manifest_answer.h"

#include <string.h>
#include "cache/ask.h"
#include "cache/cache_private.h"
#include "cache/document.h"
#include "cache/manifest_bucket.h"
#include "cache/manifest_store.h"
#include "cache/owner.h"
#include "oci/manifest.h"
#include "oci/schema1.h"
#include "store/blobs.h"

/* ---- upstream's ---- */

static const char *reference_text(const struct reference *reference,
                                  char digest[static DIGEST_STRING_SIZE]) {
    return reference->is_digest ? digest_format(&reference->digest, digest) : reference->tag;
}

/* A page of a captive portal or a proxy is no manifest, even with status 200. */
static bool check_is_manifest(const struct asking *asking, struct error *error) {
    const struct question *question = asking->context;
    const char *type = asking->head.content_type;
    struct manifest manifest;
    struct error reason = {0};
    if (manifest_parse(asking->body.bytes, asking->body.length, &manifest, &reason)) {
        manifest_finish(&manifest);
        return true;
    }
    if (reason.kind == ERROR_MEMORY) {
        *error = reason;
        return false;
    }
    return error_set(error, ERROR_UNAVAILABLE,
                     "upstream %s: manifest of %s: the response (%s) has no Docker-Content-Digest "
                     "and is no manifest (%s); is there a proxy or portal in between?",
                     question->repository.name.host, question->repository.name.path,
                     *type ? type : "no type", reason.text);
}

/* A digest of a body. Schema 1 is named for a part of its bytes. */
struct body_digest {
    struct digest digest;
    bool is_schema1;
};

/* Computes the digest by the algorithm of the one that is wanted. */
static bool compute_digest(const struct buffer *body, const struct digest *wanted,
                           struct body_digest *out, struct error *error) {
    enum digest_algorithm algorithm = wanted ? wanted->algorithm : DIGEST_SHA256;
    struct digest payload;
    *out = (struct body_digest){0};
    if (!digest_of(algorithm, body->bytes, body->length, &out->digest))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if ((!wanted || !digest_equal(wanted, &out->digest)) &&
        schema1_digest(body->bytes, body->length, algorithm, &payload))
        *out = (struct body_digest){payload, true};
    return true;
}

/* Checks the digest that was asked for, or that upstream named. With the right digest the bytes are
 * what was asked for, whatever they are; without any digest they must be a manifest. */
static bool check_body(const struct asking *asking, struct body_digest *out, struct error *error) {
    const struct question *question = asking->context;
    const struct digest *promised = question->reference.is_digest ? &question->reference.digest
                                    : asking->head.has_digest     ? &asking->head.digest
                                                                  : NULL;
    char is[DIGEST_STRING_SIZE], should[DIGEST_STRING_SIZE];
    if (!compute_digest(&asking->body, promised, out, error))
        return false;
    if (!promised)
        return out->is_schema1 || check_is_manifest(asking, error);
    if (!digest_equal(promised, &out->digest))
        return error_set(error, ERROR_UNAVAILABLE,
                         "upstream %s: manifest of %s: the bytes have digest %s, not %s",
                         question->repository.name.host, question->repository.name.path,
                         digest_format(&out->digest, is), digest_format(promised, should));
    return true;
}

/* Makes the response the question's document. */
static bool accept_manifest(struct asking *asking, struct error *error) {
    struct question *question = asking->context;
    const struct buffer *body = &asking->body;
    struct body_digest named;
    if (!check_body(asking, &named, error))
        return false;
    question->document =
        document_from(&named.digest, manifest_store_media_type(asking->head.content_type),
                      body->bytes, body->length);
    if (!question->document)
        return error_set(error, ERROR_MEMORY, "out of memory");
    question->document->is_schema1 = named.is_schema1;
    return true;
}

/* Asks with HEAD. Where the location refuses HEAD, it is asked by GET (*by_get), and the response
 * is the question's document. */
static bool ask_head(struct question *question, struct upstream_head *head, bool *by_get,
                     struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    cleanup_asking struct asking asking = {
        .request = {.what = UPSTREAM_MANIFEST,
                    .head_only = true,
                    .reference = reference_text(&question->reference, digest)},
        .limit = MANIFEST_SIZE_LIMIT,
        .accept = accept_manifest,
        .context = question,
    };
    bool ok = ask_get(question, &asking, error);
    *head = asking.head;
    *by_get = asking.by_get;
    return ok;
}

static bool ask_whole(struct question *question, struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    cleanup_asking struct asking asking = {
        .request = {.what = UPSTREAM_MANIFEST,
                    .reference = reference_text(&question->reference, digest)},
        .limit = MANIFEST_SIZE_LIMIT,
        .accept = accept_manifest,
        .context = question,
    };
    return ask_get(question, &asking, error);
}

/* The stored manifest, which another repository may have brought in. Upstream's response to a HEAD
 * said that this repository holds it too, so its bytes are not fetched again. */
static struct document *adopt(struct question *question, const struct digest *digest,
                              const char *media_type) {
    cleanup_buffer struct buffer body = {0};
    if (!store_blob_read(question->cache->store, digest, MANIFEST_SIZE_LIMIT, &body, NULL))
        return NULL;
    return document_from(digest, media_type, body.bytes, body.length);
}

/* Ends a question with the response to a GET, which was accepted or (`ok` false) failed. */
static bool end_get(struct question *question, bool ok, struct error *error) {
    if (ok) {
        question->fetched = true;
        manifest_store_keep(question);
        return true;
    }
    question_weigh_absence(question, error);
    if (error->kind == ERROR_NOT_FOUND)
        manifest_store_keep_absent(question, false, error);
    return false;
}

static bool answer_by_get(struct question *question, struct error *error) {
    return end_get(question, ask_whole(question, error), error);
}

/* What may still be current, so that a HEAD can spare the GET; NULL: nothing. */
static const struct digest *confirmable(const struct question *question) {
    const struct digest *held = question->held                  ? &question->held->digest
                                : question->reference.is_digest ? &question->reference.digest
                                                                : NULL;
    uint64_t size;
    bool is_here = held && (question->held || store_blob_has(question->cache->store, held, &size));
    return is_here ? held : NULL;
}

/* Takes what is here for the document that the response to a HEAD names. False: it is not here. */
static bool confirm(struct question *question, const struct upstream_head *head,
                    const struct digest *held) {
    /* A response without a digest may come from anybody. */
    if (!head->has_digest)
        return false;
    if (digest_equal(&head->digest, held) && question->held)
        question->document = document_keep(question->held);
    else if (!question->reference.is_digest || digest_equal(&head->digest, held))
        question->document =
            adopt(question, &head->digest, manifest_store_media_type(head->content_type));
    question->confirmed = question->document != NULL;
    return question->confirmed;
}

/* ---- another replica's; on the question's thread ---- */

/* The digest is computed here; what a tag names is the replica's word. */
static bool accept_from_replica(struct question *question, struct owner_answer *answer,
                                struct error *error) {
    struct asking asking = {.body = answer->body, .context = question};
    asking.head.has_digest = answer->head.has_digest;
    asking.head.digest = answer->head.digest;
    memcpy(asking.head.content_type, answer->head.content_type, sizeof asking.head.content_type);
    return accept_manifest(&asking, error);
}

static bool take_head(struct question *question, const struct upstream_head *head);

static bool accept_head_from_replica(struct question *question, struct owner_answer *answer,
                                     struct error *error) {
    struct upstream_head head = {.has_length = answer->head.has_length,
                                 .length = answer->head.length,
                                 .has_digest = answer->head.has_digest,
                                 .digest = answer->head.digest};
    memcpy(head.content_type, answer->head.content_type, sizeof head.content_type);
    return take_head(question, &head) ||
           error_set(error, ERROR_UNAVAILABLE, "the head of a manifest does not say what it is");
}

static void end_absence(struct question *question, bool head_only, struct error *error) {
    question_weigh_absence(question, error);
    if (error->kind == ERROR_NOT_FOUND)
        manifest_store_keep_absent(question, head_only, error);
}

static bool answer_by_owner(struct question *question, bool head_only, struct error *error) {
    cleanup_owner_answer struct owner_answer answer = {.body = {.limit = MANIFEST_SIZE_LIMIT}};
    const struct owner_topic topic = {UPSTREAM_MANIFEST, &question->repository.name,
                                      &question->reference};
    bool ok = owner_ask(question, &topic, head_only,
                        head_only ? accept_head_from_replica : accept_from_replica, &answer, error);
    question->age_ms = answer.age_ms;
    question->fresh_ms = answer.fresh_ms;
    question->fetched = ok && !head_only;
    if (ok)
        manifest_store_keep(question);
    else if (!question->undecided && !(head_only && question->held))
        end_absence(question, head_only, error);
    return ok;
}

bool manifest_answer_by_owner(struct question *question, struct error *error) {
    return answer_by_owner(question, false, error);
}

/* A 404 to a HEAD says neither why nor who says so, and may not end what is held. */
bool manifest_answer_head_by_owner(struct question *question, struct error *error) {
    bool ok = answer_by_owner(question, true, error);
    if (!ok && !question->undecided && question->held && error->kind == ERROR_NOT_FOUND) {
        ok = answer_by_owner(question, false, error);
        question->fetched = false; /* a HEAD makes tarn fetch no blobs */
    }
    return ok;
}

/* ---- both ---- */

static bool answer_from_upstream(struct question *question, struct error *error) {
    const struct digest *held = confirmable(question);
    struct upstream_head head = {0};
    bool by_get;
    if (!held)
        return answer_by_get(question, error);
    bool ok = ask_head(question, &head, &by_get, error);
    if (by_get)
        return end_get(question, ok, error);
    if (!ok &&
        error->kind != ERROR_NOT_FOUND) /* a 404 to a HEAD says neither why nor who says so */
        return false;
    if (!ok || !confirm(question, &head, held))
        return answer_by_get(question, error);
    manifest_store_keep(question);
    return true;
}

/* Makes the response to a HEAD the question's document. False: the head does not say enough. */
static bool take_head(struct question *question, const struct upstream_head *head) {
    const struct reference *reference = &question->reference;
    const struct document *held = question->held;
    /* A response without a digest may come from anybody. */
    if (!head->has_digest ||
        (reference->is_digest && !digest_equal(&head->digest, &reference->digest)))
        return false;
    if (held && digest_equal(&head->digest, &held->digest)) {
        question->document = document_keep(question->held);
        question->confirmed = true;
    } else if (head->has_length && head->length > 0 &&
               manifest_is_media_type(text_of(head->content_type))) {
        question->document = document_new(&head->digest, head->content_type, head->length, false);
    }
    return question->document != NULL;
}

static bool answer_head_from_upstream(struct question *question, struct error *error) {
    struct upstream_head head = {0};
    bool by_get;
    bool ok = ask_head(question, &head, &by_get, error);
    if (!by_get && !ok && error->kind == ERROR_NOT_FOUND && !question->held) {
        manifest_store_keep_absent(question, true, error);
        return false;
    }
    if (!by_get && !ok && error->kind != ERROR_NOT_FOUND)
        return false;
    if (!by_get && ok && take_head(question, &head)) {
        manifest_store_keep(question);
        return true;
    }
    ok = by_get ? end_get(question, ok, error) : answer_by_get(question, error);
    question->fetched = false; /* a HEAD makes tarn fetch no blobs */
    return ok;
}

static bool answer_by(struct question *question,
                      bool (*ask_upstream)(struct question *question, struct error *error),
                      struct error *error) {
    struct tier_visit visit = manifest_bucket_visit(question);
    return manifest_bucket_answer(question, &visit) || ask_upstream(question, error) ||
           (tier_visit_again(&visit, error) && manifest_bucket_answer(question, &visit));
}

bool manifest_answer(struct question *question, struct error *error) {
    return answer_by(question, answer_from_upstream, error);
}

bool manifest_answer_head(struct question *question, struct error *error) {
    return answer_by(question, answer_head_from_upstream, error);
}
