/* What the end of a pod means for the image on the node that it was to pull. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "keep/plan_private.h"

void plan_cell_retry_later(struct plan_cell *cell, unsigned attempts, struct keep_now now) {
    int64_t pause = KEEP_RETRY_FIRST_MS;
    for (unsigned i = 1; i < attempts && pause < KEEP_RETRY_LAST_MS; i++)
        pause *= 2;
    if (pause > KEEP_RETRY_LAST_MS)
        pause = KEEP_RETRY_LAST_MS;
    pause = pause * 4 / 5 + clock_jitter((uint32_t)(pause * 2 / 5));
    cell->retry_ms = now.ms + pause;
    cell->retry_s = now.wall_s + pause / 1000;
}

/* The end is told by the next step. Out of memory: it is not told. */
static void add_end(struct keep_plan *plan, const struct plan_pod *pod, enum keep_outcome outcome,
                    const char *reason, struct keep_now now) {
    struct plan_end *end = calloc(1, sizeof *end);
    if (!end)
        return;
    *end = (struct plan_end){.outcome = outcome,
                             .took_ms = now.ms - pod->created_ms,
                             .keep = strdup(pod->keep),
                             .node = strdup(pod->node),
                             .image = strdup(pod->image),
                             .reason = strdup(reason)};
    *plan->last_end = end;
    plan->last_end = &end->next;
}

static struct plan_wanted *wanted_of(const struct plan_pod *pod) {
    for (size_t i = 0; pod->owner && pod->cell && i < pod->owner->count; i++) {
        if (pod->owner->wanted[i].key == pod->cell->image)
            return &pod->owner->wanted[i];
    }
    return NULL;
}

static struct plan_node *node_of(const struct keep_plan *plan, const struct plan_pod *pod) {
    struct plan_node *node = NULL;
    HASH_FIND(hh, plan->by_uid, &pod->node_key, sizeof pod->node_key, node);
    return node;
}

static void set_reason(struct plan_cell *cell, const char *reason, const char *message) {
    char text[KEEP_REASON_SIZE + KEEP_MESSAGE_SIZE + 4];
    snprintf(text, sizeof text, "%s%s%s", reason, *reason && *message ? ": " : "", message);
    free(cell->reason);
    cell->reason = strdup(text);
}

static void pulled(struct keep_plan *plan, struct plan_pod *pod, const struct keep_pod *seen,
                   struct keep_now now) {
    struct plan_cell *cell = pod->cell;
    const struct plan_wanted *wanted = wanted_of(pod);
    if (!cell->there)
        cell->since_s = now.wall_s;
    cell->there = true;
    cell->pulled_ms = now.ms;
    cell->pulled_digest = *seen->pulled ? keep_names_key(&plan->names, text_of(seen->pulled)) : 0;
    cell->pulled_tag =
        wanted && pod->owner->spec->pull.by == KEEP_PULL_BY_TAG ? wanted->tag_key : 0;
    cell->unlisted = cell->failed = cell->evicted = cell->was_pending = false;
    struct plan_node *node = node_of(plan, pod);
    cell->was_listed = wanted && node && plan_is_listed(wanted, node, cell);
    cell->attempts = cell->deletions = 0;
    cell->retry_ms = cell->retry_s = 0;
    free(cell->reason);
    cell->reason = NULL;
}

static void failed(struct keep_plan *plan, struct plan_pod *pod, const char *reason,
                   const char *message, struct keep_now now) {
    struct plan_cell *cell = pod->cell;
    (void)plan;
    if (!cell->failed)
        cell->since_s = now.wall_s;
    cell->failed = true;
    cell->unlisted = false;
    set_reason(cell, reason, message);
    plan_cell_retry_later(cell, cell->attempts, now);
}

/* Three nodes that an image is refused on in the same way: no further node tries it until its
 * repository is listed again. */
static void count_refusal(struct plan_pod *pod, const struct keep_pod *seen) {
    struct plan_wanted *wanted = wanted_of(pod);
    const char *refusal = keep_refusal(seen->reason);
    if (!wanted)
        return;
    if (strcmp(wanted->refusal, refusal) != 0) {
        snprintf(wanted->refusal, sizeof wanted->refusal, "%s", refusal);
        wanted->refused_count = 0;
    }
    for (size_t i = 0; i < wanted->refused_count; i++) {
        if (wanted->refused_by[i] == pod->node_key)
            return;
    }
    if (wanted->refused_count == KEEP_SAME_REFUSALS)
        return;
    wanted->refused_by[wanted->refused_count++] = pod->node_key;
    if (wanted->refused_count == KEEP_SAME_REFUSALS) {
        free(wanted->refusal_text);
        wanted->refusal_text = strdup(pod->cell->reason ? pod->cell->reason : refusal);
    }
}

static void end_pod(struct keep_plan *plan, struct plan_pod *pod, struct keep_now now) {
    struct plan_node *node = node_of(plan, pod);
    if (node)
        node->is_dirty = true;
    pod->ended = pod->unwanted = true;
    pod->delete_at_ms = now.ms;
    pod->cell->pod = NULL;
    pod->cell = NULL;
}

void plan_pod_changed(struct keep_plan *plan, struct plan_pod *pod, const struct keep_pod *seen,
                      struct keep_now now) {
    if (pod->ended)
        return;
    if (seen->verdict != KEEP_PULLING && !pod->cell) {
        pod->unwanted |= !pod->owner || pod->owner->is_listed;
        if (!pod->held && !(pod->held = malloc(sizeof *pod->held)))
            plan->no_memory = true;
        if (pod->held && pod->held != seen)
            *pod->held = *seen;
        return;
    }
    switch (seen->verdict) {
    case KEEP_PULLING:
        return;
    case KEEP_PULLED:
        pulled(plan, pod, seen, now);
        add_end(plan, pod, KEEP_OUTCOME_KEPT, seen->reason, now);
        break;
    case KEEP_REFUSED:
        failed(plan, pod, seen->reason, seen->message, now);
        count_refusal(pod, seen);
        add_end(plan, pod, KEEP_OUTCOME_REFUSED, pod->cell->reason ? pod->cell->reason : "", now);
        plan_touch(plan);
        break;
    case KEEP_NODE_FAILED:
        failed(plan, pod, seen->reason, seen->message, now);
        add_end(plan, pod, KEEP_OUTCOME_NODE, pod->cell->reason ? pod->cell->reason : "", now);
        break;
    case KEEP_TIMED_OUT:
        failed(plan, pod, "timeout", seen->message, now);
        add_end(plan, pod, KEEP_OUTCOME_TIMEOUT, seen->message, now);
        break;
    }
    end_pod(plan, pod, now);
}

void plan_pod_timed_out(struct keep_plan *plan, struct plan_pod *pod, struct keep_now now) {
    const char *why = "the node told no progress in time";
    failed(plan, pod, "timeout", why, now);
    add_end(plan, pod, KEEP_OUTCOME_TIMEOUT, why, now);
    end_pod(plan, pod, now);
}

void plan_pod_vanished(struct keep_plan *plan, struct plan_pod *pod, struct keep_now now) {
    struct plan_cell *cell = pod->cell;
    (void)plan;
    if (!cell || pod->ended)
        return;
    cell->since_s = now.wall_s;
    if (pod->given_up)
        return;
    cell->failed = false;
    free(cell->reason);
    cell->reason = strdup("its pod was deleted by somebody");
    if (cell->deletions < 100)
        cell->deletions++;
    if (cell->deletions > 1)
        plan_cell_retry_later(cell, cell->deletions - 1U, now);
    else
        cell->retry_ms = cell->retry_s = 0;
}
