/*
 * Where an image is written to: a registry, a folder in OCI's image layout, or an archive. Each
 * kind is a file of its own behind these few functions.
 *
 * The order is the caller's: all blobs and children of a manifest before the manifest, and the tag
 * last. A destination keeps bytes and media types exactly as they are.
 *
 * Threads: any number of them may call a destination at once, unless it is sequential.
 * copy_destination_free() is called when no other call is under way.
 */
#ifndef COPY_DESTINATION_H
#define COPY_DESTINATION_H

#include <jansson.h>
#include "copy/source.h"

/*
 * The bytes of a blob, as a destination asks for them. One thread at a time, which is the one that
 * called copy_destination_write_blob().
 */
struct copy_body {
    void *context;
    struct digest digest; /* algorithm 0: it is known only when all bytes were read */
    bool has_size;
    uint64_t size;
    /* The next bytes are to be those from `offset` on. Called before the first read with 0, and
     * again when the destination has lost bytes: with 0, or with an offset that was read before. */
    bool (*seek)(void *context, uint64_t offset, struct error *error);
    /* Reads up to `size` bytes, and does not wait. *length 0 without *ended: none is there yet.
     * *ended: that was all, and the bytes have been checked against `digest`, if that is known,
     * before the last of them were handed out. */
    bool (*read)(void *context, void *bytes, size_t size, size_t *length, bool *ended,
                 struct error *error);
    int wake_fd; /* can be read when read() is worth a call; -1: read() always has something */
    /* After the end: the digest and the size of what was read. NULL when `digest` and `size` are
     * known. */
    bool (*finish)(void *context, struct digest *digest, uint64_t *size, struct error *error);
    const atomic_bool *stop; /* set: the writing ends within a second (CLOSED); NULL: never */
};

/* read(), but waits until there is something, or until it is stopped (CLOSED). */
bool copy_body_read(struct copy_body *body, void *bytes, size_t size, size_t *length, bool *ended,
                    struct error *error);

struct copy_destination;

/* The functions of a kind; see the calls below. */
struct copy_destination_kind {
    bool (*check_rights)(struct copy_destination *destination, struct error *error);
    bool (*has_blob)(struct copy_destination *destination, const struct digest *digest,
                     uint64_t size, bool *has, struct error *error);
    bool (*mount)(struct copy_destination *destination, const struct digest *digest,
                  const struct repository *from, bool *mounted, struct error *error);
    bool (*write_blob)(struct copy_destination *destination, struct copy_body *body,
                       struct digest *digest, uint64_t *size, struct error *error);
    bool (*find_manifest)(struct copy_destination *destination, const char *reference,
                          struct digest *digest, struct error *error);
    bool (*put_manifest)(struct copy_destination *destination, const struct copy_manifest *manifest,
                         const char *tag, bool *has_referrers, struct error *error);
    /* NULL: manifests are found by the subject that they name. */
    bool (*add_referrer)(struct copy_destination *destination, const struct digest *subject,
                         json_t *descriptor, struct error *error);
    bool (*delete_manifest)(struct copy_destination *destination, const char *reference,
                            struct error *error); /* of a registry; NULL: it cannot */
    bool (*finish)(struct copy_destination *destination, struct error *error);
    void (*free)(struct copy_destination *destination);
};

/* The first member of each kind's own struct. */
struct copy_destination {
    const struct copy_destination_kind *kind;
    bool is_sequential;                  /* one call at a time */
    bool takes_index;                    /* false: images of one platform only */
    const struct repository *repository; /* of a registry; NULL: it is none */
};

/* Opens what the reference names; writes nothing yet. `hosts` (of a registry only) outlives it.
 * NULL: the error says what cannot be written. */
struct copy_destination *copy_destination_open(struct copy_hosts *hosts,
                                               const struct copy_reference *reference,
                                               struct error *error);
void copy_destination_free(struct copy_destination *destination); /* NULL is allowed */

/* Finds out whether blobs may be written, before any is read: of a registry by a session that is
 * deleted at once. Nothing may be written before this call. A layout's folder is made by it. */
static inline bool copy_destination_check_rights(struct copy_destination *destination,
                                                 struct error *error) {
    return destination->kind->check_rights(destination, error);
}

/* Whether the blob is there already, with this size. */
static inline bool copy_destination_has_blob(struct copy_destination *destination,
                                             const struct digest *digest, uint64_t size, bool *has,
                                             struct error *error) {
    return destination->kind->has_blob(destination, digest, size, has, error);
}

/* Takes the blob over from another repository of the same registry, without its bytes. *mounted
 * false: it cannot, and the blob has to be written. */
static inline bool copy_destination_mount(struct copy_destination *destination,
                                          const struct digest *digest,
                                          const struct repository *from, bool *mounted,
                                          struct error *error) {
    *mounted = false;
    return !destination->kind->mount ||
           destination->kind->mount(destination, digest, from, mounted, error);
}

/* Writes a blob whole, or not at all. Afterwards *digest and *size are the blob's. False with the
 * error of the body, or of the destination; what was begun there is deleted. */
static inline bool copy_destination_write_blob(struct copy_destination *destination,
                                               struct copy_body *body, struct digest *digest,
                                               uint64_t *size, struct error *error) {
    return destination->kind->write_blob(destination, body, digest, size, error);
}

/* The digest of the manifest that is there under a tag or digest. *digest without algorithm: none
 * is there. */
static inline bool copy_destination_find_manifest(struct copy_destination *destination,
                                                  const char *reference, struct digest *digest,
                                                  struct error *error) {
    return destination->kind->find_manifest(destination, reference, digest, error);
}

/*
 * Writes a manifest. `tag` NULL: by its digest, as a child of another one. Else it is what the
 * caller wants to be found: under this tag, or with "" under its digest alone. *has_referrers (may
 * be NULL) says whether the destination itself lists the manifest among the referrers of its
 * subject; else the caller maintains the fallback tag.
 */
static inline bool copy_destination_put_manifest(struct copy_destination *destination,
                                                 const struct copy_manifest *manifest,
                                                 const char *tag, bool *has_referrers,
                                                 struct error *error) {
    bool unwanted;
    return destination->kind->put_manifest(destination, manifest, tag,
                                           has_referrers ? has_referrers : &unwanted, error);
}

/* Adds the descriptor of a manifest, which stays the caller's, to the fallback tag of its subject
 * (distribution-spec, "Pushing Manifests with Subject"). */
static inline bool copy_destination_add_referrer(struct copy_destination *destination,
                                                 const struct digest *subject, json_t *descriptor,
                                                 struct error *error) {
    return !destination->kind->add_referrer ||
           destination->kind->add_referrer(destination, subject, descriptor, error);
}

/* Deletes a tag, or the manifest of a digest, at a registry. */
static inline bool copy_destination_delete(struct copy_destination *destination,
                                           const char *reference, struct error *error) {
    return destination->kind->delete_manifest
               ? destination->kind->delete_manifest(destination, reference, error)
               : error_set(error, ERROR_UNSUPPORTED, "only images of registries can be deleted");
}

/* Ends the writing when everything was written: an archive gets its name now. Without this call
 * nothing is left of an archive. */
static inline bool copy_destination_finish(struct copy_destination *destination,
                                           struct error *error) {
    return !destination->kind->finish || destination->kind->finish(destination, error);
}

#endif
