/* The process's log: how a line is written, and the thread that writes gathered lines. */
#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/thread.h"

enum { GATHER_MS = 100, GATHER_LIMIT = 1 << 20 };

static struct {
    enum log_level least;
    enum log_format format;
    struct lock lines_lock;  /* guards the members below */
    struct condition ending; /* `running` has become false */
    struct buffer lines;     /* lines that are not written yet */
    uint64_t dropped;        /* lines dropped since the last warning */
    bool running;            /* the writing thread runs: lines are gathered for it */
    pthread_t writer;
} process_log = {
    .least = LOG_INFO,
    .lines_lock = LOCK_INITIALIZER,
    .ending = CONDITION_INITIALIZER,
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_configure(enum log_level least, enum log_format format) {
    process_log.least = least;
    process_log.format = format;
}

bool log_enabled(enum log_level level) {
    return level >= process_log.least;
}

/* A failed write is not reported, because the report would go to standard error, too. */
static void write_lines(const struct buffer *lines) {
    file_write_all(STDERR_FILENO, lines->bytes, lines->length, NULL);
}

static void append_number(struct buffer *line, double number) {
    if (number == floor(number) && fabs(number) < 1e15)
        buffer_printf(line, "%.0f", number);
    else
        buffer_printf(line, "%.6g", number);
}

static bool needs_quotes(const char *text) {
    if (!*text)
        return true;
    for (; *text; text++) {
        if ((unsigned char)*text <= ' ' || *text == '"' || *text == '=' || *text == '\\' ||
            (unsigned char)*text >= 0x7f)
            return true;
    }
    return false;
}

static void append_text_line(struct buffer *line, const char *time, enum log_level level,
                             const char *message, const struct log_field *fields, unsigned count) {
    buffer_printf(line, "%s %-5s %s", time, level_names[level], message);
    for (unsigned i = 0; i < count; i++) {
        buffer_printf(line, " %s=", fields[i].name);
        if (!fields[i].text) {
            append_number(line, fields[i].number);
        } else if (needs_quotes(fields[i].text)) {
            buffer_append_string(line, "\"");
            buffer_append_json(line, text_of(fields[i].text));
            buffer_append_string(line, "\"");
        } else {
            buffer_append_string(line, fields[i].text);
        }
    }
    buffer_append_string(line, "\n");
}

static void append_json_line(struct buffer *line, const char *time, enum log_level level,
                             const char *message, const struct log_field *fields, unsigned count) {
    buffer_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"", time,
                  level_names[level]);
    buffer_append_json(line, text_of(message));
    buffer_append_string(line, "\"");
    for (unsigned i = 0; i < count; i++) {
        buffer_printf(line, ",\"%s\":", fields[i].name);
        if (fields[i].text) {
            buffer_append_string(line, "\"");
            buffer_append_json(line, text_of(fields[i].text));
            buffer_append_string(line, "\"");
        } else {
            append_number(line, fields[i].number);
        }
    }
    buffer_append_string(line, "}\n");
}

void log_event(enum log_level level, const char *message, const struct log_field *fields,
               unsigned count) {
    char time[32];
    cleanup_buffer struct buffer line = {0};
    clock_format_now(time, sizeof time);
    if (process_log.format == LOG_JSON)
        append_json_line(&line, time, level, message, fields, count);
    else
        append_text_line(&line, time, level, message, fields, count);
    if (line.failed)
        return;

    lock_acquire(&process_log.lines_lock);
    bool gather = process_log.running && level < LOG_WARN;
    if (gather && process_log.lines.length + line.length > GATHER_LIMIT) {
        process_log.dropped++;
    } else if (gather) {
        buffer_append(&process_log.lines, line.bytes, line.length);
    } else {
        write_lines(&process_log.lines); /* the lines gathered before this one go first */
        buffer_clear(&process_log.lines);
        write_lines(&line);
    }
    lock_release(&process_log.lines_lock);
}

/* Writes the gathered lines every GATHER_MS. It does not hold the lock while it writes. */
static void write_gathered(void *unused) {
    (void)unused;
    struct buffer writing = {0};
    lock_acquire(&process_log.lines_lock);
    while (process_log.running) {
        condition_wait_until(&process_log.ending, &process_log.lines_lock, clock_ms() + GATHER_MS);
        struct buffer full = process_log.lines;
        process_log.lines = writing;
        writing = full;
        uint64_t dropped = process_log.dropped;
        process_log.dropped = 0;
        lock_release(&process_log.lines_lock);
        write_lines(&writing);
        buffer_clear(&writing);
        if (dropped)
            log_at(LOG_WARN, "log lines dropped: standard error is not being read",
                   LOG_NUMBER("lines", dropped));
        lock_acquire(&process_log.lines_lock);
    }
    write_lines(&process_log.lines);
    buffer_clear(&process_log.lines);
    lock_release(&process_log.lines_lock);
    buffer_finish(&writing);
}

void log_start(void) {
    lock_acquire(&process_log.lines_lock);
    process_log.running = /* without the thread, lines are written at once */
        thread_start("log", THREAD_STACK, write_gathered, NULL, &process_log.writer, NULL);
    lock_release(&process_log.lines_lock);
}

void log_stop(void) {
    lock_acquire(&process_log.lines_lock);
    bool was_running = process_log.running;
    process_log.running = false;
    condition_signal(&process_log.ending);
    lock_release(&process_log.lines_lock);
    if (was_running)
        pthread_join(process_log.writer, NULL);
}
