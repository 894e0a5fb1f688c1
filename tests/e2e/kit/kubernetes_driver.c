/*
 * Drives src/kubernetes/ from a test:
 *
 *     kubernetes_driver KUBECONFIG follow RESOURCE PATH
 *     kubernetes_driver KUBECONFIG lease NAMESPACE NAME
 *     kubernetes_driver KUBECONFIG call VERB RESOURCE PATH [BODY]
 *
 * follow prints a line of JSON for each call of its sink, and answers the lines `state` and
 * `metrics` of its standard input; it ends with that input. lease prints each change, and every
 * 20 ms at which clock_ms() it holds the lease.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/metric.h"
#include "kubernetes/follow.h"
#include "kubernetes/kubernetes.h"
#include "kubernetes/lease.h"

static struct lock output_lock = LOCK_INITIALIZER;

/* Prints an object as one line, and frees it. */
static void print(json_t *json) {
    cleanup_buffer struct buffer out = {0};
    bounded_json_dump(json, JSON_COMPACT, &out);
    json_decref(json);
    lock_acquire(&output_lock);
    puts(out.bytes);
    fflush(stdout);
    lock_release(&output_lock);
}

static void changed(void *context, const json_t *object) {
    (void)context;
    json_t *meta = json_object_get(object, "metadata");
    print(json_pack("{s:O, s:O?, s:O?}", "changed", json_object_get(meta, "uid"), "name",
                    json_object_get(meta, "name"), "labels", json_object_get(meta, "labels")));
}

static void gone(void *context, const char *uid) {
    (void)context;
    print(json_pack("{s:s}", "gone", uid));
}

static void listed(void *context) {
    (void)context;
    print(json_pack("{s:b}", "listed", 1));
}

static void print_state(struct follow *follow) {
    struct follow_state state;
    follow_look(follow, &state);
    print(json_pack("{s:b, s:b, s:b, s:I, s:s}", "state_listed", state.listed, "connected",
                    state.connected, "lists_only", state.lists_only, "age_ms",
                    (json_int_t)(clock_ms() - state.true_ms), "error", state.error));
}

static void print_metrics(struct follow *follow) {
    cleanup_buffer struct buffer out = {0};
    follow_update_metrics(follow);
    metric_write(&out);
    print(json_pack("{s:s}", "metrics", out.bytes));
}

static int run_follow(struct kubernetes *kubernetes, char *const *arguments) {
    struct error error = {0};
    const struct follow_settings settings = {
        .resource = arguments[0], .path = arguments[1], .sink = {NULL, changed, gone, listed}};
    follow_declare_metrics();
    kubernetes_declare_metrics();
    struct follow *follow = follow_start(kubernetes, &settings, &error);
    char line[64];
    while (follow && fgets(line, sizeof line, stdin)) {
        if (strcmp(line, "state\n") == 0)
            print_state(follow);
        else if (strcmp(line, "metrics\n") == 0)
            print_metrics(follow);
    }
    follow_stop(follow);
    return follow ? 0 : 1;
}

static void led(void *context, bool leading) {
    (void)context;
    print(json_pack("{s:b, s:I}", "leading", leading, "at", (json_int_t)clock_ms()));
}

/* Whether standard input has ended. */
static bool has_ended(void) {
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    return poll(&input, 1, 20) != 0;
}

static int run_lease(struct kubernetes *kubernetes, char *const *arguments) {
    struct error error = {0};
    const struct lease_settings settings = {
        .namespace = arguments[0], .name = arguments[1], .on_change = led};
    struct lease *lease = lease_start(kubernetes, &settings, &error);
    while (lease && !has_ended()) {
        int64_t now = clock_ms();
        if (lease_holds(lease))
            print(json_pack("{s:I}", "acts", (json_int_t)now));
    }
    lease_stop(lease);
    return lease ? 0 : 1;
}

static int run_call(struct kubernetes *kubernetes, char *const *arguments) {
    struct error error = {0};
    json_t *answer = NULL;
    const struct kubernetes_call call = {.verb = arguments[0],
                                         .resource = arguments[1],
                                         .path = arguments[2],
                                         .body = text_of(arguments[3])};
    if (kubernetes_call(kubernetes, &call, &answer, &error))
        print(json_pack("{s:o}", "answer", answer ? answer : json_null()));
    else
        print(json_pack("{s:s, s:i, s:s, s:i}", "error", error.text, "status", error.status, "code",
                        error.code, "retry_after_s", error.retry_after_s));
    return 0;
}

int main(int count, char **arguments) {
    struct error error = {0};
    if (count < 5)
        return 2;
    log_configure(LOG_DEBUG, LOG_TEXT);
    cleanup_client struct client *client = client_new();
    cleanup_kubernetes struct kubernetes *kubernetes =
        kubernetes_open(&(struct kubernetes_settings){.kubeconfig = arguments[1]}, client, &error);
    if (!kubernetes) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    if (strcmp(arguments[2], "follow") == 0)
        return run_follow(kubernetes, arguments + 3);
    if (strcmp(arguments[2], "lease") == 0)
        return run_lease(kubernetes, arguments + 3);
    if (strcmp(arguments[2], "call") == 0 && count > 5)
        return run_call(kubernetes, arguments + 3);
    return 2;
}
