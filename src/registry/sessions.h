/*
 * Upload sessions: a blob that a client sends is written to upstream and to the disk at the same
 * time.
 *
 * The worker of the client's request feeds the session: it hashes the bytes and appends them to a
 * file below ROOT/uploads (store/uploads.h). A thread of the session's own reads the file as it
 * grows and sends it to upstream (upstream/push.h); what upstream loses is read again. When the
 * disk takes no more, a few bytes are handed over in memory, and the client waits for upstream.
 *
 * Upstream gets a PATCH for each of the client's. Where it takes one PATCH a session only, one goes
 * on over all of the client's requests.
 *
 * A session is kept in memory while it is in use. Its file stays for a day, also over a restart;
 * the sealed address (sealed.h) that its client has says the rest. With replicas, all can open the
 * address, and it says which one has the file.
 *
 * Threads: any; a session belongs to the one that has taken it.
 */
#ifndef REGISTRY_SESSIONS_H
#define REGISTRY_SESSIONS_H

#include "cache/cache.h"
#include "registry/sealed.h"
#include "replica/asker.h"
#include "replica/replicas.h"
#include "upstream/push.h"

struct sessions;
struct session;

enum { SESSIONS_LIMIT = 512 /* kept in memory; those used least recently go */ };

/* NULL: out of memory. `replicas` and `asker` are NULL where there are none. */
struct sessions *sessions_new(struct cache *cache, struct store *store, struct replicas *replicas,
                              struct replica_asker *asker);
/* Ends the threads of all sessions. False: one would not end in some seconds. */
bool sessions_stop(struct sessions *sessions);
void sessions_free(struct sessions *sessions); /* after sessions_stop(); NULL is fine */

/* How many are in memory. */
unsigned sessions_count(struct sessions *sessions);

/* A new session, begun upstream, or a mount. *session is NULL when upstream has mounted the blob;
 * else it is taken. */
bool sessions_begin(struct sessions *sessions, const struct repository *repository,
                    const struct push_mount *mount, struct session **session, struct error *error);

/* ---- by a sealed address (revival.c) ---- */

/* Opens a sealed address that was given out for this repository. `sealed` is large: not for the
 * stack of a worker. False: NOT_FOUND, or the disk's error. */
bool sessions_open(struct sessions *sessions, const struct repository *repository, const char *id,
                   struct text text, struct sealed_session *sealed, struct error *error);

/* Whether another replica holds the session, and may be there. */
bool sessions_is_elsewhere(struct sessions *sessions, const struct sealed_session *sealed,
                           struct member *holder);

/* Takes the session. What is not in memory is made again from its file; without a file, or when its
 * holder is gone, it goes on where upstream stands. False: NOT_FOUND (unknown, expired, ended, or
 * upstream takes no second piece), BUSY (another request has it), or the error of the disk or of
 * upstream. */
bool sessions_take(struct sessions *sessions, const struct repository *repository,
                   const struct sealed_session *sealed, struct session **session,
                   struct error *error);

/* Whether the session stands where the client was last told that it stands. Otherwise what comes
 * without an offset might not belong there. */
bool session_stands_as_told(const struct session *session);

/* Gives it back. NULL is fine. */
void session_give(struct session *session);

const char *session_id(const struct session *session);
const char *session_uuid(const struct session *session); /* upstream's, else the id */
uint64_t session_least_chunk(const struct session *session);
uint64_t session_received(const struct session *session); /* bytes of the client */
/* The sealed address. False: it cannot be made. */
bool session_seal(struct session *session, char out[static SEALED_SIZE]);

/* ---- the client's bytes ---- */

#define SESSION_LENGTH_UNKNOWN UINT64_MAX

/* Begins to take a piece of `length` bytes. */
bool session_feed_begin(struct session *session, uint64_t length, struct error *error);
/* Takes bytes. May wait for upstream where the disk is full. False: NO_SPACE, when upstream has
 * failed then. */
bool session_feed(struct session *session, const void *bytes, size_t length, struct error *error);
/* The piece has ended; `is_whole`: as it should, else the client was cut. Waits until upstream has
 * it, unless upstream takes one stream. False: upstream does not take it, as push_write(). */
bool session_feed_end(struct session *session, bool is_whole, struct error *error);

/* ---- the end ---- */

/* Whether all bytes have this digest. False: CORRUPT, or the disk's error. */
bool session_check(struct session *session, const struct digest *digest, struct error *error);
/* Ends it upstream, keeps the blob and renews what is known of it. The digest is checked. */
bool session_finish(struct session *session, const struct digest *digest, struct error *error);
/* Deletes the session, here and upstream. It must be given back all the same. */
void session_cancel(struct session *session);

#endif
