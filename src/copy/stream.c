/* Reads a blob over several connections into a window, and hands it out in order. */
#include "copy/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/extents.h"
#include "base/lock.h"
#include "base/thread.h"

enum { SPAN_LEAST = 128 << 10 };

struct copy_stream {
    struct copy_stream_settings settings;
    struct copy_body body;
    struct digest_hash *hash; /* of bytes [0, hashed) */
    uint64_t hashed;
    bool is_wrong; /* all bytes were hashed, and the digest is another one */
    char *window;  /* byte `at` of the blob is at window[at % settings.window] */
    pthread_t threads[COPY_STREAM_READERS];
    unsigned started; /* threads that run or have ended, and are not joined */
    atomic_bool stop; /* the readers end */

    struct lock window_lock;               /* guards the rest */
    struct condition room;                 /* the window has moved, or the readers are to end */
    uint64_t base GUARDED_BY(window_lock); /* bytes before it were handed out */
    uint64_t next GUARDED_BY(window_lock); /* the first byte that no reader has taken on */
    struct extents present GUARDED_BY(window_lock);
    unsigned active GUARDED_BY(window_lock); /* readers that read a part now */
    bool is_plain GUARDED_BY(window_lock); /* the source takes no ranges: one reader, from byte 0 */
    bool is_awaited GUARDED_BY(window_lock); /* the taker waits for wake_fd */
    bool failed GUARDED_BY(window_lock);
    struct error failure GUARDED_BY(window_lock);
};

/* What one reader reads now. */
struct span {
    struct copy_stream *stream;
    uint64_t at, end; /* the byte that comes next, and the one behind the last */
    bool is_plain;    /* of the one reader that there is when the source takes no ranges */
};

/* ---- the readers ---- */

static void wake_taker(struct copy_stream *stream) REQUIRES(stream->window_lock) {
    const uint64_t one = 1;
    if (!stream->is_awaited)
        return;
    stream->is_awaited = false;
    if (write(stream->body.wake_fd, &one, sizeof one) < 0)
        return; /* it is full, so that it can be read already */
}

static void fail(struct copy_stream *stream, const struct error *error) {
    lock_acquire(&stream->window_lock);
    if (!stream->failed)
        stream->failure = *error;
    stream->failed = true;
    wake_taker(stream);
    condition_broadcast(&stream->room);
    lock_release(&stream->window_lock);
}

static bool must_end(const struct copy_stream *stream) REQUIRES(stream->window_lock) {
    return stream->failed || atomic_load(&stream->stop);
}

/* Waits until the span's next byte has a place in the window. Returns how many bytes from there on
 * have one; 0: the reader is to end. */
static size_t await_room(struct copy_stream *stream, const struct span *span)
    REQUIRES(stream->window_lock) {
    for (;;) {
        if (must_end(stream) || (stream->is_plain && !span->is_plain))
            return 0;
        if (span->at < stream->base + stream->settings.window)
            return (size_t)(stream->base + stream->settings.window - span->at);
        condition_wait(&stream->room, &stream->window_lock);
    }
}

/* Copies bytes to their place, which wraps around at the window's end. The place is this reader's
 * alone until extents_add() says that the bytes are there. */
static void put_bytes(struct copy_stream *stream, uint64_t at, const char *bytes, size_t length) {
    size_t place = (size_t)(at % stream->settings.window);
    size_t first = stream->settings.window - place;
    if (first > length)
        first = length;
    memcpy(stream->window + place, bytes, first);
    memcpy(stream->window, bytes + first, length - first);
}

/* A reader has `length` bytes from `at` on in the window. */
static bool record(struct copy_stream *stream, uint64_t at, size_t length)
    REQUIRES(stream->window_lock) {
    if (!extents_add(&stream->present, at, at + length))
        return false;
    if (extents_run_end(&stream->present, stream->base) > stream->base)
        wake_taker(stream);
    return true;
}

/* How many bytes from `at` on are here, or were handed out already. */
static size_t known_from(const struct copy_stream *stream, uint64_t at)
    REQUIRES(stream->window_lock) {
    uint64_t end = extents_run_end(&stream->present, at > stream->base ? at : stream->base);
    return end > at ? (size_t)(end - at) : 0;
}

/* The blob has another size than its manifest says. */
static bool refuse_size(const struct copy_stream *stream, const char *how, uint64_t bytes,
                        struct error *error) {
    char digest[DIGEST_STRING_SIZE];
    return error_set(error, ERROR_CORRUPT, "blob %s: it has %s%llu bytes instead of %llu",
                     digest_format(&stream->settings.digest, digest), how,
                     (unsigned long long)bytes, (unsigned long long)stream->settings.size);
}

static bool take_bytes(void *context, const void *given, size_t length, struct error *error) {
    struct span *span = context;
    struct copy_stream *stream = span->stream;
    const char *bytes = given;
    if (length > span->end - span->at)
        return refuse_size(stream, "more, at least ", span->at + length, error);
    while (length > 0) {
        lock_acquire(&stream->window_lock);
        size_t done = known_from(stream, span->at), room = 0;
        if (!done)
            room = await_room(stream, span);
        lock_release(&stream->window_lock);
        if (!done && !room)
            return error_set(error, ERROR_CLOSED, "stopped");
        size_t piece = done ? done : room;
        if (piece > length)
            piece = length;
        if (!done) {
            put_bytes(stream, span->at, bytes, piece);
            lock_acquire(&stream->window_lock);
            bool ok = record(stream, span->at, piece);
            lock_release(&stream->window_lock);
            if (!ok)
                return error_set(error, ERROR_MEMORY, "out of memory");
        }
        bytes += piece;
        length -= piece;
        span->at += piece;
    }
    return true;
}

/* As long as all readers at once can have one in the window: each costs a request. */
static uint64_t span_length(const struct copy_stream *stream) {
    size_t length = stream->settings.window / stream->settings.readers;
    return length < SPAN_LEAST ? SPAN_LEAST : length;
}

/* Takes on the next part of the blob, when a part of it has a place in the window. False: there is
 * none left. */
static bool take_span(struct copy_stream *stream, struct span *span) {
    const struct copy_stream_settings *settings = &stream->settings;
    lock_acquire(&stream->window_lock);
    const uint64_t length = span_length(stream);
    while (!must_end(stream) && !stream->is_plain && stream->next < settings->size &&
           stream->next >= stream->base + settings->window)
        condition_wait(&stream->room, &stream->window_lock);
    bool ok = !must_end(stream) && !stream->is_plain && stream->next < settings->size;
    uint64_t left = settings->size - stream->next;
    *span = (struct span){.stream = stream, .at = stream->next};
    span->end = settings->readers == 1 || left < length ? settings->size : span->at + length;
    if (ok) {
        stream->next = span->end;
        stream->active++;
    }
    lock_release(&stream->window_lock);
    return ok;
}

static bool read_span(struct span *span, struct upstream_target *target, struct error *error) {
    struct copy_stream *stream = span->stream;
    const uint64_t size = stream->settings.size;
    bool is_whole = span->at == 0 && span->end == size;
    const struct copy_read read = {
        .digest = stream->settings.digest,
        .first = span->at,
        .last = is_whole ? UINT64_MAX : span->end - 1,
        .context = span,
        .on_bytes = take_bytes,
        .stop = &stream->stop,
        .target = target,
    };
    if (!copy_source_read_blob(stream->settings.source, &read, error))
        return false;
    return span->at == span->end || refuse_size(stream, "", span->at, error);
}

static void leave_span(struct copy_stream *stream) {
    lock_acquire(&stream->window_lock);
    stream->active--;
    condition_broadcast(&stream->room);
    lock_release(&stream->window_lock);
}

/* A part could not be read. Whether the calling reader is the one that reads the whole from now on,
 * because the source takes no ranges. *is_over: another reader is, or will be. */
static bool become_plain(struct copy_stream *stream, const struct error *error, bool *is_over) {
    lock_acquire(&stream->window_lock);
    *is_over = stream->is_plain;
    bool is_first = !stream->is_plain && error->kind == ERROR_UNSUPPORTED;
    stream->is_plain = stream->is_plain || is_first;
    condition_broadcast(&stream->room);
    while (is_first && stream->active > 0) /* they write to the same window */
        condition_wait(&stream->room, &stream->window_lock);
    lock_release(&stream->window_lock);
    return is_first;
}

/* Reads from byte 0 on; what was handed out before is dropped. */
static bool read_plain(struct copy_stream *stream, struct error *error) {
    struct span span = {.stream = stream, .end = stream->settings.size, .is_plain = true};
    return read_span(&span, NULL, error);
}

static void run_reader(void *context) {
    struct copy_stream *stream = context;
    struct upstream_target target = {0};
    struct error error = {0};
    struct span span;
    bool ok = true, is_over = false;
    while (ok && !is_over && take_span(stream, &span)) {
        ok = read_span(&span, &target, &error);
        leave_span(stream);
        if (!ok)
            ok = become_plain(stream, &error, &is_over) ? read_plain(stream, &error) : is_over;
    }
    upstream_target_finish(&target);
    if (!ok)
        fail(stream, &error);
}

/* ---- the taker ---- */

static void end_readers(struct copy_stream *stream) {
    lock_acquire(&stream->window_lock);
    atomic_store(&stream->stop, true);
    condition_broadcast(&stream->room);
    lock_release(&stream->window_lock);
    while (stream->started > 0)
        pthread_join(stream->threads[--stream->started], NULL);
}

/* Starts the readers, as many as there are parts for. */
static bool start_readers(struct copy_stream *stream, struct error *error) {
    const struct copy_stream_settings *settings = &stream->settings;
    uint64_t parts = (settings->size - stream->base) / span_length(stream) + 1;
    unsigned wanted = parts < settings->readers ? (unsigned)parts : settings->readers;
    atomic_store(&stream->stop, false);
    while (stream->started < wanted) {
        struct error *why = stream->started ? NULL : error; /* one reader is enough */
        if (!thread_start("blob", THREAD_STACK, run_reader, stream,
                          &stream->threads[stream->started], why))
            return stream->started > 0;
        stream->started++;
    }
    return true;
}

static bool seek(void *context, uint64_t offset, struct error *error) {
    struct copy_stream *stream = context;
    end_readers(stream);
    lock_acquire(&stream->window_lock);
    stream->base = stream->next = offset;
    stream->failed = false;
    stream->is_plain = false;
    bool ok = extents_remove(&stream->present, 0, UINT64_MAX);
    lock_release(&stream->window_lock);
    if (offset == 0) { /* else what was hashed before stays so */
        digest_hash_free(stream->hash);
        stream->hash = digest_hash_new(stream->settings.digest.algorithm);
        stream->hashed = 0;
        stream->is_wrong = false;
    }
    return ok && (stream->hash || offset > 0) ? start_readers(stream, error)
                                              : error_set(error, ERROR_MEMORY, "out of memory");
}

/* Copies up to `size` bytes that are there, without handing them out yet. */
static size_t copy_bytes(struct copy_stream *stream, char *out, size_t size, uint64_t *at) {
    lock_acquire(&stream->window_lock);
    uint64_t base = *at = stream->base;
    uint64_t there = extents_run_end(&stream->present, base) - base;
    lock_release(&stream->window_lock);
    size_t length = there < size ? (size_t)there : size;
    size_t place = (size_t)(base % stream->settings.window);
    size_t first = stream->settings.window - place;
    if (first > length)
        first = length;
    memcpy(out, stream->window + place, first);
    memcpy(out + first, stream->window, length - first);
    return length;
}

/* Hashes what was not hashed before. False: these are the last bytes, and the digest is wrong. */
static bool hash_bytes(struct copy_stream *stream, uint64_t at, const char *bytes, size_t length,
                       struct error *error) {
    const struct copy_stream_settings *settings = &stream->settings;
    struct digest is;
    char text[DIGEST_STRING_SIZE];
    if (at + length > stream->hashed) {
        size_t known = (size_t)(stream->hashed - at);
        digest_hash_update(stream->hash, bytes + known, length - known);
        stream->hashed = at + length;
    }
    if (stream->hash && stream->hashed == settings->size) {
        digest_hash_finish(stream->hash, &is);
        digest_hash_free(stream->hash);
        stream->hash = NULL;
        stream->is_wrong = !digest_equal(&is, &settings->digest);
    }
    return !stream->is_wrong || at + length < settings->size ||
           error_set(error, ERROR_CORRUPT, "blob %s: the bytes that were read have another digest",
                     digest_format(&settings->digest, text));
}

/* The bytes leave the window. */
static void move_window(struct copy_stream *stream, uint64_t base) {
    lock_acquire(&stream->window_lock);
    stream->base = base;
    extents_remove(&stream->present, 0, base); /* splits no run that begins before it */
    condition_broadcast(&stream->room);
    lock_release(&stream->window_lock);
}

/* Nothing is there: why, and the taker is woken when that changes. */
static bool await_bytes(struct copy_stream *stream, struct error *error) {
    uint64_t count;
    lock_acquire(&stream->window_lock);
    bool ok = !stream->failed;
    if (!ok && error)
        *error = stream->failure;
    ssize_t drained = ok ? read(stream->body.wake_fd, &count, sizeof count) : 0;
    (void)drained; /* EAGAIN: nobody has woken us */
    stream->is_awaited = ok;
    /* What came since the last look does not wake us any more. */
    if (ok && extents_run_end(&stream->present, stream->base) > stream->base)
        wake_taker(stream);
    lock_release(&stream->window_lock);
    return ok;
}

static bool read_bytes(void *context, void *bytes, size_t size, size_t *length, bool *ended,
                       struct error *error) {
    struct copy_stream *stream = context;
    const struct copy_stream_settings *settings = &stream->settings;
    uint64_t at;
    *length = copy_bytes(stream, bytes, size, &at);
    *ended = at + *length == settings->size;
    if (!*length && !*ended)
        return await_bytes(stream, error);
    if (!hash_bytes(stream, at, bytes, *length, error))
        return false;
    move_window(stream, at + *length);
    if (settings->on_progress)
        settings->on_progress(settings->context, at + *length);
    return true;
}

/* ---- its life ---- */

struct copy_stream *copy_stream_new(const struct copy_stream_settings *settings,
                                    struct error *error) {
    struct copy_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    stream->settings = *settings;
    if (stream->settings.window > settings->size + 1)
        stream->settings.window = (size_t)settings->size + 1;
    if (settings->source->is_sequential || settings->readers < 1)
        stream->settings.readers = 1;
    if (stream->settings.readers > COPY_STREAM_READERS)
        stream->settings.readers = COPY_STREAM_READERS;
    lock_init(&stream->window_lock);
    condition_init(&stream->room);
    stream->window = malloc(stream->settings.window);
    stream->body = (struct copy_body){
        .context = stream,
        .digest = settings->digest,
        .has_size = true,
        .size = settings->size,
        .seek = seek,
        .read = read_bytes,
        .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
        .stop = settings->stop,
    };
    if (stream->window && stream->body.wake_fd >= 0)
        return stream;
    if (!stream->window)
        error_set(error, ERROR_MEMORY, "out of memory");
    else
        error_set_errno(error, errno, "no event can be made");
    copy_stream_free(stream);
    return NULL;
}

void copy_stream_free(struct copy_stream *stream) {
    if (!stream)
        return;
    end_readers(stream);
    if (stream->body.wake_fd >= 0)
        close(stream->body.wake_fd);
    digest_hash_free(stream->hash);
    extents_finish(&stream->present);
    condition_finish(&stream->room);
    lock_finish(&stream->window_lock);
    free(stream->window);
    free(stream);
}

struct copy_body *copy_stream_body(struct copy_stream *stream) {
    return &stream->body;
}
