/* What is known of our own pods, and how it changes. */
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "keep/plan_private.h"

void plan_pod_free(struct keep_plan *plan, struct plan_pod *pod) {
    struct plan_node *node = NULL;
    HASH_FIND(hh, plan->by_uid, &pod->node_key, sizeof pod->node_key, node);
    if (node) {
        node->pods--;
        node->is_dirty = true;
    }
    if (pod->owner)
        pod->owner->pods--;
    if (pod->cell)
        pod->cell->pod = NULL;
    struct plan_pod **at = &plan->pods;
    while (*at != pod)
        at = &(*at)->next;
    *at = pod->next;
    free(pod->uid);
    free(pod->name);
    free(pod->keep);
    free(pod->image);
    free(pod->digest);
    free(pod->node);
    free(pod->held);
    free(pod);
}

static struct plan_node *node_named(const struct keep_plan *plan, const char *name) {
    for (size_t i = 0; i < plan->node_count; i++) {
        if (strcmp(plan->nodes[i]->node->name, name) == 0)
            return plan->nodes[i];
    }
    return NULL;
}

struct plan_wanted *plan_wanted_of_pod(const struct plan_keep *keep, const struct plan_pod *pod) {
    for (size_t i = 0; keep && i < keep->count; i++) {
        struct plan_wanted *wanted = &keep->wanted[i];
        if (wanted->digest ? strcmp(wanted->digest, pod->digest) == 0
                           : strcmp(pod->image, wanted->name) > 0 &&
                                 strncmp(pod->image, wanted->name, strlen(wanted->name)) == 0 &&
                                 pod->image[strlen(wanted->name)] == ':' && wanted->tag &&
                                 strcmp(pod->image + strlen(wanted->name) + 1, wanted->tag) == 0)
            return wanted;
    }
    return NULL;
}

/* Takes up a pod that nothing of ours belongs to, or finds that nobody wants it. */
static void bind_pod(struct keep_plan *plan, struct plan_pod *pod) {
    if (pod->owner && pod->cell)
        return;
    struct plan_keep *keep = plan_find_keep(plan, pod->keep);
    struct plan_node *node = node_named(plan, pod->node);
    struct plan_wanted *wanted = plan_wanted_of_pod(keep, pod);
    if (!pod->owner && keep) {
        pod->owner = keep;
        keep->pods++;
        pod->timeout_ms = keep->spec->pull.timeout_ms;
    }
    if (!pod->node_key && node) {
        pod->node_key = node->uid_key;
        node->pods++;
    }
    struct plan_cell *cell = wanted && node ? plan_cell_make(plan, node, wanted->key) : NULL;
    if (cell && !cell->pod) {
        cell->pod = pod;
        pod->cell = cell;
        pod->unwanted = pod->given_up;
    } else {
        /* A pod of a keep whose images are not known yet may be wanted. */
        pod->unwanted = pod->given_up || !keep || keep->is_listed;
    }
}

void plan_bind_pods(struct keep_plan *plan, struct keep_now now) {
    for (struct plan_pod *pod = plan->pods; pod; pod = pod->next) {
        if (!pod->ended)
            bind_pod(plan, pod);
        if (pod->cell && pod->held)
            plan_pod_changed(plan, pod, pod->held, now);
    }
}

static struct plan_pod *pod_of_uid(const struct keep_plan *plan, const char *uid) {
    struct plan_pod *pod = plan->pods;
    while (pod && !(pod->uid && strcmp(pod->uid, uid) == 0))
        pod = pod->next;
    return pod;
}

static struct plan_pod *find_pod(const struct keep_plan *plan, const struct keep_pod *seen) {
    struct plan_pod *pod = pod_of_uid(plan, seen->uid);
    if (pod)
        return pod;
    /* The event may come before the response to its creation. */
    for (pod = plan->pods; pod; pod = pod->next) {
        if (!pod->uid && strcmp(pod->keep, seen->keep) == 0 && strcmp(pod->node, seen->node) == 0 &&
            strcmp(pod->image, seen->image) == 0)
            return pod;
    }
    return NULL;
}

static struct plan_pod *add_pod(struct keep_plan *plan, const struct keep_pod *seen,
                                struct keep_now now) {
    struct plan_pod *pod = calloc(1, sizeof *pod);
    if (!pod)
        return NULL;
    pod->keep = strdup(seen->keep);
    pod->image = strdup(seen->image);
    pod->digest = strdup(seen->digest);
    pod->node = strdup(seen->node);
    pod->created_ms = now.ms;
    pod->timeout_ms = keep_pull_default().timeout_ms;
    pod->id = ++plan->last_id;
    pod->next = plan->pods;
    plan->pods = pod;
    if (!pod->keep || !pod->image || !pod->digest || !pod->node) {
        plan_pod_free(plan, pod);
        return NULL;
    }
    bind_pod(plan, pod);
    return pod;
}

static bool name_pod(struct plan_pod *pod, const char *name, const char *uid) {
    if (pod->uid)
        return true;
    pod->name = strdup(name);
    pod->uid = strdup(uid);
    return pod->name && pod->uid;
}

bool keep_plan_set_pod(struct keep_plan *plan, const json_t *json, struct keep_now now) {
    struct keep_pod seen;
    if (!keep_pod_read(json, &seen))
        return true;
    struct plan_pod *pod = find_pod(plan, &seen);
    if (!pod)
        pod = add_pod(plan, &seen, now);
    if (!pod || !name_pod(pod, seen.name, seen.uid))
        return false;
    pod->deleting = seen.deleting;
    const char *phase =
        json_string_value(json_object_get(json_object_get(json, "status"), "phase"));
    pod->terminal = phase && (strcmp(phase, "Succeeded") == 0 || strcmp(phase, "Failed") == 0);
    plan_pod_changed(plan, pod, &seen, now);
    return !plan->no_memory;
}

void keep_plan_remove_pod(struct keep_plan *plan, const char *uid, struct keep_now now) {
    struct plan_pod *pod = pod_of_uid(plan, uid);
    if (!pod)
        return;
    plan_pod_vanished(plan, pod, now);
    plan_pod_free(plan, pod);
}

void keep_plan_created(struct keep_plan *plan, uint64_t id, const char *name, const char *uid,
                       struct keep_now now) {
    (void)now;
    for (struct plan_pod *pod = plan->pods; pod; pod = pod->next) {
        if (pod->id != id)
            continue;
        if (pod->owner)
            pod->owner->create_failures = 0;
        if (!name_pod(pod, name, uid))
            plan->no_memory = true;
    }
}

/* A server that is in trouble, or that refuses this keep's pods, is not asked for one after the
 * other. */
static void pause_creations(struct plan_keep *keep, const struct keep_failure *failure,
                            struct keep_now now) {
    if (now.ms < keep->create_after_ms - KEEP_CREATE_PAUSE_MS / 2)
        return; /* it was sent before the pause began */
    int64_t pause = KEEP_CREATE_PAUSE_MS;
    for (unsigned i = 0; i < keep->create_failures && pause < KEEP_CREATE_PAUSE_LAST_MS; i++)
        pause *= 2;
    if (keep->create_failures < 100)
        keep->create_failures++;
    if (pause > KEEP_CREATE_PAUSE_LAST_MS)
        pause = KEEP_CREATE_PAUSE_LAST_MS;
    pause = pause * 4 / 5 + clock_jitter((uint32_t)(pause * 2 / 5));
    if (failure->pause_ms > pause)
        pause = failure->pause_ms;
    keep->create_after_ms = now.ms + pause;
}

void keep_plan_not_created(struct keep_plan *plan, uint64_t id, const struct keep_failure *failure,
                           struct keep_now now) {
    struct plan_pod *pod = plan->pods;
    while (pod && pod->id != id)
        pod = pod->next;
    if (!pod || pod->uid)
        return; /* an event has shown that it was created */
    bool refused = failure->kind == KEEP_FAILURE_REFUSED;
    if (pod->cell && failure->kind != KEEP_FAILURE_NOT_SENT) {
        struct plan_cell *cell = pod->cell;
        free(cell->reason);
        cell->reason = strdup(failure->why);
        cell->failed = refused;
        cell->since_s = now.wall_s;
        plan_cell_retry_later(cell, refused ? cell->attempts : 1, now);
    }
    if (pod->owner && failure->kind != KEEP_FAILURE_NOT_SENT)
        pause_creations(pod->owner, failure, now);
    plan_pod_free(plan, pod);
}

void keep_plan_deleted(struct keep_plan *plan, const char *uid, bool done, struct keep_now now) {
    struct plan_pod *pod = pod_of_uid(plan, uid);
    if (!pod)
        return;
    if (!done)
        pod->delete_at_ms = now.ms + KEEP_DELETE_AGAIN_MS;
    else if (pod->terminal)
        plan_pod_free(plan, pod); /* the API keeps no ended pod for its kubelet */
    else
        pod->deleting = true;
}
