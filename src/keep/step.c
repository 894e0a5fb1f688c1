/* What is to be done now, and what is shown of each image on each node. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/units.h"
#include "keep/plan_private.h"

/* ---- states ---- */

const char *keep_state_name(enum keep_state state) {
    static const char *const names[KEEP_STATES] = {"kept", "pending", "pulling", "failed",
                                                   "skipped"};
    return names[state];
}

static bool is_refused_elsewhere(const struct plan_wanted *wanted) {
    return wanted->refused_count >= KEEP_SAME_REFUSALS;
}

/* The state of an image on an eligible node. `has_room`: as plan_has_room() says. */
static enum keep_state state_of(const struct plan_keep *keep, const struct plan_wanted *wanted,
                                const struct plan_node *node, const struct plan_cell *cell,
                                bool has_room, struct keep_now now) {
    if (plan_is_there(keep, wanted, node, cell))
        return KEEP_KEPT;
    if (cell && cell->pod)
        return KEEP_PULLING_NOW;
    if (!plan_has_platform(wanted, node) || !has_room ||
        (cell && cell->evicted && cell->retry_ms > now.ms))
        return KEEP_SKIPPED;
    if ((cell && cell->failed && cell->retry_ms > now.ms) || is_refused_elsewhere(wanted))
        return KEEP_FAILED;
    return KEEP_PENDING;
}

bool keep_plan_is_kept(const struct keep_plan *plan, size_t keep, size_t image, size_t node) {
    const struct plan_wanted *wanted = &plan->keeps[keep].wanted[image];
    const struct plan_cell *cell = plan_cell_find(plan->nodes[node], wanted->key);
    return plan_is_there(&plan->keeps[keep], wanted, plan->nodes[node], cell);
}

bool keep_plan_is_held(const struct keep_plan *plan, size_t keep, size_t image, size_t node) {
    const struct plan_cell *cell =
        plan_cell_find(plan->nodes[node], plan->keeps[keep].wanted[image].key);
    return cell && cell->there;
}

/* "120 GiB" rather than "120.0 GiB". */
static void format_size(uint64_t bytes, char *out, size_t size) {
    units_format_size(bytes, out, size);
    char *zero = strstr(out, ".0 ");
    if (zero)
        memmove(zero, zero + 2, strlen(zero + 2) + 1);
}

static void explain_skip(const struct plan_keep *keep, const struct plan_wanted *wanted,
                         const struct plan_node *node, bool has_room, struct keep_cell_view *out) {
    char needs[24], disk[24];
    if (!plan_has_platform(wanted, node)) {
        snprintf(out->reason, sizeof out->reason, "the image has no platform linux/%.40s",
                 node->node->architecture);
        out->retry_s = 0;
    } else if (!has_room) {
        format_size(wanted->size, needs, sizeof needs);
        format_size(node->node->storage, disk, sizeof disk);
        snprintf(out->reason, sizeof out->reason, "no room (needs %s of %s x %llu%%)", needs, disk,
                 (unsigned long long)keep->spec->pull.disk_percent);
        out->retry_s = 0;
    } else {
        snprintf(out->reason, sizeof out->reason, "evicted by the node");
    }
}

void keep_plan_cell(const struct keep_plan *plan, size_t k, size_t image, size_t n,
                    struct keep_now now, struct keep_cell_view *out) {
    const struct plan_keep *keep = &plan->keeps[k];
    const struct plan_wanted *wanted = &keep->wanted[image];
    const struct plan_node *node = plan->nodes[n];
    const struct plan_cell *cell = plan_cell_find(node, wanted->key);
    bool has_room = plan_has_room(keep, image, node);
    *out = (struct keep_cell_view){.state = state_of(keep, wanted, node, cell, has_room, now)};
    const struct keep_node_image *listed =
        wanted->digest_key ? keep_node_find(node->node, wanted->digest_key) : NULL;
    if (!listed && cell && cell->pulled_digest)
        listed = keep_node_find(node->node, cell->pulled_digest);
    out->bytes = listed ? listed->size : 0;
    if (cell) {
        out->since_s = cell->since_s;
        out->attempts = cell->attempts;
        if (out->state == KEEP_FAILED || out->state == KEEP_SKIPPED || out->state == KEEP_PENDING)
            out->retry_s = cell->retry_ms > now.ms ? cell->retry_s : 0;
        if (cell->reason && out->state != KEEP_KEPT && out->state != KEEP_PULLING_NOW)
            snprintf(out->reason, sizeof out->reason, "%s", cell->reason);
    }
    if (out->state == KEEP_SKIPPED)
        explain_skip(keep, wanted, node, has_room, out);
    else if (out->state == KEEP_FAILED && !(cell && cell->failed))
        snprintf(out->reason, sizeof out->reason,
                 "not tried before the next refresh, because %d nodes were refused: %s",
                 KEEP_SAME_REFUSALS, wanted->refusal_text ? wanted->refusal_text : wanted->refusal);
}

/* ---- what a node is to pull next ---- */

static void wake_at(struct plan_next *next, int64_t ms) {
    if (ms < next->wake_ms)
        next->wake_ms = ms;
}

/* Whether the image is to be pulled now. Notes when to look again. */
static bool is_due(const struct plan_keep *keep, const struct plan_wanted *wanted,
                   struct plan_node *node, struct plan_cell *cell, struct keep_now now,
                   struct plan_next *next) {
    if (cell && cell->pod)
        return false;
    if (cell && plan_is_there(keep, wanted, node, cell)) {
        if (!cell->unlisted)
            return false;
    } else if (is_refused_elsewhere(wanted)) {
        return false;
    }
    if (cell && cell->retry_ms > now.ms) {
        wake_at(next, cell->retry_ms);
        return false;
    }
    return true;
}

/* Finds the first image of the keep that the node is to pull now. */
static void look(struct keep_plan *plan, size_t k, struct plan_node *node, struct keep_now now) {
    struct plan_keep *keep = &plan->keeps[k];
    struct plan_next *next = &node->next[k];
    char comment[KEEP_COMMENT_SIZE];
    *next = (struct plan_next){.image = -1, .wake_ms = INT64_MAX};
    if (keep->is_outdated)
        return;
    if (keep_node_eligible(node->node, &keep->spec->nodes, comment) != KEEP_NODE_ELIGIBLE)
        return;
    uint64_t percent = keep->spec->pull.disk_percent, taken = 0;
    uint64_t most =
        percent && node->node->storage ? node->node->storage / 100 * percent : UINT64_MAX;
    for (size_t i = 0; i < keep->count; i++) {
        struct plan_wanted *wanted = &keep->wanted[i];
        if (!plan_has_platform(wanted, node) || wanted->size > most - taken)
            continue;
        taken += wanted->size;
        struct plan_cell *cell = plan_cell_find(node, wanted->key);
        bool is_there = plan_is_there(keep, wanted, node, cell);
        if (!is_there && !cell)
            cell = plan_cell_make(plan, node, wanted->key);
        if (cell && !is_there && !cell->was_pending) {
            cell->was_pending = true;
            if (!cell->failed && !cell->evicted)
                cell->since_s = now.wall_s;
        }
        if (next->image < 0 && is_due(keep, wanted, node, cell, now, next))
            next->image = (int32_t)i;
    }
}

static void look_at_all(struct keep_plan *plan, struct keep_now now) {
    for (size_t n = 0; n < plan->node_count; n++) {
        struct plan_node *node = plan->nodes[n];
        for (size_t k = 0; k < plan->keep_count; k++) {
            if (node->is_dirty || node->next[k].wake_ms <= now.ms)
                look(plan, k, node, now);
        }
        node->is_dirty = false;
    }
}

/* ---- actions ---- */

void keep_actions_finish(struct keep_actions *actions) {
    free(actions->list);
    *actions = (struct keep_actions){0};
}

static struct keep_action *add_action(struct keep_actions *out, enum keep_action_kind kind) {
    if (out->count == out->capacity) {
        size_t capacity = out->capacity ? out->capacity * 2 : 16;
        struct keep_action *list = reallocarray(out->list, capacity, sizeof *list);
        if (!list)
            return NULL;
        out->list = list;
        out->capacity = capacity;
    }
    out->list[out->count] = (struct keep_action){.kind = kind};
    return &out->list[out->count++];
}

static char *image_text(const struct plan_keep *keep, const struct plan_wanted *wanted) {
    char *text = NULL;
    bool by_digest = wanted->digest && (keep->spec->pull.by == KEEP_PULL_BY_DIGEST || !wanted->tag);
    if (asprintf(&text, "%s%s%s%s%s", wanted->name, wanted->tag ? ":" : "",
                 wanted->tag ? wanted->tag : "", by_digest ? "@" : "",
                 by_digest ? wanted->digest : "") < 0)
        return NULL;
    return text;
}

static struct plan_pod *start_pod(struct keep_plan *plan, struct plan_keep *keep,
                                  struct plan_node *node, const struct plan_wanted *wanted,
                                  struct keep_now now) {
    struct plan_cell *cell = plan_cell_make(plan, node, wanted->key);
    struct plan_pod *pod = calloc(1, sizeof *pod);
    if (!cell || !pod) {
        free(pod);
        return NULL;
    }
    *pod = (struct plan_pod){.id = ++plan->last_id,
                             .keep = strdup(keep->name),
                             .image = image_text(keep, wanted),
                             .digest = strdup(wanted->digest ? wanted->digest : ""),
                             .node = strdup(node->node->name),
                             .node_key = node->uid_key,
                             .cell = cell,
                             .owner = keep,
                             .created_ms = now.ms,
                             .timeout_ms = keep->spec->pull.timeout_ms,
                             .next = plan->pods};
    plan->pods = pod;
    node->pods++;
    keep->pods++;
    cell->pod = pod;
    if (!pod->keep || !pod->image || !pod->digest || !pod->node) {
        plan_pod_free(plan, pod);
        return NULL;
    }
    if (!cell->there)
        cell->since_s = now.wall_s;
    cell->was_pending = false;
    if (cell->attempts < 1000)
        cell->attempts++;
    return pod;
}

static bool create(struct keep_plan *plan, struct plan_keep *keep, struct plan_node *node,
                   struct keep_now now, struct keep_actions *out) {
    const struct plan_wanted *wanted = &keep->wanted[node->next[keep - plan->keeps].image];
    struct plan_pod *pod = start_pod(plan, keep, node, wanted, now);
    struct keep_action *action = pod ? add_action(out, KEEP_CREATE) : NULL;
    if (!action)
        return false;
    action->id = pod->id;
    action->wish = (struct keep_pod_wish){.keep = keep->name,
                                          .nodes = &keep->spec->nodes,
                                          .pull = &keep->spec->pull,
                                          .node = node->node->name,
                                          .name = wanted->name,
                                          .tag = wanted->tag,
                                          .digest = wanted->digest,
                                          .always = keep->spec->pull.by == KEEP_PULL_BY_TAG &&
                                                    plan_must_ask(wanted, node)};
    return true;
}

/* The node that is to pull the keep's most important image; NULL: none can now. */
static struct plan_node *choose_node(const struct keep_plan *plan, size_t k) {
    const struct plan_keep *keep = &plan->keeps[k];
    struct plan_node *best = NULL;
    for (size_t n = 0; n < plan->node_count; n++) {
        struct plan_node *node = plan->nodes[n];
        if (node->next[k].image >= 0 && node->pods < keep->spec->pull.node_limit &&
            (!best || node->next[k].image < best->next[k].image))
            best = node;
    }
    return best;
}

static bool create_all(struct keep_plan *plan, struct keep_now now, size_t limit,
                       struct keep_actions *out) {
    for (size_t k = 0; k < plan->keep_count; k++) {
        struct plan_keep *keep = &plan->keeps[k];
        struct plan_node *node;
        if (keep->create_after_ms > now.ms) {
            if (keep->create_after_ms < out->wake_ms)
                out->wake_ms = keep->create_after_ms;
            continue;
        }
        while (limit > 0 && keep->pods < keep->spec->pull.nodes_at_once &&
               (node = choose_node(plan, k)) != NULL) {
            if (!create(plan, keep, node, now, out))
                return false;
            limit--;
            for (size_t other = 0; other < plan->keep_count; other++)
                look(plan, other, node, now);
        }
    }
    return true;
}

static bool delete_all(struct keep_plan *plan, struct keep_now now, bool may_act,
                       struct keep_actions *out) {
    for (struct plan_pod *pod = plan->pods; pod; pod = pod->next) {
        int64_t late_ms = pod->created_ms + pod->timeout_ms + KEEP_TIMEOUT_GRACE_MS;
        if (pod->cell && !pod->ended && pod->uid) {
            if (late_ms <= now.ms)
                plan_pod_timed_out(plan, pod, now);
            else if (late_ms < out->wake_ms)
                out->wake_ms = late_ms;
        }
        if (!pod->unwanted || pod->deleting || !pod->uid || !may_act)
            continue;
        if (pod->delete_at_ms > now.ms) {
            if (pod->delete_at_ms < out->wake_ms)
                out->wake_ms = pod->delete_at_ms;
            continue;
        }
        struct keep_action *action = add_action(out, KEEP_DELETE);
        if (!action)
            return false;
        action->uid = pod->uid;
        action->pod = pod->name;
        pod->delete_at_ms = now.ms + 15 * KEEP_DELETE_AGAIN_MS; /* unless the answer comes sooner */
    }
    return true;
}

static bool tell_ends(struct keep_plan *plan, struct keep_actions *out) {
    while (plan->told) {
        struct plan_end *end = plan->told;
        plan->told = end->next;
        free(end->keep);
        free(end->node);
        free(end->image);
        free(end->reason);
        free(end);
    }
    plan->told = plan->ends;
    plan->ends = NULL;
    plan->last_end = &plan->ends;
    for (const struct plan_end *end = plan->told; end; end = end->next) {
        struct keep_action *action = add_action(out, KEEP_ENDED);
        if (!action)
            return false;
        action->outcome = end->outcome;
        action->took_ms = end->took_ms;
        action->keep = end->keep ? end->keep : "";
        action->node = end->node ? end->node : "";
        action->image = end->image ? end->image : "";
        action->reason = end->reason ? end->reason : "";
    }
    return true;
}

bool keep_plan_step(struct keep_plan *plan, struct keep_now now, bool may_act, size_t limit,
                    struct keep_actions *out) {
    out->count = 0;
    out->wake_ms = INT64_MAX;
    plan->no_memory = false;
    bool done = delete_all(plan, now, may_act, out) && tell_ends(plan, out);
    look_at_all(plan, now);
    if (done && may_act)
        done = create_all(plan, now, limit, out);
    for (size_t n = 0; n < plan->node_count; n++) {
        for (size_t k = 0; k < plan->keep_count; k++) {
            if (plan->nodes[n]->next[k].wake_ms < out->wake_ms)
                out->wake_ms = plan->nodes[n]->next[k].wake_ms;
        }
    }
    return done && !plan->no_memory;
}
