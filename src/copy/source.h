/*
 * Where an image is read from: a registry, a folder in OCI's image layout, or an archive. Each kind
 * is a file of its own (registry_source.c, layout_source.c, archive_source.c) behind these few
 * functions, so that whoever copies does not know which one it is.
 *
 * Threads: any number of them may call a source at once. copy_source_free() is called when no other
 * call is under way.
 */
#ifndef COPY_SOURCE_H
#define COPY_SOURCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "copy/reference.h"
#include "oci/digest.h"
#include "upstream/upstream.h"

struct copy_hosts;

/* A manifest, byte for byte. Zeroed is empty. */
struct copy_manifest {
    struct buffer bytes;
    char media_type[128];
    struct digest digest; /* of the bytes */
};
void copy_manifest_finish(struct copy_manifest *manifest);
#define cleanup_copy_manifest __attribute__((cleanup(copy_manifest_finish)))

/* A part of a blob that is wanted, and who takes it. */
struct copy_read {
    struct digest digest;
    uint64_t first, last; /* inclusive; last UINT64_MAX: to the blob's end */
    void *context;
    /* Called with the bytes in their order, on the caller's thread. False ends the reading with the
     * error that it set. */
    bool (*on_bytes)(void *context, const void *bytes, size_t length, struct error *error);
    const atomic_bool *stop; /* set: the reading ends within a second (CLOSED); NULL: never */
    /* What the source remembers between the readings of one thread; may be NULL. */
    struct upstream_target *target;
};

/* Names, the caller's to finish. Zeroed is empty. */
struct copy_names {
    char **at; /* owned, each owned */
    size_t count, capacity;
};
bool copy_names_add(struct copy_names *names, struct text name); /* false: out of memory */
void copy_names_finish(struct copy_names *names);
#define cleanup_copy_names __attribute__((cleanup(copy_names_finish)))

struct copy_source;

/* The functions of a kind; see the calls below. */
struct copy_source_kind {
    bool (*get_manifest)(struct copy_source *source, const char *reference,
                         struct copy_manifest *out, struct error *error);
    /* NULL: the manifest is read. */
    bool (*find_digest)(struct copy_source *source, const char *reference, struct digest *out,
                        struct error *error);
    bool (*read_blob)(struct copy_source *source, const struct copy_read *read,
                      struct error *error);
    bool (*get_referrers)(struct copy_source *source, const struct digest *subject,
                          struct buffer *index, struct error *error);
    bool (*list_tags)(struct copy_source *source, struct copy_names *out, struct error *error);
    void (*free)(struct copy_source *source);
};

/* The first member of each kind's own struct. */
struct copy_source {
    const struct copy_source_kind *kind;
    /* Reading from an offset costs as much as reading from 0, and several readings at once cost as
     * many times as much: a blob is read in one go. */
    bool is_sequential;
    const struct repository *repository; /* of a registry, for mounts; NULL: it is none */
};

/* Opens what the reference names; asks nobody yet. `hosts` (of a registry only) outlives it. NULL:
 * the error says what cannot be read. */
struct copy_source *copy_source_open(struct copy_hosts *hosts,
                                     const struct copy_reference *reference, struct error *error);
void copy_source_free(struct copy_source *source); /* NULL is allowed */

/*
 * Reads a manifest by tag or digest; *out is empty before. The bytes have been checked against the
 * digest, and against what the registry says is their digest. In a layout "" is the only image that
 * there is; in an archive it is the one that the reference named. Errors: as upstream_perform();
 * NOT_FOUND; CORRUPT.
 */
static inline bool copy_source_get_manifest(struct copy_source *source, const char *reference,
                                            struct copy_manifest *out, struct error *error) {
    return source->kind->get_manifest(source, reference, out, error);
}

/* The digest of the manifest that a tag or digest means. A registry is asked with HEAD. */
bool copy_source_find_digest(struct copy_source *source, const char *reference, struct digest *out,
                             struct error *error);

/* Reads a part of a blob once. True: all of it was handed on. The bytes are not checked against the
 * digest, because nobody can do that with a part. */
static inline bool copy_source_read_blob(struct copy_source *source, const struct copy_read *read,
                                         struct error *error) {
    return source->kind->read_blob(source, read, error);
}

/* Appends the OCI index of the manifests that name `subject`: by the referrers API, else the
 * fallback tag (distribution-spec, "Unavailable Referrers API"). An index without manifests: there
 * are none. */
static inline bool copy_source_get_referrers(struct copy_source *source,
                                             const struct digest *subject, struct buffer *index,
                                             struct error *error) {
    return source->kind->get_referrers(source, subject, index, error);
}

/* All tags, sorted, each one once. */
static inline bool copy_source_list_tags(struct copy_source *source, struct copy_names *out,
                                         struct error *error) {
    return source->kind->list_tags(source, out, error);
}

#endif
