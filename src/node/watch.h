/*
 * Keeps tarn the mirror of a node while it works, and takes it away while it does not.
 *
 * A mirror that is down costs each pull the time until the engine goes on with the registry itself:
 * nothing when the connection is refused, but up to 30 s for each part of an image when nobody
 * answers. So the watch asks tarn's /readyz every five seconds. The first 200 puts the files in
 * place, and each further one puts back what is missing or was edited. The third failure in a row,
 * which comes within 15 seconds of the first, takes them out. SIGTERM and SIGINT take them out and
 * end the watch.
 *
 * containerd may be configured not to read the files at all. The watch looks at that configuration
 * every time, too, and says so in the log, in its own /readyz and in a metric. It changes nothing
 * there, and restarts nothing.
 */
#ifndef NODE_WATCH_H
#define NODE_WATCH_H

#include <stdint.h>
#include "client/client.h"
#include "node/mirror.h"

enum { WATCH_EVERY_LEAST_MS = 100 };

struct watch_settings {
    /* With a URL. What is done with changed files is the watch's own: on_change, skip_refused,
     * restore_edited, is_own. */
    struct mirror_settings mirror;
    const char *listen; /* address for /livez, /readyz and /metrics; NULL: none */
    struct client *client;
    int64_t every_ms; /* between two questions; at least WATCH_EVERY_LEAST_MS, 0: five seconds */
    unsigned after;   /* failures in a row that take the mirror out; 0: three */
};

/* Runs until a signal comes. It blocks the two signals for the process, and must be called before
 * other threads are started. False: it could not start, or the files could not be taken out. */
bool watch_run(const struct watch_settings *settings, struct error *error);

/* What the answers so far mean. Zeroed: none yet. Pure. */
enum watch_state {
    WATCH_UNDECIDED, /* the files stay as they are */
    WATCH_IN_PLACE,
    WATCH_TAKEN_OUT,
};
struct watch_verdict {
    enum watch_state state;
    unsigned failures; /* in a row */
    unsigned after;    /* as in the settings */
};
void watch_judge(struct watch_verdict *verdict, bool is_ready);

#endif
