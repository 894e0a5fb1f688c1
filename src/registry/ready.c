/* /readyz: whether tarn serves, and in words (?verbose) what it can do just now. */
#include "registry/call.h"

/* One line of the form that Kubernetes' own components use. `reason` NULL: all is well. */
static void append_check(struct buffer *body, const char *kind, const char *name,
                         const char *reason) {
    buffer_printf(body, "[%c]%s%s%s ", reason ? '-' : '+', kind, *name ? " " : "", name);
    buffer_printf(body, reason ? "failed: %s\n" : "ok\n", reason);
}

static void append_checks(struct buffer *body, const struct call *call) {
    struct upstream *upstream = NULL;
    char reason[UPSTREAM_REASON_SIZE];
    append_check(body, "store", "",
                 cache_is_degraded(call->registry->settings.cache)
                     ? "nothing new can be kept; the log says why, and blobs pass through"
                     : NULL);
    while ((upstream = upstreams_next(call->view->upstreams, upstream)))
        append_check(body, "upstream", upstream_name(upstream),
                     upstream_is_asked(upstream, reason) ? NULL : reason);
}

/* The status is 200 even while upstreams fail, because what is cached is served. */
void call_handle_ready(struct call *call) {
    cleanup_buffer struct buffer body = {0};
    char value[8];
    bool is_verbose;
    http_query(call->request, "verbose", value, sizeof value, &is_verbose);
    if (is_verbose)
        append_checks(&body, call);
    buffer_append_string(&body, is_verbose ? "readyz check passed\n" : "ok\n");
    http_respond(call->exchange, 200, "text/plain; charset=utf-8", body.bytes, body.length);
}
