/* Keeps images on nodes: the threads, and what they tell the plan. */
#include "keep/keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metric.h"
#include "base/thread.h"
#include "keep/keeper_private.h"

struct keep_now keeper_now(void) {
    return (struct keep_now){.ms = clock_ms(), .wall_s = clock_wall_s()};
}

void keeper_touch(struct keeper *keeper) {
    keeper->has_changed = true;
    condition_signal(&keeper->changed);
}

/* ---- what follow.h tells ---- */

static void node_changed(void *context, const json_t *object) {
    struct keeper *keeper = context;
    struct error error = {0};
    lock_acquire(&keeper->state_lock);
    bool done = keep_plan_set_node(keeper->plan, object, keeper_now(), &error);
    keeper_touch(keeper);
    lock_release(&keeper->state_lock);
    if (!done)
        log_at(LOG_WARN, "a Node was passed over", LOG_STRING("error", error.text));
}

static void node_gone(void *context, const char *uid) {
    struct keeper *keeper = context;
    lock_acquire(&keeper->state_lock);
    keep_plan_remove_node(keeper->plan, uid);
    keeper_touch(keeper);
    lock_release(&keeper->state_lock);
}

static void pod_changed(void *context, const json_t *object) {
    struct keeper *keeper = context;
    lock_acquire(&keeper->state_lock);
    keep_plan_set_pod(keeper->plan, object, keeper_now());
    keeper_touch(keeper);
    lock_release(&keeper->state_lock);
}

static void pod_gone(void *context, const char *uid) {
    struct keeper *keeper = context;
    lock_acquire(&keeper->state_lock);
    keep_plan_remove_pod(keeper->plan, uid, keeper_now());
    keeper_touch(keeper);
    lock_release(&keeper->state_lock);
}

static void all_listed(void *context) {
    struct keeper *keeper = context;
    lock_acquire(&keeper->state_lock);
    keeper_touch(keeper);
    lock_release(&keeper->state_lock);
}

/* ---- stepping ---- */

bool keeper_is_fresh(const struct follow_state *state, int64_t now_ms) {
    return state->listed && (state->connected || now_ms - state->true_ms < KEEPER_STALE_MS);
}

/* Whether what is known of nodes or pods is young enough to act on. */
static bool is_fresh(struct follow *follow) {
    struct follow_state state;
    follow_look(follow, &state);
    return keeper_is_fresh(&state, clock_ms());
}

/* Whether the pods that the leader before us created are known. */
static bool knows_pods(struct keeper *keeper) {
    struct follow_state state;
    follow_look(keeper->pods, &state);
    return !keeper->lease || state.began_ms >= atomic_load(&keeper->led_ms);
}

bool keeper_leads(struct keeper *keeper) {
    return !keeper->settings.dry_run && lease_holds(keeper->lease);
}

bool keeper_may_act(struct keeper *keeper) {
    return !atomic_load(&keeper->stop) && keeper_leads(keeper) && is_fresh(keeper->nodes) &&
           is_fresh(keeper->pods) && knows_pods(keeper);
}

struct metric *keeper_pulls_metric(const char *keep, enum keep_outcome outcome) {
    static const char *const outcomes[] = {"kept", "refused", "node", "timeout"};
    char labels[KEEP_NAME_LIMIT + 60];
    snprintf(labels, sizeof labels, "keep=\"%s\",outcome=\"%s\"", keep, outcomes[outcome]);
    return metric_get(METRIC_COUNTER, "tarn_keep_pulls_total", "Pulls that ended, by outcome.",
                      labels);
}

static void tell_end(const struct keep_action *action) {
    char labels[KEEP_NAME_LIMIT + 20];
    metric_add(keeper_pulls_metric(action->keep, action->outcome), 1);
    if (action->outcome != KEEP_OUTCOME_KEPT) {
        log_at(LOG_WARN, "a pull failed", LOG_STRING("keep", action->keep),
               LOG_STRING("node", action->node), LOG_STRING("image", action->image),
               LOG_STRING("error", action->reason));
        return;
    }
    snprintf(labels, sizeof labels, "keep=\"%s\"", action->keep);
    metric_observe_long(metric_get(METRIC_LONG_HISTOGRAM, "tarn_keep_pull_seconds",
                                   "Time from the creation of a pod to the end of its pull.",
                                   labels),
                        action->took_ms * 1000);
    log_at(LOG_INFO, "pulled", LOG_STRING("keep", action->keep), LOG_STRING("node", action->node),
           LOG_STRING("image", action->image), LOG_NUMBER("seconds", action->took_ms / 1000.0));
}

/* One step. Returns when the next one is due. */
static int64_t step(struct keeper *keeper, bool may_act) REQUIRES(keeper->state_lock) {
    struct keep_actions *actions = &keeper->actions;
    struct keep_now now = keeper_now();
    if (!keep_plan_step(keeper->plan, now, may_act, SIZE_MAX, actions)) {
        log_at(LOG_ERROR, "the plan is not complete", LOG_STRING("error", "out of memory"));
        return now.ms + 1000;
    }
    for (size_t i = 0; i < actions->count; i++) {
        const struct keep_action *action = &actions->list[i];
        if (action->kind == KEEP_ENDED) {
            if (keeper_leads(keeper)) /* each end is told by one process */
                tell_end(action);
        } else if (!keeper_add_job(keeper, action) && action->kind == KEEP_CREATE) {
            keep_plan_not_created(keeper->plan, action->id,
                                  &(struct keep_failure){KEEP_FAILURE_REFUSED, "out of memory", 0},
                                  now);
        }
    }
    keeper->steps++;
    condition_broadcast(&keeper->stepped);
    return actions->wake_ms;
}

/* What may have changed although nobody tells: who may act, and how old what is known is. */
enum { STEP_PAUSE_MS = 1000 };

static void run_steps(void *context) {
    struct keeper *keeper = context;
    lock_acquire(&keeper->state_lock);
    int64_t wake_ms = 0;
    bool did_act = false;
    while (!atomic_load(&keeper->stop)) {
        int64_t pause_ms = clock_ms() + STEP_PAUSE_MS;
        if (!keeper->has_changed && clock_ms() < wake_ms)
            condition_wait_until(&keeper->changed, &keeper->state_lock,
                                 wake_ms < pause_ms ? wake_ms : pause_ms);
        lock_release(&keeper->state_lock);
        bool may_act = keeper_may_act(keeper);
        lock_acquire(&keeper->state_lock);
        if (!keeper->has_changed && clock_ms() < wake_ms && may_act == did_act)
            continue;
        keeper->has_changed = false;
        did_act = may_act;
        wake_ms = step(keeper, may_act);
    }
    lock_release(&keeper->state_lock);
}

/* ---- life ---- */

struct keeper *keeper_new(const struct keeper_settings *settings, struct error *error) {
    struct keeper *keeper = calloc(1, sizeof *keeper);
    if (!keeper || !(keeper->plan = keep_plan_new())) {
        free(keeper);
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    keeper->settings = *settings;
    keeper->last_job = &keeper->jobs;
    keeper->must_clear_stops = true;
    lock_init(&keeper->state_lock);
    condition_init(&keeper->changed);
    condition_init(&keeper->stepped);
    condition_init(&keeper->jobs_changed);
    condition_init(&keeper->lists_changed);
    condition_init(&keeper->posted_changed);
    struct keeper_change *change = keeper_prepare(keeper, settings->keep, error);
    if (change && keeper_change(keeper, change, NULL, NULL))
        return keeper;
    if (change)
        error_set(error, ERROR_MEMORY, "out of memory");
    keeper_give_up(change);
    keeper_free(keeper);
    return NULL;
}

/* Who leads from now on lists the pods first, because a watch may be behind: what the leader before
 * created last must not be created again. Who leads no more gives up at the next creation. */
static void lead_changed(void *context, bool leading) {
    struct keeper *keeper = context;
    lock_acquire(&keeper->state_lock);
    if (leading) {
        atomic_store(&keeper->led_ms, clock_ms());
        follow_refresh(keeper->pods);
        keeper_read_posted_again(keeper);
    }
    keeper_touch(keeper);
    lock_release(&keeper->state_lock);
}

static bool start_lease(struct keeper *keeper, struct error *error) {
    const struct lease_settings settings = {.namespace = keeper->settings.own_namespace,
                                            .name = keeper->settings.keep->lease,
                                            .on_change = lead_changed,
                                            .mark = KEEPER_MARK,
                                            .on_mark = keeper_posted_marked,
                                            .context = keeper};
    if (keeper->settings.dry_run || strcmp(settings.name, "none") == 0)
        return true;
    keeper->lease = lease_start(keeper->settings.kubernetes, &settings, error);
    return keeper->lease != NULL;
}

static bool start_follows(struct keeper *keeper, struct error *error) {
    char path[300];
    const struct follow_settings nodes = {
        .resource = "nodes",
        .path = "/api/v1/nodes",
        .sink = {keeper, node_changed, node_gone, all_listed},
    };
    snprintf(path, sizeof path, "/api/v1/namespaces/%s/pods", keeper->settings.namespace);
    const struct follow_settings pods = {
        .resource = "pods",
        .path = path,
        .query = "labelSelector=app.kubernetes.io%2Fcomponent%3D" KEEP_POD_COMPONENT
                 "%2Capp.kubernetes.io%2Fmanaged-by%3D" KEEP_POD_MANAGED_BY,
        .sink = {keeper, pod_changed, pod_gone, all_listed},
    };
    keeper->nodes = follow_start(keeper->settings.kubernetes, &nodes, error);
    keeper->pods = keeper->nodes ? follow_start(keeper->settings.kubernetes, &pods, error) : NULL;
    return keeper->pods != NULL;
}

bool keeper_start(struct keeper *keeper, struct error *error) {
    if (!start_follows(keeper, error) || !start_lease(keeper, error))
        return false;
    keeper->has_lister =
        thread_start("lister", THREAD_STACK, keeper_list, keeper, &keeper->lister, error);
    keeper->has_poster =
        keeper->has_lister &&
        thread_start("machines", THREAD_STACK, keeper_read_posted, keeper, &keeper->poster, error);
    keeper->has_stepper = keeper->has_poster && thread_start("keeper", THREAD_STACK, run_steps,
                                                             keeper, &keeper->stepper, error);
    while (keeper->has_stepper && keeper->puller_count < KEEPER_REQUESTS &&
           thread_start("puller", THREAD_STACK, keeper_send, keeper,
                        &keeper->pullers[keeper->puller_count], error))
        keeper->puller_count++;
    return keeper->puller_count == KEEPER_REQUESTS;
}

void keeper_stop(struct keeper *keeper) {
    lock_acquire(&keeper->state_lock);
    atomic_store(&keeper->stop, true);
    condition_broadcast(&keeper->changed);
    condition_broadcast(&keeper->stepped);
    condition_broadcast(&keeper->jobs_changed);
    condition_broadcast(&keeper->lists_changed);
    condition_broadcast(&keeper->posted_changed);
    lock_release(&keeper->state_lock);
    if (keeper->has_stepper)
        pthread_join(keeper->stepper, NULL);
    while (keeper->puller_count > 0)
        pthread_join(keeper->pullers[--keeper->puller_count], NULL);
    if (keeper->has_lister)
        pthread_join(keeper->lister, NULL);
    if (keeper->has_poster)
        pthread_join(keeper->poster, NULL);
    keeper->has_stepper = keeper->has_lister = keeper->has_poster = false;
    lease_stop(keeper->lease); /* first, because it refreshes the pods */
    follow_stop(keeper->nodes);
    follow_stop(keeper->pods);
    keeper->nodes = keeper->pods = NULL;
    keeper->lease = NULL;
}

void keeper_free(struct keeper *keeper) {
    if (!keeper)
        return;
    lock_acquire(&keeper->state_lock);
    keeper_free_jobs(keeper);
    keeper_free_retired(keeper);
    for (size_t i = 0; i < keeper->kept_count; i++) {
        keep_list_free(keeper->kepts[i].list);
        keep_machine_free(keeper->kepts[i].machine);
    }
    lock_release(&keeper->state_lock);
    keep_plan_free(keeper->plan);
    keep_actions_finish(&keeper->actions);
    free(keeper->kepts);
    condition_finish(&keeper->changed);
    condition_finish(&keeper->stepped);
    condition_finish(&keeper->jobs_changed);
    condition_finish(&keeper->lists_changed);
    condition_finish(&keeper->posted_changed);
    lock_finish(&keeper->state_lock);
    free(keeper);
}

/* ---- what is known ---- */

static bool is_listed(struct follow *follow, const char *what, char *why, size_t size) {
    struct follow_state state;
    follow_look(follow, &state);
    if (!state.listed)
        snprintf(why, size, "%s were not listed yet%s%s", what, *state.error ? ": " : "",
                 state.error);
    return state.listed;
}

bool keeper_is_ready(struct keeper *keeper, char *why, size_t size) {
    return is_listed(keeper->nodes, "nodes", why, size) &&
           is_listed(keeper->pods, "pods", why, size);
}

/* Whether the plan knows all that it can know: each keep was listed once, or could not be. */
static bool knows_all(struct keeper *keeper) REQUIRES(keeper->state_lock) {
    char why[500];
    bool all = atomic_load(&keeper->posted_known) && keeper_is_ready(keeper, why, sizeof why);
    for (size_t i = 0; all && i < keeper->kept_count; i++)
        all = keeper->kepts[i].is_hidden || keeper->kepts[i].list;
    return all && !keeper->has_changed && keeper->steps > 0;
}

/* Calls `each` for every image of every keep on every eligible node. */
static void for_each_cell(struct keeper *keeper,
                          void (*each)(void *context, const struct keep_spec *spec,
                                       const struct keep_image *image, const struct keep_node *node,
                                       const struct keep_cell_view *cell),
                          void *context) REQUIRES(keeper->state_lock) {
    struct keep_now now = keeper_now();
    for (size_t i = 0; i < keeper->kept_count; i++) {
        const struct keep_spec *spec = keeper->kepts[i].spec;
        int keep = keeper->kepts[i].is_hidden ? -1 : keep_plan_find(keeper->plan, spec->name);
        for (size_t n = 0; keep >= 0 && n < keep_plan_node_count(keeper->plan); n++) {
            const struct keep_node *node = keep_plan_node(keeper->plan, n);
            char comment[KEEP_COMMENT_SIZE];
            if (keep_node_eligible(node, &spec->nodes, comment) != KEEP_NODE_ELIGIBLE)
                continue;
            for (size_t m = 0; m < keep_plan_image_count(keeper->plan, (size_t)keep); m++) {
                struct keep_image image;
                struct keep_cell_view cell;
                keep_plan_image(keeper->plan, (size_t)keep, m, &image);
                keep_plan_cell(keeper->plan, (size_t)keep, m, n, now, &cell);
                each(context, spec, &image, node, &cell);
            }
        }
    }
}

struct tally {
    size_t counts[KEEP_STATES];
    struct buffer *report; /* of what is not kept; NULL: only count */
};

static void count_cell(void *context, const struct keep_spec *spec, const struct keep_image *image,
                       const struct keep_node *node, const struct keep_cell_view *cell) {
    struct tally *tally = context;
    tally->counts[cell->state]++;
    if (tally->report && cell->state != KEEP_KEPT)
        buffer_printf(tally->report, "%s: %s%s%s on %s: %s%s%s\n", spec->name, image->name,
                      image->tag ? ":" : "@", image->tag ? image->tag : image->digest, node->name,
                      keep_state_name(cell->state), *cell->reason ? ": " : "", cell->reason);
}

/* Appends why repositories could not be listed. Returns how many. */
static size_t report_lists(struct keeper *keeper, struct buffer *report)
    REQUIRES(keeper->state_lock) {
    size_t failed = 0;
    for (size_t i = 0; i < keeper->kept_count; i++) {
        const struct kept *kept = &keeper->kepts[i];
        for (size_t s = 0; kept->list && !kept->is_hidden && s < kept->list->source_count; s++) {
            if (!*kept->list->sources[s].error)
                continue;
            failed++;
            buffer_printf(report, "%s: %s\n", kept->spec->name, kept->list->sources[s].error);
        }
    }
    return failed;
}

int keeper_wait(struct keeper *keeper, int64_t deadline_ms, struct buffer *report) {
    struct tally tally = {0};
    lock_acquire(&keeper->state_lock);
    bool in_time = true;
    while (in_time && !atomic_load(&keeper->stop)) {
        tally = (struct tally){0};
        if (knows_all(keeper)) {
            for_each_cell(keeper, count_cell, &tally);
            if (tally.counts[KEEP_PENDING] + tally.counts[KEEP_PULLING_NOW] == 0 &&
                keep_plan_pod_count(keeper->plan) == 0)
                break;
        }
        in_time = condition_wait_until(&keeper->stepped, &keeper->state_lock, deadline_ms);
    }
    char why[500];
    tally = (struct tally){.report = report};
    if (!keeper_is_ready(keeper, why, sizeof why))
        buffer_printf(report, "%s\n", why);
    for_each_cell(keeper, count_cell, &tally);
    size_t failed = report_lists(keeper, report);
    bool kept =
        in_time && !atomic_load(&keeper->stop) && failed == 0 &&
        tally.counts[KEEP_FAILED] + tally.counts[KEEP_PENDING] + tally.counts[KEEP_PULLING_NOW] ==
            0;
    lock_release(&keeper->state_lock);
    return kept ? 0 : 1;
}

struct planned {
    bool json;
    struct buffer *out;
};

static void write_planned(void *context, const struct keep_spec *spec,
                          const struct keep_image *image, const struct keep_node *node,
                          const struct keep_cell_view *cell) {
    struct planned *planned = context;
    if (cell->state == KEEP_KEPT)
        return;
    const char *why = *cell->reason ? cell->reason : "is not on the node";
    const char *tag = image->tag ? image->tag : image->digest;
    if (!planned->json) {
        buffer_printf(planned->out, "%s: %s: %s%s%s: %s: %s\n", spec->name, node->name, image->name,
                      image->tag ? ":" : "@", tag, keep_state_name(cell->state), why);
        return;
    }
    buffer_printf(planned->out, "{\"keep\":\"%s\",\"node\":\"", spec->name);
    buffer_append_json(planned->out, text_of(node->name));
    buffer_append_string(planned->out, "\",\"image\":\"");
    buffer_append_json(planned->out, text_of(image->name));
    buffer_append_string(planned->out, image->tag ? ":" : "@");
    buffer_append_json(planned->out, text_of(tag));
    buffer_printf(planned->out, "\",\"digest\":%s%s%s,\"state\":\"%s\",\"why\":\"",
                  image->digest ? "\"" : "", image->digest ? image->digest : "null",
                  image->digest ? "\"" : "", keep_state_name(cell->state));
    buffer_append_json(planned->out, text_of(why));
    buffer_append_string(planned->out, "\"}\n");
}

bool keeper_write_plan(struct keeper *keeper, int64_t deadline_ms, bool json, struct buffer *out) {
    struct planned planned = {json, out};
    lock_acquire(&keeper->state_lock);
    bool in_time = true;
    while (in_time && !atomic_load(&keeper->stop) && !knows_all(keeper))
        in_time = condition_wait_until(&keeper->stepped, &keeper->state_lock, deadline_ms);
    in_time = in_time && knows_all(keeper);
    if (in_time)
        for_each_cell(keeper, write_planned, &planned);
    lock_release(&keeper->state_lock);
    return in_time;
}
