/*
 * The thread that takes other configurations, one after the other: by an order over the socket, or
 * by a signal. A thread of its own, because reading a file or a look at a disk may take long.
 */
#ifndef CMD_RELOADER_H
#define CMD_RELOADER_H

#include <stdbool.h>
#include "base/buffer.h"
#include "base/error.h"

struct reloader_work {
    /* Takes the configuration of `file`; NULL: the one in use, read again. False: nothing has
     * changed, and `problems` has a line for each reason, which the reloader logs. */
    bool (*reload)(void *context, const char *file, struct buffer *problems);
    /* Called after each reload and every few seconds: frees what is not used any more. */
    void (*sweep)(void *context);
    void *context;
};

struct reloader;

/* NULL: out of memory. What is asked before reloader_start() waits for it. */
struct reloader *reloader_new(const struct reloader_work *work);
bool reloader_start(struct reloader *reloader, struct error *error);
/* Waits for the reload under way; those that wait, or come later, fail. NULL is allowed. */
void reloader_end(struct reloader *reloader);
/* After reloader_end(), when no thread calls reloader_ask() any more. NULL is allowed. */
void reloader_free(struct reloader *reloader);

/* Has the configuration taken, and waits until that is done. For struct service_settings:
 * `reloader` is a struct reloader. Any thread. */
bool reloader_ask(void *reloader, const char *file, struct buffer *problems);
/* Has the file in use read again, and does not wait; the outcome is in the log. Several calls
 * before the thread comes to it are one. Any thread, but not from a signal's handler. */
void reloader_signal(struct reloader *reloader);

#endif
