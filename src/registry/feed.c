/* The bytes of an upload session: from the client to the disk and to upstream. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/thread.h"
#include "cache/written.h"
#include "registry/session_private.h"

enum {
    SPACE_STEP = 16 << 20, /* of a piece whose length is not known */
    IDLE_MS = 60000,       /* without a client, one stream ends; it is sent again later */
};

void session_wake(struct session *session) {
    const uint64_t one = 1;
    ssize_t written =
        write(session->wake, &one, sizeof one); /* full: it can be read all the same */
    (void)written;
    condition_broadcast(&session->feed_changed);
}

/* ---- the reader: upstream's thread ---- */

/* Whether nothing more comes of what is to be sent now. */
static bool has_ended(const struct session *session) REQUIRES(session->feed_lock) {
    return session->one_stream ? session->is_whole : session->piece_ended;
}

/* Nothing is there at `offset`, the end of what was received. */
static ssize_t read_at_end(struct session *session, struct error *error)
    REQUIRES(session->feed_lock);
static ssize_t read_at_end(struct session *session, struct error *error) {
    uint64_t count;
    if (has_ended(session) && session->is_cut && session->piece_end != SESSION_LENGTH_UNKNOWN) {
        error_set(error, ERROR_CLOSED, "the client left in the middle of the body");
        return CLIENT_SOURCE_FAILED;
    }
    if (has_ended(session))
        return 0;
    if (!session->is_fed && clock_ms() - session->fed_ms > IDLE_MS) {
        error_set(error, ERROR_CLOSED, "the client sends nothing more for now");
        return CLIENT_SOURCE_FAILED;
    }
    ssize_t drained = read(session->wake, &count, sizeof count);
    (void)drained;
    return CLIENT_SOURCE_NOTHING;
}

static ssize_t read_file(const struct session *session, uint64_t offset, void *out, size_t size,
                         struct error *error) {
    ssize_t got = file_read_at(upload_fd(session->file), out, size, offset - session->base);
    if (got == (ssize_t)size)
        return got;
    error_set(error, ERROR_IO, "the bytes of the upload cannot be read back");
    return CLIENT_SOURCE_FAILED;
}

static bool fail_without_beginning(struct error *error) {
    return error_set(error, ERROR_NOT_FOUND,
                     "upstream has lost the beginning of the upload, which is not here");
}

static ssize_t read_bytes(void *context, uint64_t offset, void *out, size_t size,
                          struct error *error) {
    struct session *session = context;
    ssize_t got = CLIENT_SOURCE_FAILED;
    bool from_file = false;
    lock_acquire(&session->feed_lock);
    uint64_t tail_end = session->tail_start + session->tail_length;
    if (offset < session->base) {
        fail_without_beginning(error);
    } else if (offset < session->kept) {
        uint64_t left = session->kept - offset;
        size = left < size ? (size_t)left : size;
        from_file = true;
        got = (ssize_t)size;
    } else if (session->tail && offset >= session->tail_start && offset < tail_end) {
        uint64_t left = tail_end - offset;
        got = (ssize_t)(left < size ? left : size);
        memcpy(out, session->tail + (offset - session->tail_start), (size_t)got);
    } else if (offset < session->received) {
        session->is_lost = true;
        error_set(error, ERROR_NO_SPACE,
                  "tarn's disk is full, so it could not keep the bytes that have to be sent again");
    } else {
        got = read_at_end(session, error);
    }
    if (got > 0) {
        session->read = offset + (uint64_t)got;
        condition_broadcast(&session->feed_changed);
    }
    lock_release(&session->feed_lock);
    return from_file ? read_file(session, offset, out, size, error) : got;
}

/* Waits until the end of what is to be sent is known. */
static bool await_end(void *context, uint64_t *end, struct error *error) {
    struct session *session = context;
    bool ok = true;
    lock_acquire(&session->feed_lock);
    while (ok && !has_ended(session)) {
        condition_wait_until(&session->feed_changed, &session->feed_lock, clock_ms() + 1000);
        lock_release(&session->feed_lock);
        ok = cancel_check(session->push->settings.cancel, error);
        lock_acquire(&session->feed_lock);
        if (ok && !session->is_fed && clock_ms() - session->fed_ms > IDLE_MS)
            ok = error_set(error, ERROR_CLOSED, "the client sends nothing more for now");
    }
    *end = session->received;
    lock_release(&session->feed_lock);
    return ok;
}

struct push_source session_source(struct session *session, uint64_t end, bool is_whole) {
    return (struct push_source){
        .bytes = {.context = session, .read = read_bytes, .wake_fd = session->wake},
        .end = end == SESSION_LENGTH_UNKNOWN ? PUSH_END_UNKNOWN : end,
        .is_whole = is_whole,
        .await_end = await_end,
    };
}

/* Sends what is to be sent now. */
static bool send_now(struct session *session, struct error *error) {
    lock_acquire(&session->feed_lock);
    bool one = session->one_stream;
    uint64_t end = one ? SESSION_LENGTH_UNKNOWN : session->piece_end;
    lock_release(&session->feed_lock);
    const struct push_source source = session_source(session, end, one);
    return push_write(session->push, &source, error);
}

static void run_thread(void *argument) {
    struct session *session = argument;
    struct error error = {0};
    bool ok = send_now(session, &error);
    if (!ok && session->push->wants_whole && session->base > 0) {
        fail_without_beginning(&error);
    } else if (!ok && session->push->wants_whole) {
        lock_acquire(&session->feed_lock);
        session->one_stream = true;
        condition_broadcast(&session->feed_changed);
        lock_release(&session->feed_lock);
        error_clear(&error);
        ok = send_now(session, &error);
    }
    lock_acquire(&session->feed_lock);
    session->is_sending = false;
    session->has_failed = !ok;
    session->failure = error;
    condition_broadcast(&session->feed_changed);
    lock_release(&session->feed_lock);
    session_release(session);
}

/* ---- the writer: the client's worker ---- */

/* From now on bytes go through memory. */
static bool begin_to_pass(struct session *session, struct error *error) {
    unsigned char *tail = session->tail ? session->tail : malloc(TAIL_SIZE);
    if (!tail)
        return error_set(error, ERROR_MEMORY, "out of memory");
    lock_acquire(&session->feed_lock);
    session->tail = tail;
    session->passes = true;
    session->tail_start = session->received;
    session->tail_length = 0;
    lock_release(&session->feed_lock);
    return true;
}

bool session_feed_begin(struct session *session, uint64_t length, struct error *error) {
    struct error full;
    uint64_t step = length == SESSION_LENGTH_UNKNOWN ? SPACE_STEP : length;
    if (!session->passes &&
        (!session->file || !cache_make_space(session_cache(session), step, &full)) &&
        !begin_to_pass(session, error))
        return false;
    bool one = push_takes_one_patch(&session->repository);
    lock_acquire(&session->feed_lock);
    session->one_stream = session->one_stream || one;
    session->piece_end =
        length == SESSION_LENGTH_UNKNOWN ? SESSION_LENGTH_UNKNOWN : session->received + length;
    session->piece_ended = session->is_cut = false;
    session->is_fed = true;
    session->fed_ms = clock_ms();
    bool starts = !session->is_sending;
    session->is_sending = true;
    if (starts)
        session->has_failed = false;
    session_wake(session);
    lock_release(&session->feed_lock);
    if (!starts)
        return true;
    if (thread_start_detached("push", run_thread, session_keep(session), error))
        return true;
    session_release(session);
    lock_acquire(&session->feed_lock);
    session->is_sending = session->is_fed = false;
    lock_release(&session->feed_lock);
    return false;
}

/* What the thread's failure means for the client: where the disk is full, what upstream has lost
 * cannot be sent again. */
static bool take_failure(const struct session *session, struct error *error)
    REQUIRES(session->feed_lock);
static bool take_failure(const struct session *session, struct error *error) {
    *error = session->failure;
    bool is_refusal =
        error->kind == ERROR_DENIED || error->kind == ERROR_NOT_FOUND || error->status / 100 == 4;
    if (session->passes && (!is_refusal || session->is_lost))
        error_set(error, ERROR_NO_SPACE, "tarn's disk is full, and upstream has broken off");
    return false;
}

/* Hands bytes over in memory, once upstream's thread has taken those before. */
static bool pass(struct session *session, const unsigned char *bytes, size_t length,
                 struct error *error) {
    bool ok = true;
    lock_acquire(&session->feed_lock);
    while (ok && length > 0) {
        uint64_t tail_end = session->tail_start + session->tail_length;
        if (!session->is_sending) {
            ok = take_failure(session, error);
        } else if (session->tail_length < TAIL_SIZE || session->read >= tail_end) {
            if (session->read >= tail_end && session->tail_length > 0) {
                session->tail_start = tail_end;
                session->tail_length = 0;
            }
            size_t room = TAIL_SIZE - session->tail_length;
            size_t now = length < room ? length : room;
            memcpy(session->tail + session->tail_length, bytes, now);
            session->tail_length += now;
            session->received += now;
            bytes += now;
            length -= now;
            session_wake(session);
        } else {
            condition_wait_until(&session->feed_changed, &session->feed_lock, clock_ms() + 1000);
        }
    }
    lock_release(&session->feed_lock);
    return ok;
}

/* Appends bytes to the file. False: the disk takes no more. */
static bool append(struct session *session, const void *bytes, size_t length) {
    struct error ignored;
    uint64_t before = session->kept;
    bool crosses = before / SPACE_STEP != (before + length) / SPACE_STEP;
    if (crosses && session->piece_end == SESSION_LENGTH_UNKNOWN &&
        !cache_make_space(session_cache(session), SPACE_STEP, &ignored))
        return false;
    if (!upload_write(session->file, bytes, length, &ignored))
        return false;
    lock_acquire(&session->feed_lock);
    session->kept += length;
    session->received += length;
    session_wake(session);
    lock_release(&session->feed_lock);
    return true;
}

bool session_feed(struct session *session, const void *bytes, size_t length, struct error *error) {
    if (session->hash)
        digest_hash_update(session->hash, bytes, length);
    session->digest = (struct digest){0};
    lock_acquire(&session->feed_lock);
    session->fed_ms = clock_ms();
    lock_release(&session->feed_lock);
    if (!session->passes && append(session, bytes, length))
        return true;
    if (!session->passes && !begin_to_pass(session, error))
        return false;
    return pass(session, bytes, length, error);
}

bool session_feed_end(struct session *session, bool is_whole, struct error *error) {
    lock_acquire(&session->feed_lock);
    session->piece_ended = true;
    session->is_cut = !is_whole;
    session->is_fed = false;
    session->fed_ms = clock_ms();
    session_wake(session);
    while (session->is_sending && !session->one_stream)
        condition_wait(&session->feed_changed, &session->feed_lock);
    bool ok = session->is_sending || !session->has_failed || session->one_stream;
    if (!ok)
        take_failure(session, error);
    lock_release(&session->feed_lock);
    return ok;
}
