/* Writes images to a registry. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cancel.h"
#include "base/json.h"
#include "catalog/artifact_name.h"
#include "copy/describe.h"
#include "copy/destinations.h"
#include "copy/hosts.h"
#include "copy/sources.h"
#include "upstream/push.h"

struct registry_destination {
    struct copy_destination destination;
    struct copy_registry registry;
    struct cancel cancel; /* by registry.stop */
    struct push_settings settings;
};

static struct registry_destination *own_of(struct copy_destination *destination) {
    return (struct registry_destination *)destination;
}

/* ---- what a refusal means ---- */

/* Adds what to do about a refusal of Artifact Registry: it tells neither role nor remedy. */
static bool explain(const struct registry_destination *own, struct error *error) {
    const char *host = own->registry.repository.name.host;
    const char *advice = NULL;
    bool is_google = artifact_name_is_host(text_of(host));
    if (is_google && error->kind == ERROR_DENIED)
        advice = "writing needs the role roles/artifactregistry.writer on the repository, deleting "
                 "roles/artifactregistry.repoAdmin";
    else if (error->status == 400 && strcasestr(error->text, "immutable"))
        advice = "tags of this repository are immutable: choose another tag, or delete this one";
    else if (is_google && error->kind == ERROR_NOT_FOUND)
        advice = "the repository must exist before anything is pushed to it";
    if (!advice)
        return false;
    size_t length = strlen(error->text);
    snprintf(error->text + length, sizeof error->text - length, " (%s)", advice);
    return false;
}

/* ---- blobs ---- */

/* Begins a session, and ends it: that takes the rights to push, and leaves nothing. */
static bool check_rights(struct copy_destination *destination, struct error *error) {
    struct registry_destination *own = own_of(destination);
    struct error unwanted = {0};
    bool is_mounted;
    error = error ? error : &unwanted;
    struct push *push = push_new(&own->registry.repository, &own->settings);
    if (!push)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool ok = push_begin(push, NULL, &is_mounted, error);
    if (ok)
        push_cancel(push);
    push_free(push);
    return ok || explain(own, error);
}

static bool has_blob(struct copy_destination *destination, const struct digest *digest,
                     uint64_t size, bool *has, struct error *error) {
    const struct registry_destination *own = own_of(destination);
    struct error why = {0};
    uint64_t is = size;
    *has =
        push_has_blob(&own->registry.repository, &own->settings, digest, &is, &why) && is == size;
    if (why.kind == ERROR_NONE || why.kind == ERROR_NOT_FOUND)
        return true;
    if (error)
        *error = why;
    return false;
}

static bool mount(struct copy_destination *destination, const struct digest *digest,
                  const struct repository *from, bool *mounted, struct error *error) {
    struct registry_destination *own = own_of(destination);
    const struct push_mount wanted = {.digest = digest, .from = from->name.path};
    *mounted = false;
    if (!copy_hosts_are_one(from, &own->registry.repository))
        return true;
    struct push *push = push_new(&own->registry.repository, &own->settings);
    if (!push)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool ok = push_begin(push, &wanted, mounted, error);
    if (ok && !*mounted)
        push_cancel(push);
    push_free(push);
    return ok;
}

/* A body as a push takes it. */
struct sending {
    struct copy_body *body;
    uint64_t next; /* the byte that the body hands out next */
    bool begun;
    bool ended;
    struct error error; /* of the body */
    bool failed;
};

/* Whether the body stands at `offset`, if need be after it was sought. */
static bool stand_at(struct sending *sending, uint64_t offset, struct error *error) {
    if (sending->begun && sending->next == offset)
        return true;
    sending->begun = true;
    sending->ended = false;
    sending->next = offset;
    return sending->body->seek(sending->body->context, offset, error);
}

static ssize_t send_bytes(void *context, uint64_t offset, void *out, size_t size,
                          struct error *error) {
    struct sending *sending = context;
    struct copy_body *body = sending->body;
    struct error *why = &sending->error;
    size_t length = 0;
    if (sending->ended && sending->next == offset)
        return 0;
    error_clear(why);
    if (stand_at(sending, offset, why) &&
        body->read(body->context, out, size, &length, &sending->ended, why)) {
        sending->next += length;
        if (length || sending->ended)
            return (ssize_t)length;
        return CLIENT_SOURCE_NOTHING;
    }
    sending->failed = true;
    if (error)
        *error = *why;
    return CLIENT_SOURCE_FAILED;
}

/* For registries that want the length beforehand: the body is read once for nothing but that. */
static bool await_end(void *context, uint64_t *end, struct error *error) {
    enum { PIECE = 64 << 10 };
    struct sending *sending = context;
    char *bytes = malloc(PIECE);
    size_t length;
    bool ok = bytes ? stand_at(sending, sending->begun ? sending->next : 0, error)
                    : error_set(error, ERROR_MEMORY, "out of memory");
    while (ok && !sending->ended) {
        ok = copy_body_read(sending->body, bytes, PIECE, &length, &sending->ended, error);
        sending->next += ok ? length : 0;
    }
    free(bytes);
    *end = sending->next;
    return ok;
}

/* Sends the blob, and then gives it its name. */
static bool send_blob(struct push *push, struct sending *sending, struct digest *digest,
                      uint64_t *size, struct error *error) {
    struct copy_body *body = sending->body;
    struct push_source source = {
        .bytes = {.context = sending, .read = send_bytes, .wake_fd = body->wake_fd},
        .end = body->has_size ? body->size : PUSH_END_UNKNOWN,
        .is_whole = true,
        .await_end = body->has_size ? NULL : await_end,
    };
    *digest = body->digest;
    *size = body->size;
    if (body->finish) {
        if (!push_write(push, &source, error) || !body->finish(body->context, digest, size, error))
            return false;
        source.end = *size;
    }
    return push_finish(push, &source, digest, error);
}

/* An empty blob, and the whole of a body that has no bytes to be asked for, is checked all the
 * same. */
static bool check_empty(struct sending *sending, struct error *error) {
    struct copy_body *body = sending->body;
    char byte;
    size_t length;
    bool ended = false;
    return !body->has_size || body->size > 0 || body->finish ||
           (stand_at(sending, 0, error) &&
            copy_body_read(body, &byte, sizeof byte, &length, &ended, error));
}

static bool write_blob(struct copy_destination *destination, struct copy_body *body,
                       struct digest *digest, uint64_t *size, struct error *error) {
    struct registry_destination *own = own_of(destination);
    struct sending sending = {.body = body};
    const struct cancel cancel = {.stop = body->stop};
    struct push_settings settings = own->settings;
    struct error unwanted = {0};
    error = error ? error : &unwanted;
    settings.cancel = &cancel;
    struct push *push = push_new(&own->registry.repository, &settings);
    if (!push)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool ok = check_empty(&sending, error) && send_blob(push, &sending, digest, size, error);
    if (!ok && sending.failed)
        *error = sending.error;
    if (!ok)
        push_cancel(push);
    push_free(push);
    return ok || (!sending.failed && explain(own, error));
}

/* ---- manifests ---- */

static bool find_manifest(struct copy_destination *destination, const char *reference,
                          struct digest *digest, struct error *error) {
    const struct registry_destination *own = own_of(destination);
    struct error why = {0};
    *digest = (struct digest){0};
    if (copy_registry_find_digest(&own->registry, reference, digest, &why))
        return true;
    *digest = (struct digest){0};
    /* A repository that nobody has pushed to is denied by some registries, and unknown to others;
     * whether it can be written has been tried before. */
    if (why.kind == ERROR_NOT_FOUND || why.kind == ERROR_DENIED)
        return true;
    if (error)
        *error = why;
    return false;
}

static bool put_manifest(struct copy_destination *destination, const struct copy_manifest *manifest,
                         const char *tag, bool *has_referrers, struct error *error) {
    const struct registry_destination *own = own_of(destination);
    struct error unwanted = {0};
    struct push_stored stored;
    char digest[DIGEST_STRING_SIZE];
    const struct push_manifest put = {
        .reference = tag && tag[0] ? tag : digest_format(&manifest->digest, digest),
        .media_type = manifest->media_type,
        .bytes = manifest->bytes.bytes,
        .length = manifest->bytes.length,
    };
    error = error ? error : &unwanted;
    if (!push_manifest(&own->registry.repository, &own->settings, &put, &stored, error))
        return explain(own, error);
    *has_referrers = stored.subject[0] != '\0';
    return !stored.has_digest || digest_equal(&stored.digest, &manifest->digest) ||
           stored.digest.algorithm != manifest->digest.algorithm ||
           error_set(error, ERROR_UNAVAILABLE,
                     "upstream %s: the registry has stored another manifest than was sent",
                     own->registry.repository.name.host);
}

/* Reads the index under the tag, if there is one. NULL: the error is set. */
static json_t *read_referrers(struct registry_destination *own, const struct digest *subject,
                              struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    struct copy_source *source = copy_registry_source_of(&own->registry, error);
    bool ok = source && copy_source_get_referrers(source, subject, &bytes, error);
    copy_source_free(source);
    return ok ? bounded_json_load_by(0, bytes.bytes, bytes.length, error) : NULL;
}

static bool add_referrer(struct copy_destination *destination, const struct digest *subject,
                         json_t *descriptor, struct error *error) {
    cleanup_copy_manifest struct copy_manifest index = {0};
    char tag[DIGEST_STRING_SIZE];
    bool unwanted;
    size_t i;
    json_t *entry;
    cleanup_json json_t *json = read_referrers(own_of(destination), subject, error);
    json_t *list = json_object_get(json, "manifests");
    if (!json)
        return false;
    json_array_foreach (list, i, entry) {
        if (json_equal(json_object_get(entry, "digest"), json_object_get(descriptor, "digest")))
            return true;
    }
    if (json_array_append(list, descriptor) != 0 || !copy_describe_index(list, &index.bytes))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return copy_describe(&index, NULL, NULL, error) &&
           put_manifest(destination, &index, copy_describe_fallback(subject, tag), &unwanted,
                        error);
}

static bool delete_manifest(struct copy_destination *destination, const char *reference,
                            struct error *error) {
    const struct registry_destination *own = own_of(destination);
    struct error unwanted = {0};
    error = error ? error : &unwanted;
    return push_delete(&own->registry.repository, &own->settings, UPSTREAM_MANIFEST, reference,
                       error) ||
           explain(own, error);
}

/* ---- its life ---- */

static void free_destination(struct copy_destination *destination) {
    free(destination);
}

static const struct copy_destination_kind kind = {
    .check_rights = check_rights,
    .has_blob = has_blob,
    .mount = mount,
    .write_blob = write_blob,
    .find_manifest = find_manifest,
    .put_manifest = put_manifest,
    .add_referrer = add_referrer,
    .delete_manifest = delete_manifest,
    .free = free_destination,
};

struct copy_destination *copy_registry_destination_open(struct copy_hosts *hosts,
                                                        const struct copy_reference *reference,
                                                        struct error *error) {
    struct registry_destination *own = calloc(1, sizeof *own);
    if (!own) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    if (!copy_hosts_find(hosts, &reference->name, &own->registry.repository, error)) {
        free(own);
        return NULL;
    }
    own->registry.patience_ms = copy_hosts_patience_ms(&own->registry.repository);
    own->registry.stop = copy_hosts_stop(hosts);
    own->cancel = (struct cancel){.stop = own->registry.stop};
    own->settings = (struct push_settings){
        .patience_ms = own->registry.patience_ms,
        .refused_patience_ms = COPY_REFUSED_PATIENCE_MS,
        .cancel = &own->cancel,
    };
    own->destination = (struct copy_destination){
        .kind = &kind, .takes_index = true, .repository = &own->registry.repository};
    return &own->destination;
}
