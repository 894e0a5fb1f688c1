/*
 * The process's log: one line for each event on standard error, as text for people or as JSON for
 * collectors.
 *
 * An event is a short message, which never changes, and named fields. Once log_start() has run,
 * only the log's own thread writes: a line is gathered in memory and written at most 100 ms later,
 * a warning or an error at once, with the lines before it. So no caller ever waits for whoever
 * reads standard error. When nobody reads, lines beyond 1 MiB are dropped and counted (warnings and
 * errors have some room more), and the count is logged when reading goes on. Before log_start(), a
 * line is written by the thread that logs it.
 *
 * Lines stand in the order in which threads hand them over. A thread hands over each line when it
 * logs it, unless it gathers (log_gather_begin()). When the process is killed, the lines of the
 * last 100 ms are lost, and of each thread that gathers, the lines since its last flush.
 *
 * Any thread may make any call. log_configure() may come again: lines that follow are of the new
 * format.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/text.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
    const char *name; /* of letters, digits and underscores */
    struct text text; /* the value, unless it is a number */
    double number;
    bool is_number;
};

static inline struct log_field log_string(const char *name, const char *value) {
    return (struct log_field){.name = name, .text = text_of(value ? value : "")};
}

static inline struct log_field log_slice(const char *name, struct text value) {
    return (struct log_field){.name = name, .text = value};
}

static inline struct log_field log_number(const char *name, double value) {
    return (struct log_field){.name = name, .number = value, .is_number = true};
}

#define LOG_STRING(name, value) log_string(name, value) /* const char *; NULL is "" */
#define LOG_SLICE(name, value)  log_slice(name, value)  /* struct text */
#define LOG_NUMBER(name, value) log_number(name, (double)(value))

void log_configure(enum log_level least, enum log_format format);
void log_start(void); /* starts the log's thread */
/* Ends the thread, once it has written the gathered lines. When standard error takes nothing for a
 * second, the function returns all the same, and later lines are dropped. */
void log_stop(void);
bool log_enabled(enum log_level level);

/* Does nothing when the level is not enabled. */
void log_event(enum log_level level, const char *message, const struct log_field *fields,
               unsigned count);

/* log_at(LOG_INFO, "listening", LOG_STRING("address", a), LOG_NUMBER("port", p)); */
#define log_at(level, message, ...)                                                                \
    do {                                                                                           \
        if (log_enabled(level)) {                                                                  \
            const struct log_field fields_[] = {__VA_ARGS__};                                      \
            log_event(level, message, fields_, sizeof fields_ / sizeof *fields_);                  \
        }                                                                                          \
    } while (0)

/*
 * For a thread that logs many lines in a row: after log_gather_begin() the calling thread keeps its
 * lines in memory of its own, 16 KiB, and hands them over together, which takes one lock. It hands
 * them over when that memory is full, when it logs a warning or an error, in log_gather_flush(),
 * and in log_gather_end().
 *
 * Such a thread flushes before it waits for anything, or its lines may be written late. It also
 * flushes before it gives a connection or a request to another thread, because the lines of a
 * request must stay in order. It calls log_gather_end() before it ends. Without memory, or in a
 * thread that does not gather, these functions do nothing.
 */
void log_gather_begin(void);
void log_gather_flush(void);
void log_gather_end(void);

/* Lets an event that any request may cause be logged once in a while. Zeroed at first; any thread.
 */
struct log_pause {
    _Atomic int64_t until_ms; /* clock_ms() */
    atomic_uint left_out;     /* events since the last one that was logged */
};

/* Whether to log this event: the first one, and then one a minute. *more: how many were left out
 * before it. */
bool log_is_due(struct log_pause *pause, unsigned *more);

#endif
