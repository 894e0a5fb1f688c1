/* Seals the addresses of upload sessions, and takes up sessions by them: those in memory, those of
 * an earlier process, and those of a replica that is gone. */
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "registry/session_private.h"

enum { HASH_PIECE = 128 << 10 };

#define PURPOSE "upload sessions"

/* ---- the key ---- */

/* A disk that cannot keep a key holds up no push: the sessions then end with this process. */
static bool make_key(struct sessions *sessions, unsigned char key[static SEALED_KEY_SIZE],
                     struct error *error) {
    if (store_upload_key(sessions->store, key, error))
        return true;
    error_wrap(error, "the key of upload sessions");
    if (error->kind == ERROR_INVALID || RAND_bytes(key, SEALED_KEY_SIZE) != 1)
        return false;
    log_at(LOG_WARN, "uploads under way will not go on after a restart",
           LOG_STRING("error", error->text));
    error_clear(error);
    return true;
}

/* The key is read when the first session begins, so that a tarn without pushes writes none. */
bool sessions_have_key(struct sessions *sessions, struct error *error) {
    unsigned char key[SEALED_KEY_SIZE];
    lock_acquire(&sessions->table_lock);
    bool has = sessions->has_key || sessions->replicas;
    lock_release(&sessions->table_lock);
    if (has)
        return true;
    if (!make_key(sessions, key, error))
        return false;
    lock_acquire(&sessions->table_lock);
    if (!sessions->has_key)
        memcpy(sessions->key, key, sizeof key);
    sessions->has_key = true;
    lock_release(&sessions->table_lock);
    explicit_bzero(key, sizeof key);
    return true;
}

static bool seal(struct sessions *sessions, const struct sealed_session *sealed,
                 char out[static SEALED_SIZE]) {
    unsigned char key[SEALED_KEY_SIZE];
    if (!sessions->replicas)
        return sealed_write(sessions->key, sealed, out);
    bool ok =
        replicas_derive_key(sessions->replicas, 0, PURPOSE, key) && sealed_write(key, sealed, out);
    explicit_bzero(key, sizeof key);
    return ok;
}

/* With replicas, any of their secrets may have been the first when it was sealed. */
static bool unseal(struct sessions *sessions, struct text text, struct sealed_session *out) {
    unsigned char key[SEALED_KEY_SIZE];
    if (!sessions->replicas)
        return sealed_read(sessions->key, text, out);
    bool ok = false;
    for (size_t line = 0; !ok && replicas_derive_key(sessions->replicas, line, PURPOSE, key);
         line++)
        ok = sealed_read(key, text, out);
    explicit_bzero(key, sizeof key);
    return ok;
}

bool session_seal(struct session *session, char out[static SEALED_SIZE]) {
    struct replicas *replicas = session->sessions->replicas;
    struct member self;
    cleanup_free struct sealed_session *sealed = calloc(1, sizeof *sealed);
    if (!sealed)
        return false;
    memcpy(sealed->id, session->id, sizeof sealed->id);
    sealed->name = session->repository.name;
    sealed->base = session->base;
    if (replicas && replicas_self(replicas, &self))
        memcpy(sealed->holder, self.text, sizeof self.text);
    lock_acquire(&session->feed_lock);
    sealed->received = session->received;
    /* While the thread has the push, its address may change at any time. */
    if (!session->is_sending && session->push->url &&
        strlen(session->push->url) < sizeof sealed->url)
        memcpy(sealed->url, session->push->url, strlen(session->push->url) + 1);
    lock_release(&session->feed_lock);
    return seal(session->sessions, sealed, out);
}

bool sessions_open(struct sessions *sessions, const struct repository *repository, const char *id,
                   struct text text, struct sealed_session *sealed, struct error *error) {
    if (!sessions_have_key(sessions, error))
        return false;
    if (unseal(sessions, text, sealed) && strcmp(sealed->id, id) == 0 &&
        repository_name_equal(&sealed->name, &repository->name))
        return true;
    return error_set(error, ERROR_NOT_FOUND, "this upload is not known; begin it anew");
}

bool sessions_is_elsewhere(struct sessions *sessions, const struct sealed_session *sealed,
                           struct member *holder) {
    struct member_figures members[MEMBERS_LIMIT];
    if (!sessions->replicas || !member_parse(text_of(sealed->holder), 0, holder) ||
        replica_asker_is_gone(sessions->asker, holder))
        return false;
    const size_t count =
        members_describe(replica_asker_members(sessions->asker), clock_ms(), members);
    for (size_t i = 0; i < count; i++) {
        if (member_equal(&members[i].member, holder))
            return members[i].state == MEMBER_LIVE;
    }
    return true; /* it may be leaving, or not be in the list yet */
}

/* ---- taking up ---- */

/* Hashes the bytes that an earlier process has received. */
static bool hash_again(struct session *session, struct error *error) {
    uint64_t size = upload_size(session->file);
    cleanup_free unsigned char *piece = malloc(HASH_PIECE);
    if (!piece)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (uint64_t at = 0; session->hash && at < size;) {
        size_t now = size - at < HASH_PIECE ? (size_t)(size - at) : HASH_PIECE;
        if (!file_read_all_at(upload_fd(session->file), piece, now, at, error))
            return false;
        digest_hash_update(session->hash, piece, now);
        at += now;
    }
    return true;
}

/* What was received is everything up to there. */
static void stand_at(struct session *session, uint64_t offset) {
    session->kept = session->received = session->read = offset;
}

/* The bytes before `base` are not here, so nobody can hash them. */
static void begin_at(struct session *session, uint64_t base) {
    session->base = base;
    if (base == 0)
        return;
    digest_hash_free(session->hash);
    session->hash = NULL;
}

/* Goes on with the file of an earlier process. False: NOT_FOUND, because there is no such file, or
 * less than the client was told; else the disk's error. */
static bool open_file(struct session *session, const struct sealed_session *sealed,
                      struct error *error) {
    begin_at(session, sealed->base);
    session->file = store_upload_open(session->sessions->store, sealed->id, false, error);
    if (!session->file || !hash_again(session, error))
        return false;
    uint64_t end = sealed->base + upload_size(session->file);
    if (end < sealed->received) {
        upload_drop(session->file);
        return error_set(error, ERROR_NOT_FOUND, "the file is shorter than it was");
    }
    memcpy(session->id, sealed->id, sizeof session->id);
    stand_at(session, end);
    return true;
}

/* Goes on where upstream stands, in a file of another name. */
static bool ask_upstream(struct session *session, const struct sealed_session *sealed,
                         struct error *error) {
    struct push *push = session->push;
    if (!push->url || push_takes_one_patch(&session->repository))
        return error_set(error, ERROR_NOT_FOUND, "there is nothing to go on with");
    bool is_fresh = sealed->received == 0; /* nothing was acknowledged to the client */
    if (!push_ask(push, error) && !(push->is_silent && is_fresh))
        return false;
    error_clear(error);
    begin_at(session, push->acknowledged);
    stand_at(session, push->acknowledged);
    session->least_chunk = push->least_chunk;
    if (!session_make_id(session))
        return error_set(error, ERROR_MEMORY, "no random bytes");
    session_make_file(session);
    return true;
}

static struct session *make_again(struct sessions *sessions, const struct repository *repository,
                                  const struct sealed_session *sealed,
                                  bool (*take_up)(struct session *session,
                                                  const struct sealed_session *sealed,
                                                  struct error *error),
                                  struct error *error) {
    struct session *session = session_new(sessions, repository, sealed->url, error);
    if (!session)
        return NULL;
    if (take_up(session, sealed, error) && sessions_enter(sessions, session, error))
        return session;
    session_release(session);
    return NULL;
}

/* Makes a session again that is not in memory. */
static struct session *revive(struct sessions *sessions, const struct repository *repository,
                              const struct sealed_session *sealed, struct error *error) {
    struct session *session = make_again(sessions, repository, sealed, open_file, error);
    if (session || error->kind != ERROR_NOT_FOUND)
        return session;
    return make_again(sessions, repository, sealed, ask_upstream, error);
}

bool sessions_take(struct sessions *sessions, const struct repository *repository,
                   const struct sealed_session *sealed, struct session **session,
                   struct error *error) {
    error_clear(error);
    *session = sessions_take_known(sessions, sealed->id, error);
    if (!*session && error->kind == ERROR_NONE)
        *session = revive(sessions, repository, sealed, error);
    if (*session)
        (*session)->claimed = sealed->received;
    else if (error->kind == ERROR_NOT_FOUND)
        error_set(error, ERROR_NOT_FOUND, "this upload is not known any more; begin it anew");
    return *session != NULL;
}

bool session_stands_as_told(const struct session *session) {
    return session->base == 0 || session->claimed == session->received;
}
