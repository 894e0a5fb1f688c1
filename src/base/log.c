#include "base/log.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/clock.h"

enum { GATHER_MS = 100, GATHER_LIMIT = 1 << 20 };

static struct {
    enum log_level least;
    enum log_format format;
    pthread_mutex_t lines_lock; /* guards everything below */
    pthread_cond_t wake;
    struct buffer lines;
    uint64_t dropped;
    bool running;
    pthread_t writer;
} process_log = {
    .least = LOG_INFO,
    .lines_lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_configure(enum log_level least, enum log_format format) {
    process_log.least = least;
    process_log.format = format;
}

bool log_enabled(enum log_level level) {
    return level >= process_log.least;
}

static void write_all(const char *bytes, size_t length) {
    while (length) {
        ssize_t written = write(STDERR_FILENO, bytes, length);
        if (written <= 0)
            return; /* nowhere left to complain */
        bytes += written;
        length -= (size_t)written;
    }
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

    pthread_mutex_lock(&process_log.lines_lock);
    bool gather = process_log.running && level < LOG_WARN;
    if (gather && process_log.lines.length + line.length > GATHER_LIMIT) {
        process_log.dropped++;
    } else if (gather) {
        buffer_append(&process_log.lines, line.bytes, line.length);
    } else {
        /* In order: what was gathered before this line goes first. */
        write_all(process_log.lines.bytes, process_log.lines.length);
        buffer_clear(&process_log.lines);
        write_all(line.bytes, line.length);
    }
    pthread_mutex_unlock(&process_log.lines_lock);
}

static void *write_gathered(void *unused) {
    (void)unused;
    struct buffer writing = {0};
    pthread_mutex_lock(&process_log.lines_lock);
    while (process_log.running) {
        struct timespec deadline = clock_deadline(GATHER_MS);
        pthread_cond_clockwait(&process_log.wake, &process_log.lines_lock, CLOCK_MONOTONIC,
                               &deadline);
        struct buffer full = process_log.lines;
        process_log.lines = writing;
        writing = full;
        uint64_t dropped = process_log.dropped;
        process_log.dropped = 0;
        pthread_mutex_unlock(&process_log.lines_lock);
        write_all(writing.bytes, writing.length);
        buffer_clear(&writing);
        if (dropped)
            log_at(LOG_WARN, "log lines dropped: standard error is not being read",
                   LOG_NUMBER("lines", dropped));
        pthread_mutex_lock(&process_log.lines_lock);
    }
    write_all(process_log.lines.bytes, process_log.lines.length);
    buffer_clear(&process_log.lines);
    pthread_mutex_unlock(&process_log.lines_lock);
    buffer_free(&writing);
    return NULL;
}

void log_start(void) {
    pthread_mutex_lock(&process_log.lines_lock);
    process_log.running = true;
    if (pthread_create(&process_log.writer, NULL, write_gathered, NULL) != 0)
        process_log.running = false; /* lines are then written at once */
    pthread_mutex_unlock(&process_log.lines_lock);
}

void log_stop(void) {
    pthread_mutex_lock(&process_log.lines_lock);
    bool was_running = process_log.running;
    process_log.running = false;
    pthread_cond_signal(&process_log.wake);
    pthread_mutex_unlock(&process_log.lines_lock);
    if (was_running)
        pthread_join(process_log.writer, NULL);
}
