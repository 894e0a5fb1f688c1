/*
 * Follows a build at Cloud Build to its end: asks for its state once a second, and hands on its log
 * as it comes. A service that does not respond for a while is asked again, less and less often.
 *
 * One thread.
 */
#ifndef BUILD_WATCH_H
#define BUILD_WATCH_H

#include <jansson.h>
#include <stdbool.h>
#include "base/cancel.h"
#include "base/error.h"
#include "build/cloudbuild.h"

struct watch_sink {
    void *context;
    /* The state is another one than before, or a step's is. */
    void (*on_state)(void *context, const json_t *build);
    bool (*on_log)(void *context, const void *bytes, size_t length, struct error *error);
    /* Something that people want to know and that ends nothing. */
    void (*on_notice)(void *context, const char *text);
};

/* `build` is as submitted, and is taken over. The result is the build at its end, the caller's to
 * json_decref(). NULL: it was cancelled (ERROR_CLOSED), or the service did not respond for three
 * minutes. */
json_t *watch_build(const struct cloudbuild *cloudbuild, json_t *build,
                    const struct watch_sink *sink, struct error *error);

#endif
