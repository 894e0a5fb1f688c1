/* The process's log: lines are gathered, and one thread writes them. */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log_line.h"
#include "base/metric.h"
#include "base/thread.h"

enum {
    GATHER_MS = 100,         /* how long a line may wait for more lines */
    GATHER_SIZE = 64 << 10,  /* bytes that are written without waiting for more */
    GATHER_LIMIT = 1 << 20,  /* bytes gathered, beyond which lines are dropped */
    RESERVE_SIZE = 64 << 10, /* further bytes, for warnings and errors */
    KEPT_SIZE = 256 << 10,   /* the writer frees a larger buffer after a busy time */
    PIECE_SIZE = 16 << 10,   /* bytes written at a time, so that log_stop() can see progress */
    STUCK_MS = 300,          /* standard error takes nothing for so long: log_stop() gives up */
    STOP_MS = 5000,          /* the longest that log_stop() waits for a slow reader */
    OWN_SIZE = 16 << 10,     /* the lines of a thread that gathers */
    STACK_LINE_SIZE = 4096,  /* a longer line is composed on the heap */
};

/* The lines of a thread that gathers. */
struct own_lines {
    size_t length;
    unsigned count;
    char bytes[OWN_SIZE];
};

static _Thread_local struct own_lines *own_lines; /* NULL: the thread does not gather */

static struct {
    _Atomic enum log_level least;
    _Atomic enum log_format format;
    struct lock lines_lock; /* guards the members down to `stopping` */
    struct condition wake;  /* for the writer: there is something to do */
    struct condition ended; /* `running` has become false */
    struct buffer lines;    /* lines that are not written yet */
    uint64_t dropped;       /* lines dropped since the last warning */
    bool urgent;            /* `lines` holds a warning or an error */
    bool running;           /* the writer runs: nobody else writes */
    bool stopping;          /* the writer ends when it has written all lines */

    struct metric *dropped_total;
    pthread_t writer;
    _Atomic uint64_t written; /* bytes that standard error has taken */
} process_log = {
    .least = LOG_INFO,
    .lines_lock = LOCK_INITIALIZER,
    .wake = CONDITION_INITIALIZER,
    .ended = CONDITION_INITIALIZER,
};

void log_configure(enum log_level least, enum log_format format) {
    atomic_store_explicit(&process_log.least, least, memory_order_relaxed);
    atomic_store_explicit(&process_log.format, format, memory_order_relaxed);
}

bool log_enabled(enum log_level level) {
    return level >= atomic_load_explicit(&process_log.least, memory_order_relaxed);
}

/* ---- writing ---- */

/* A failed write is not reported, because the report would go to standard error, too. Whoever has
 * started tarn may have made standard error non-blocking; then poll() waits instead of write(). */
static void write_bytes(const char *bytes, size_t length) {
    while (length) {
        ssize_t taken = write(STDERR_FILENO, bytes, length < PIECE_SIZE ? length : PIECE_SIZE);
        if (taken > 0) {
            bytes += taken;
            length -= (size_t)taken;
            atomic_fetch_add_explicit(&process_log.written, (uint64_t)taken, memory_order_relaxed);
        } else if (taken < 0 && errno == EAGAIN) {
            poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, -1);
        } else if (taken == 0 || errno != EINTR) {
            return;
        }
    }
}

static void write_dropped(uint64_t dropped) {
    const struct log_field lines = LOG_NUMBER("lines", dropped);
    const struct log_line line = {
        .format = process_log.format,
        .level = LOG_WARN,
        .message = "log lines dropped: standard error was not being read",
        .fields = &lines,
        .count = 1,
    };
    char text[1024];
    if (dropped && log_enabled(LOG_WARN))
        write_bytes(text, log_line_write(&line, text));
}

/* Whether lines are to be written now, without waiting for more. */
static bool is_due(void) REQUIRES(process_log.lines_lock) {
    return process_log.urgent || process_log.stopping || process_log.lines.length >= GATHER_SIZE;
}

/* Waits for lines, and a moment for more of them. False: there are none, and the log stops. */
static bool wait_for_lines(void) REQUIRES(process_log.lines_lock) {
    while (process_log.lines.length == 0 && process_log.dropped == 0) {
        if (process_log.stopping)
            return false;
        condition_wait(&process_log.wake, &process_log.lines_lock);
    }
    int64_t until = clock_ms() + GATHER_MS;
    while (!is_due() && condition_wait_until(&process_log.wake, &process_log.lines_lock, until))
        ;
    return true;
}

/* The writer. It does not hold the lock while it writes. */
static void write_gathered(void *unused) {
    (void)unused;
    struct buffer writing = {0};
    lock_acquire(&process_log.lines_lock);
    while (wait_for_lines()) {
        struct buffer full = process_log.lines;
        process_log.lines = writing;
        writing = full;
        uint64_t dropped = process_log.dropped;
        process_log.dropped = 0;
        process_log.urgent = false;
        lock_release(&process_log.lines_lock);
        write_bytes(writing.bytes, writing.length);
        write_dropped(dropped); /* they were logged after the lines that fitted */
        buffer_clear(&writing);
        if (writing.capacity > KEPT_SIZE)
            buffer_finish(&writing);
        lock_acquire(&process_log.lines_lock);
    }
    process_log.running = false;
    condition_signal(&process_log.ended);
    buffer_finish(&process_log.lines);
    lock_release(&process_log.lines_lock);
    buffer_finish(&writing);
}

/* ---- gathering ---- */

static void drop(unsigned count) REQUIRES(process_log.lines_lock) {
    process_log.dropped += count;
    metric_add(process_log.dropped_total, count);
}

/* Adds whole lines to those that the writer writes next. */
static void gather(enum log_level level, const char *bytes, size_t length, unsigned count)
    REQUIRES(process_log.lines_lock) {
    struct buffer *lines = &process_log.lines;
    bool was_empty = lines->length == 0 && process_log.dropped == 0, was_due = is_due();
    lines->limit = GATHER_LIMIT + (level >= LOG_WARN ? RESERVE_SIZE : 0);
    if (!buffer_append(lines, bytes, length)) {
        lines->failed = false; /* the lines before this one stay */
        drop(count);
    } else if (level >= LOG_WARN) {
        process_log.urgent = true;
    }
    if (was_empty || (is_due() && !was_due))
        condition_signal(&process_log.wake);
}

static void hand_over(enum log_level level, const char *bytes, size_t length, unsigned count) {
    lock_acquire(&process_log.lines_lock);
    if (process_log.running)
        gather(level, bytes, length, count);
    else
        write_bytes(bytes, length);
    lock_release(&process_log.lines_lock);
}

void log_gather_begin(void) {
    if (own_lines || !(own_lines = malloc(sizeof *own_lines)))
        return;
    own_lines->length = 0;
    own_lines->count = 0;
}

void log_gather_flush(void) {
    if (!own_lines || own_lines->count == 0)
        return;
    hand_over(LOG_INFO, own_lines->bytes, own_lines->length, own_lines->count);
    own_lines->length = 0;
    own_lines->count = 0;
}

void log_gather_end(void) {
    log_gather_flush();
    free(own_lines);
    own_lines = NULL;
}

static void add_line(enum log_level level, const char *bytes, size_t length) {
    struct own_lines *own = own_lines;
    bool alone = !own || level >= LOG_WARN || length > OWN_SIZE;
    if (alone || own->length + length > OWN_SIZE)
        log_gather_flush();
    if (alone) {
        hand_over(level, bytes, length, 1);
        return;
    }
    memcpy(own->bytes + own->length, bytes, length);
    own->length += length;
    own->count++;
}

/* The lines that do not fit are dropped, but counted. */
static void drop_line(void) {
    lock_acquire(&process_log.lines_lock);
    if (process_log.running)
        drop(1);
    lock_release(&process_log.lines_lock);
}

void log_event(enum log_level level, const char *message, const struct log_field *fields,
               unsigned count) {
    if (!log_enabled(level))
        return;
    const struct log_line line = {process_log.format, level, message, fields, count};
    __attribute__((uninitialized)) char on_stack[STACK_LINE_SIZE]; /* to zero it takes 40 ns */
    size_t limit = log_line_limit(&line);
    char *bytes = limit <= sizeof on_stack ? on_stack : malloc(limit);
    if (!bytes) {
        drop_line();
        return;
    }
    add_line(level, bytes, log_line_write(&line, bytes));
    if (bytes != on_stack)
        free(bytes);
}

/* ---- the writer's life ---- */

void log_start(void) {
    process_log.dropped_total =
        metric_get(METRIC_COUNTER, "tarn_log_lines_dropped_total",
                   "Lines of the log that were dropped: standard error was not being read.", "");
    lock_acquire(&process_log.lines_lock);
    process_log.stopping = false;
    process_log.running = /* without the thread, lines are written at once */
        thread_start("log", THREAD_STACK, write_gathered, NULL, &process_log.writer, NULL);
    lock_release(&process_log.lines_lock);
}

/* Waits for the writer's end while standard error takes lines. False: it has not ended. */
static bool wait_for_end(void) REQUIRES(process_log.lines_lock) {
    int64_t end = clock_ms() + STOP_MS;
    uint64_t before, written = atomic_load(&process_log.written);
    do {
        before = written;
        int64_t until = clock_ms() + STUCK_MS;
        while (process_log.running &&
               condition_wait_until(&process_log.ended, &process_log.lines_lock, until))
            ;
        written = atomic_load(&process_log.written);
    } while (process_log.running && written != before && clock_ms() < end);
    return !process_log.running;
}

void log_stop(void) {
    lock_acquire(&process_log.lines_lock);
    bool ends = process_log.running && !process_log.stopping, ended = false;
    process_log.stopping = true;
    condition_signal(&process_log.wake);
    if (ends)
        ended = wait_for_end();
    lock_release(&process_log.lines_lock);
    /* A writer that is stuck in write() goes on when standard error is read, or ends with the
     * process. Until then lines are gathered or dropped. */
    if (ends && ended)
        pthread_join(process_log.writer, NULL);
    else if (ends)
        pthread_detach(process_log.writer);
}

enum { PAUSE_MS = 60000 };

bool log_is_due(struct log_pause *pause, unsigned *more) {
    int64_t now = clock_ms(), until = atomic_load(&pause->until_ms);
    if (now < until || !atomic_compare_exchange_strong(&pause->until_ms, &until, now + PAUSE_MS)) {
        atomic_fetch_add(&pause->left_out, 1);
        return false;
    }
    *more = atomic_exchange(&pause->left_out, 0);
    return true;
}
