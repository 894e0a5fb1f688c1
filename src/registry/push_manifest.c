/* PUT of manifests, and DELETE of tags, manifests and blobs. */
#include <stdio.h>
#include <stdlib.h>
#include "base/json.h"
#include "oci/manifest.h"
#include "registry/call.h"
#include "registry/renewal.h"
#include "upstream/push.h"

enum { RECEIVE_MS = 250, PIECE = 16 << 10 };

static struct push_settings settings_of(const struct call *call) {
    return (struct push_settings){
        .patience_ms = upstream_settings(call->repository.upstream)->push_patience_ms,
        .cancel = &call->cancel,
    };
}

static const char *reference_of(const struct call *call, char digest[static DIGEST_STRING_SIZE]) {
    const struct reference *reference = &call->route.reference;
    return reference->is_digest ? digest_format(&reference->digest, digest) : reference->tag;
}

/* ---- the document ---- */

static void refuse_size(struct call *call) {
    call_fail(call, 413, "SIZE_INVALID", "a manifest has at most %d bytes", MANIFEST_SIZE_LIMIT);
}

/* Reads the body. False: it was answered. */
static bool read_document(struct call *call, struct buffer *body) {
    struct error error = {0};
    uint64_t length;
    if (http_body_length(call->exchange, &length) && length > MANIFEST_SIZE_LIMIT) {
        refuse_size(call);
        return false;
    }
    for (;;) {
        char bytes[PIECE];
        ssize_t got = http_receive(call->exchange, bytes, sizeof bytes, RECEIVE_MS, &error);
        if (got == 0)
            return true;
        if (got == HTTP_BODY_NOTHING)
            continue;
        if (got == HTTP_BODY_FAILED && error.kind == ERROR_INVALID) {
            call_fail(call, 400, "MANIFEST_INVALID", "%s", error.text);
            return false;
        }
        if (got == HTTP_BODY_FAILED) {
            call_drop(call);
            return false;
        }
        if (body->length + (size_t)got > MANIFEST_SIZE_LIMIT) {
            refuse_size(call);
            return false;
        }
        if (!buffer_append(body, bytes, (size_t)got)) {
            call_fail(call, 500, "UNKNOWN", "tarn is out of memory");
            return false;
        }
    }
}

/* Whether the document may be put under the reference. False: it was answered. */
static bool check_document(struct call *call, const struct buffer *body, struct digest *digest) {
    const struct reference *reference = &call->route.reference;
    cleanup_json json_t *json = bounded_json_load(body->bytes, body->length, NULL);
    char is[DIGEST_STRING_SIZE];
    if (!json_is_object(json)) {
        call_fail(call, 400, "MANIFEST_INVALID", "the manifest is no JSON object");
        return false;
    }
    if (!digest_of(reference->is_digest ? reference->digest.algorithm : DIGEST_SHA256, body->bytes,
                   body->length, digest)) {
        call_fail(call, 500, "UNKNOWN", "tarn is out of memory");
        return false;
    }
    if (!reference->is_digest || digest_equal(&reference->digest, digest))
        return true;
    call_fail(call, 400, "DIGEST_INVALID", "the manifest has the digest %s",
              digest_format(digest, is));
    return false;
}

/* The type that the client names, else the document's own. */
static void read_type(const struct call *call, const struct buffer *body, char out[static 128]) {
    struct text type = http_field(call->request, "Content-Type");
    struct manifest manifest;
    if (type.at && manifest_is_media_type(type) && text_copy(type, out, 128))
        return;
    snprintf(out, 128, "%s", MEDIA_OCI_MANIFEST);
    if (!manifest_parse(body->bytes, body->length, &manifest, NULL))
        return;
    if (manifest.media_type[0])
        memcpy(out, manifest.media_type, sizeof manifest.media_type);
    else if (manifest.is_index)
        snprintf(out, 128, "%s", MEDIA_OCI_INDEX);
    manifest_finish(&manifest);
}

static void respond_stored(struct call *call, const struct digest *digest,
                           const struct push_stored *stored) {
    char text[DIGEST_STRING_SIZE], rest[sizeof "manifests/" + DIGEST_STRING_SIZE];
    digest_format(digest, text);
    snprintf(rest, sizeof rest, "manifests/%s", text);
    call_add_location(call, rest, "");
    http_add_field(call->exchange, "Docker-Content-Digest", "%s", text);
    if (stored->subject[0])
        http_add_field(call->exchange, "OCI-Subject", "%s", stored->subject);
    call_add_fields(call);
    http_respond(call->exchange, 201, NULL, "", 0);
}

void call_put_manifest(struct call *call) {
    cleanup_buffer struct buffer body = {0};
    struct cache *cache = call->registry->settings.cache;
    struct replica_asker *asker = call->registry->settings.asker;
    struct digest digest;
    struct push_stored stored;
    struct error error = {0};
    char type[128], text[DIGEST_STRING_SIZE];
    if (!read_document(call, &body) || !check_document(call, &body, &digest))
        return;
    read_type(call, &body, type);
    const struct push_settings settings = settings_of(call);
    const struct push_manifest manifest = {.reference = reference_of(call, text),
                                           .media_type = type,
                                           .bytes = body.bytes,
                                           .length = body.length};
    if (!push_manifest(&call->repository, &settings, &manifest, &stored, &error)) {
        call_fail_write(call, &error);
        return;
    }
    call->digest = digest;
    const struct cache_pushed pushed = {.reference = &call->route.reference,
                                        .digest = &digest,
                                        .media_type = type,
                                        .bytes = body.bytes,
                                        .length = body.length};
    if (!stored.has_digest || stored.digest.algorithm != digest.algorithm ||
        digest_equal(&stored.digest, &digest)) {
        renewal_manifest_written(asker, cache, &call->repository, &pushed);
    } else { /* upstream has changed the document */
        renewal_manifest_deleted(asker, cache, &call->repository, &call->route.reference);
        digest = stored.digest;
    }
    respond_stored(call, &digest, &stored);
}

/* ---- DELETE ---- */

void call_delete(struct call *call) {
    char text[DIGEST_STRING_SIZE];
    struct error error = {0};
    const struct push_settings settings = settings_of(call);
    bool is_blob = call->route.kind == ROUTE_BLOB;
    if (!push_delete(&call->repository, &settings, is_blob ? UPSTREAM_BLOB : UPSTREAM_MANIFEST,
                     reference_of(call, text), &error)) {
        call_fail_write(call, &error);
        return;
    }
    struct cache *cache = call->registry->settings.cache;
    struct replica_asker *asker = call->registry->settings.asker;
    if (is_blob)
        renewal_blob_deleted(asker, cache, &call->repository, &call->route.reference.digest);
    else
        renewal_manifest_deleted(asker, cache, &call->repository, &call->route.reference);
    call_add_fields(call);
    http_respond(call->exchange, 202, NULL, "", 0);
}
