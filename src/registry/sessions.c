/* Which upload sessions there are, and how each begins and ends. */
#include "registry/sessions.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cache/written.h"
#include "registry/renewal.h"
#include "registry/session_private.h"
#include "store/blobs.h"

enum {
    TAKE_MS = 20000, /* how long a request waits for the one before it */
    STOP_MS = 5000,
    HASH_PIECE = 128 << 10,
};

/* ---- life ---- */

struct sessions *sessions_new(struct cache *cache, struct store *store, struct replicas *replicas,
                              struct replica_asker *asker) {
    struct sessions *sessions = calloc(1, sizeof *sessions);
    if (!sessions)
        return NULL;
    sessions->cache = cache;
    sessions->store = store;
    sessions->replicas = replicas;
    sessions->asker = asker;
    lock_init(&sessions->table_lock);
    condition_init(&sessions->table_changed);
    return sessions;
}

/* Frees what nobody refers to, without a lock. */
static void session_free(struct session *session) {
    push_free(session->push);
    digest_hash_free(session->hash);
    upload_free(session->file);
    free(session->tail);
    if (session->wake >= 0)
        close(session->wake);
    condition_finish(&session->feed_changed);
    lock_finish(&session->feed_lock);
    upstream_release(session->repository.upstream);
    free(session);
}

struct session *session_keep(struct session *session) {
    lock_acquire(&session->sessions->table_lock);
    session->references++;
    lock_release(&session->sessions->table_lock);
    return session;
}

void session_release(struct session *session) {
    struct sessions *sessions = session->sessions;
    lock_acquire(&sessions->table_lock);
    bool is_last = --session->references == 0;
    lock_release(&sessions->table_lock);
    if (!is_last)
        return;
    session_free(session);
    lock_acquire(&sessions->table_lock);
    sessions->alive--;
    condition_broadcast(&sessions->table_changed);
    lock_release(&sessions->table_lock);
}

struct cache *session_cache(const struct session *session) {
    return session->sessions->cache;
}

/* Takes a session out of the table. True: the table's reference is the caller's to release. */
static bool unlist(struct sessions *sessions, struct session *session)
    REQUIRES(sessions->table_lock);
static bool unlist(struct sessions *sessions, struct session *session) {
    if (!session->is_listed)
        return false;
    HASH_DEL(sessions->table, session);
    session->is_listed = false;
    return true;
}

bool sessions_stop(struct sessions *sessions) {
    int64_t until_ms = clock_ms() + STOP_MS;
    atomic_store(&sessions->stopping, true);
    lock_acquire(&sessions->table_lock);
    while (sessions->table) {
        struct session *session = sessions->table;
        unlist(sessions, session);
        lock_release(&sessions->table_lock);
        lock_acquire(&session->feed_lock);
        session_wake(session);
        lock_release(&session->feed_lock);
        session_release(session);
        lock_acquire(&sessions->table_lock);
    }
    while (sessions->alive > 0 && clock_ms() < until_ms)
        condition_wait_until(&sessions->table_changed, &sessions->table_lock, until_ms);
    bool idle = sessions->alive == 0;
    lock_release(&sessions->table_lock);
    return idle;
}

void sessions_free(struct sessions *sessions) {
    if (!sessions)
        return;
    condition_finish(&sessions->table_changed);
    lock_finish(&sessions->table_lock);
    explicit_bzero(sessions->key, sizeof sessions->key);
    free(sessions);
}

static struct push_settings
settings_of(struct sessions *sessions, const struct repository *repository, struct cancel *cancel) {
    *cancel = (struct cancel){.stop = &sessions->stopping};
    return (struct push_settings){
        .patience_ms = upstream_settings(repository->upstream)->push_patience_ms,
        .cancel = cancel,
    };
}

struct session *session_new(struct sessions *sessions, const struct repository *repository,
                            const char *url, struct error *error) {
    struct session *session = calloc(1, sizeof *session);
    if (!session) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    session->sessions = sessions;
    session->repository = *repository;
    upstream_keep(repository->upstream);
    session->references = 1;
    session->is_taken = true;
    lock_init(&session->feed_lock);
    condition_init(&session->feed_changed);
    session->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    session->hash = digest_hash_new(DIGEST_SHA256);
    const struct push_settings settings = settings_of(sessions, repository, &session->cancel);
    session->push =
        *url ? push_resume(repository, &settings, url) : push_new(repository, &settings);
    if (session->wake >= 0 && session->hash && session->push) {
        lock_acquire(&sessions->table_lock);
        sessions->alive++;
        lock_release(&sessions->table_lock);
        return session;
    }
    error_set(error, ERROR_FILES, "no memory or descriptor for an upload");
    session_free(session);
    return NULL;
}

/* ---- the table ---- */

/* The session that was used least recently, of those that nobody uses; NULL: there is none. */
static struct session *find_idle(struct sessions *sessions) REQUIRES(sessions->table_lock);
static struct session *find_idle(struct sessions *sessions) {
    struct session *oldest = NULL;
    for (struct session *at = sessions->table; at; at = at->hh.next) {
        if (!at->is_taken && at->references == 1 && (!oldest || at->used_ms < oldest->used_ms))
            oldest = at;
    }
    return oldest;
}

bool sessions_enter(struct sessions *sessions, struct session *session, struct error *error) {
    struct session *gone = NULL;
    lock_acquire(&sessions->table_lock);
    bool fits = HASH_COUNT(sessions->table) < SESSIONS_LIMIT;
    if (!fits && (gone = find_idle(sessions)))
        fits = unlist(sessions, gone);
    if (fits) {
        HASH_ADD_STR(sessions->table, id, session);
        session->is_listed = session->hh.tbl != NULL;
        session->references += session->is_listed;
        fits = session->is_listed;
    }
    lock_release(&sessions->table_lock);
    if (gone)
        session_release(gone);
    if (fits)
        return true;
    error_set(error, ERROR_BUSY, "%d uploads are under way; try again", SESSIONS_LIMIT);
    error->retry_after_s = 1;
    return false;
}

unsigned sessions_count(struct sessions *sessions) {
    lock_acquire(&sessions->table_lock);
    unsigned count = HASH_COUNT(sessions->table);
    lock_release(&sessions->table_lock);
    return count;
}

void session_give(struct session *session) {
    if (!session)
        return;
    struct sessions *sessions = session->sessions;
    lock_acquire(&sessions->table_lock);
    session->is_taken = false;
    session->used_ms = clock_ms();
    condition_broadcast(&sessions->table_changed);
    lock_release(&sessions->table_lock);
    session_release(session);
}

/* Whether a session has ended here lately: upstream may still know its own. */
static bool has_ended(const struct sessions *sessions, const char *id)
    REQUIRES(sessions->table_lock);
static bool has_ended(const struct sessions *sessions, const char *id) {
    for (size_t i = 0; i < SESSIONS_ENDED; i++) {
        if (strcmp(sessions->ended[i], id) == 0)
            return true;
    }
    return false;
}

struct session *sessions_take_known(struct sessions *sessions, const char *id,
                                    struct error *error) {
    int64_t until_ms = clock_ms() + TAKE_MS;
    struct session *session;
    lock_acquire(&sessions->table_lock);
    if (has_ended(sessions, id)) {
        lock_release(&sessions->table_lock);
        error_set(error, ERROR_NOT_FOUND, "this upload has ended");
        return NULL;
    }
    for (;;) {
        HASH_FIND_STR(sessions->table, id, session);
        if (!session || !session->is_taken || clock_ms() >= until_ms)
            break;
        condition_wait_until(&sessions->table_changed, &sessions->table_lock, until_ms);
    }
    if (session && session->is_taken) {
        error_set(error, ERROR_BUSY, "another request to this upload is under way");
        error->retry_after_s = 1;
        session = NULL;
    } else if (session) {
        session->is_taken = true;
        session->references++;
    }
    lock_release(&sessions->table_lock);
    return session;
}

/* ---- the beginning ---- */

bool session_make_id(struct session *session) {
    unsigned char bytes[16];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(session->id + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

void session_make_file(struct session *session) {
    struct error error = {0};
    session->file = store_upload_open(session->sessions->store, session->id, true, &error);
    if (!session->file)
        log_at(LOG_WARN, "an upload cannot be kept, and passes through",
               LOG_STRING("error", error.text));
}

bool sessions_begin(struct sessions *sessions, const struct repository *repository,
                    const struct push_mount *mount, struct session **out, struct error *error) {
    bool is_mounted;
    *out = NULL;
    if (!sessions_have_key(sessions, error))
        return false;
    struct session *session = session_new(sessions, repository, "", error);
    if (!session)
        return false;
    bool ok = session_make_id(session) || error_set(error, ERROR_MEMORY, "no random bytes");
    ok = ok && push_begin(session->push, mount, &is_mounted, error);
    session->least_chunk = session->push->least_chunk; /* later the push is its thread's */
    if (ok && !is_mounted) {
        session_make_file(session);
        ok = sessions_enter(sessions, session, error);
        if (ok)
            *out = session;
        else
            session_cancel(session);
    }
    if (!*out)
        session_release(session);
    return ok;
}

/* ---- what is known of one ---- */

const char *session_id(const struct session *session) {
    return session->id;
}

const char *session_uuid(const struct session *session) {
    return session->id;
}

uint64_t session_least_chunk(const struct session *session) {
    return session->least_chunk;
}

uint64_t session_received(const struct session *session) {
    return session->received;
}

/* ---- the end ---- */

/* The digest of the file by another algorithm than the one that was hashed. */
static bool hash_file(const struct session *session, const struct digest *wanted,
                      struct digest *out, struct error *error) {
    cleanup_free unsigned char *piece = malloc(HASH_PIECE);
    struct digest_hash *hash = digest_hash_new(wanted->algorithm);
    bool ok = (piece && hash) || error_set(error, ERROR_MEMORY, "out of memory");
    for (uint64_t at = 0; ok && at < session->received;) {
        uint64_t left = session->received - at;
        size_t now = left < HASH_PIECE ? (size_t)left : HASH_PIECE;
        ok = file_read_all_at(upload_fd(session->file), piece, now, at, error);
        if (ok)
            digest_hash_update(hash, piece, now);
        at += now;
    }
    if (ok)
        digest_hash_finish(hash, out);
    digest_hash_free(hash);
    return ok;
}

bool session_check(struct session *session, const struct digest *digest, struct error *error) {
    struct digest is = {0};
    char text[DIGEST_STRING_SIZE], wanted[DIGEST_STRING_SIZE];
    if (session->base > 0)
        return true; /* the beginning was never here: upstream checks */
    if (digest->algorithm == DIGEST_SHA256 && session->hash) {
        digest_hash_finish(session->hash, &is);
        digest_hash_free(session->hash);
        session->hash = NULL;
        session->digest = is;
    } else if (digest->algorithm == DIGEST_SHA256 && session->digest.algorithm) {
        is = session->digest; /* an earlier PUT failed upstream */
    } else if (session->file && session->kept == session->received) {
        if (!hash_file(session, digest, &is, error))
            return false;
    } else {
        return error_set(error, ERROR_NO_SPACE,
                         "tarn's disk is full, so this digest cannot be checked");
    }
    return digest_equal(&is, digest) ||
           error_set(error, ERROR_CORRUPT, "the bytes have digest %s, not %s",
                     digest_format(&is, text), digest_format(digest, wanted));
}

/* Waits until the session's thread has ended. */
static void await_thread(struct session *session) {
    lock_acquire(&session->feed_lock);
    session->is_whole = session->piece_ended = true;
    session_wake(session);
    while (session->is_sending)
        condition_wait(&session->feed_changed, &session->feed_lock);
    lock_release(&session->feed_lock);
}

/* Nobody finds the session any more. */
static void leave_table(struct session *session) {
    struct sessions *sessions = session->sessions;
    lock_acquire(&sessions->table_lock);
    bool was_listed = unlist(sessions, session);
    memcpy(sessions->ended[sessions->next_ended++ % SESSIONS_ENDED], session->id,
           sizeof session->id);
    lock_release(&sessions->table_lock);
    if (was_listed)
        session_release(session);
}

/* Makes the file a blob. False: it is not kept. */
static bool keep_file(struct session *session, const struct digest *digest) {
    struct store *store = session->sessions->store;
    struct error error = {0};
    uint64_t size;
    if (store_blob_has(store, digest, &size) && size == session->received)
        return true;
    if (!session->file || session->base > 0 || session->kept != session->received)
        return false;
    if (upload_commit(session->file, digest, &error))
        return true;
    log_at(LOG_WARN, "a pushed blob was not kept", LOG_STRING("error", error.text));
    return false;
}

bool session_finish(struct session *session, const struct digest *digest, struct error *error) {
    await_thread(session);
    const struct push_source source = session_source(session, session->received, true);
    if (!push_finish(session->push, &source, digest, error))
        return false;
    bool is_stored = keep_file(session, digest);
    renewal_blob_written(session->sessions->asker, session->sessions->cache, &session->repository,
                         digest, session->received, is_stored);
    if (session->file)
        upload_drop(session->file);
    leave_table(session);
    return true;
}

void session_cancel(struct session *session) {
    lock_acquire(&session->feed_lock);
    session->is_cut = true;
    lock_release(&session->feed_lock);
    await_thread(session);
    push_cancel(session->push);
    if (session->file)
        upload_drop(session->file);
    leave_table(session);
}
