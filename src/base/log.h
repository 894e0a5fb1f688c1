/*
 * The process's log: one line for each event on standard error, as text for people or as JSON for
 * collectors.
 *
 * An event is a short message, which never changes, and named fields. Lines are gathered in memory,
 * and the log's own thread writes them at most 100 ms later, so that a request never waits for a
 * terminal. Warnings and errors, and everything before log_start(), are written at once. When
 * nobody reads standard error, lines beyond 1 MiB are dropped and counted, and the count is logged.
 *
 * log_configure() is called once, early, while there is one thread. Any thread may call the others.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
    const char *name;
    const char *text; /* a string value; NULL: the number is the value */
    double number;
};

static inline struct log_field log_string(const char *name, const char *value) {
    return (struct log_field){name, value ? value : "", 0};
}

#define LOG_STRING(name, value) log_string(name, value)
#define LOG_NUMBER(name, value) ((struct log_field){(name), NULL, (double)(value)})

void log_configure(enum log_level least, enum log_format format);
void log_start(void); /* starts the log's thread */
void log_stop(void);  /* ends the thread, and writes the gathered lines */
bool log_enabled(enum log_level level);

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

#endif
