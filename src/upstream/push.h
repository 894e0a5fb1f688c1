/*
 * Writing to a repository of an upstream: blobs by upload sessions, manifests, and deleting
 * (distribution-spec, "Push" and "Content Management").
 *
 * Every request goes to the upstream's url, never to a fallback, with the upstream's credentials
 * and a token that is for writing (upstream/token.h). A session's Location on another host gets
 * none.
 *
 * A blob survives what upstream does. The caller has a source that can hand out any byte of the
 * blob again. After a cut, a stall, a 429 or a 5xx, the push asks upstream how far it has come and
 * goes on there; where upstream does not say, or has lost the session, it begins a new one with the
 * first byte. It ends when nothing has moved for `patience_ms`. What follows a failure is otherwise
 * the table of client/retry.h.
 *
 *     struct push *push = push_new(&repository, &settings);
 *     push_begin(push, NULL, &is_mounted, error) && push_finish(push, &source, &digest, error);
 *     push_free(push);
 *
 * Threads: any; a push belongs to one thread at a time, which its calls block.
 *
 * Errors, by kind: DENIED (401 and 403; the text says which credential was used), NOT_FOUND,
 * RATE_LIMITED, UNAVAILABLE, TIMEOUT, BUSY, CLOSED (cancelled), MEMORY, and what the source set.
 * error->status is the status of upstream's refusal (400, 404, 405, 409, 412, 413, …), error->code
 * its code; 0: none came. Every text begins with "upstream HOST: ".
 */
#ifndef UPSTREAM_PUSH_H
#define UPSTREAM_PUSH_H

#include "base/cancel.h"
#include "client/body.h"
#include "upstream/upstream.h"

enum { PUSH_PATIENCE_MS = 60000 };

/* Borrowed as long as the push lives. Zeroed: each default. */
struct push_settings {
    int64_t patience_ms; /* without progress; 0: PUSH_PATIENCE_MS */
    /* The same while no connection comes about at all: refused, or no such host; 0: patience_ms */
    int64_t refused_patience_ms;
    const struct cancel *cancel; /* may be NULL */
};

#define PUSH_END_UNKNOWN UINT64_MAX

/* The bytes of a blob, or of its beginning. */
struct push_source {
    /* Its offsets are those of the blob. Any byte before `end` may be wanted again, also the first.
     * While the end is not known, read() returns 0 there once it is. */
    struct client_source bytes;
    uint64_t end;  /* of what is to be sent now; PUSH_END_UNKNOWN: not known yet */
    bool is_whole; /* the blob ends there */
    /* Waits until the end is known, and writes it down. Called where upstream takes no body of
     * unknown length. NULL: `end` is known. */
    bool (*await_end)(void *context, uint64_t *end, struct error *error);
};

/* How a request is tried again. */
struct push_trouble {
    int64_t since_ms;  /* clock_ms() of the first failure without progress; 0: none */
    unsigned failures; /* in a row */
};

/* One blob on its way. Members are to be read only. On the heap. */
struct push {
    struct repository repository; /* its upstream is kept */
    struct push_settings settings;
    char *url;             /* owned: of the session; NULL: there is none */
    uint64_t acknowledged; /* bytes that upstream has, as far as is known */
    bool doubtful;         /* upstream has to be asked how many it has */
    char uuid[160];        /* Docker-Upload-UUID of the session; "": none */
    uint64_t least_chunk;  /* OCI-Chunk-Min-Length; 0: none */
    /* Why push_write() failed: upstream takes one PATCH a session, so it wants a source that
     * `is_whole`. */
    bool wants_whole;
    /* Why push_ask() failed: upstream knows the session, and does not say that it has any byte. */
    bool is_silent;

    /* For push.c alone. */
    unsigned patches;  /* that the session has taken */
    uint64_t handed;   /* bytes that have been given to the session's requests, at most */
    uint64_t best;     /* the same, of all sessions */
    uint64_t end_seen; /* where the source ended; PUSH_END_UNKNOWN: not seen */
    const struct push_source *source; /* of the call under way */
    struct push_trouble trouble;
    unsigned restarts; /* after a refusal of the whole blob */
    bool has_failed;   /* upstream has, and nothing was done about it yet */
    bool mended;       /* a session has been gone on with after a failure */
    bool tried_range;  /* both with and without Content-Range, at this offset */
    bool tried_offset; /* upstream was asked whether it is another one */
    bool is_lost;      /* what the session says of its bytes cannot be */
};

/* NULL: out of memory. Asks nothing. */
struct push *push_new(const struct repository *repository, const struct push_settings *settings);
/* Goes on with a session of an earlier process: what upstream has of it is asked first. */
struct push *push_resume(const struct repository *repository, const struct push_settings *settings,
                         const char *url);
/* The session stays at upstream. NULL is fine. */
void push_free(struct push *push);

/* A blob of another repository of the same upstream. */
struct push_mount {
    const struct digest *digest;
    const char *from; /* the repository's path, with library/ already added */
};

/*
 * Begins a session, or mounts the blob. `mount` NULL: none. *is_mounted: upstream has mounted it,
 * and there is no session and nothing to send. A refusal of the mount is an ordinary session.
 */
bool push_begin(struct push *push, const struct push_mount *mount, bool *is_mounted,
                struct error *error);

/* Whether the upstream is known to take one PATCH a session only, so that push_write() wants a
 * source that is whole. */
bool push_takes_one_patch(const struct repository *repository);

/*
 * Sends what the source has from where upstream stands, until upstream has acknowledged the
 * source's end. Each byte goes once, unless something has to be mended. Begins a session if there
 * is none.
 */
bool push_write(struct push *push, const struct push_source *source, struct error *error);

/* Asks upstream how far the session has come (`acknowledged`). False: NOT_FOUND, when upstream does
 * not know it or does not say; the push has no session any more. */
bool push_ask(struct push *push, struct error *error);

/* push_write(), and then the blob has its name. The source is whole, and its digest is right: the
 * caller has checked it. */
bool push_finish(struct push *push, const struct push_source *source, const struct digest *digest,
                 struct error *error);

/* Ends the session at upstream, also when the push is cancelled. What fails is tried again for some
 * seconds, and then the session is left to upstream. */
void push_cancel(struct push *push);

/* Whether the repository has the blob, asked with the rights of a push. False with NOT_FOUND: it
 * has not. */
bool push_has_blob(const struct repository *repository, const struct push_settings *settings,
                   const struct digest *digest, uint64_t *size, struct error *error);

/* ---- manifests, tags and deleting (push_document.c) ---- */

struct push_manifest {
    const char *reference; /* a tag, or the digest of the bytes */
    const char *media_type;
    const void *bytes;
    size_t length;
};

struct push_stored {
    bool has_digest;
    struct digest digest;             /* Docker-Content-Digest */
    char subject[DIGEST_STRING_SIZE]; /* OCI-Subject; "": absent, or no digest */
};

/* Puts a manifest, again after a failure. `out` may be NULL. */
bool push_manifest(const struct repository *repository, const struct push_settings *settings,
                   const struct push_manifest *manifest, struct push_stored *out,
                   struct error *error);

/* Deletes a tag, or the manifest or blob of a digest. When an answer was lost, a 404 afterwards is
 * success. */
bool push_delete(const struct repository *repository, const struct push_settings *settings,
                 enum upstream_what what, const char *reference, struct error *error);

#endif
