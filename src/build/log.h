/*
 * The log of a build at Cloud Build, read while it grows.
 *
 * The log is the object log-ID.txt of the build's logsBucket, which is read by ranges. A build with
 * CLOUD_LOGGING_ONLY has none: its lines come from Cloud Logging (REST reference, entries.list).
 *
 * One thread at a time.
 */
#ifndef BUILD_LOG_H
#define BUILD_LOG_H

#include <jansson.h>
#include <stdbool.h>
#include "base/error.h"
#include "build/api.h"

struct build_log;

/* Takes new bytes of the log. False: the error is set, and reading ends. */
struct build_log_sink {
    bool (*on_bytes)(void *context, const void *bytes, size_t length, struct error *error);
    void *context;
};

/* Of a Build as the API gives it. NULL: out of memory. */
struct build_log *build_log_new(struct api *api, const json_t *build);
void build_log_free(struct build_log *log); /* NULL is allowed */

/* Hands on all that has come since the last call. That there is no log yet, that nothing is new,
 * and that the service does not respond just now is no failure. False: ERROR_DENIED or
 * ERROR_INVALID (the log cannot be read, as the error says), ERROR_MEMORY, or what the sink set. */
bool build_log_read(struct build_log *log, const struct build_log_sink *sink, struct error *error);

#endif
