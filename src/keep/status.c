/* What tarn itself says of its keeps, as JSON and as metrics. */
#include "keep/status.h"

#include <stdio.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/metric.h"
#include "keep/survey.h"

/* ---- small parts of JSON ---- */

static void append_string(struct buffer *out, const char *name, const char *value) {
    buffer_printf(out, "\"%s\":", name);
    if (!value) {
        buffer_append_string(out, "null");
        return;
    }
    buffer_append_string(out, "\"");
    buffer_append_json(out, text_of(value));
    buffer_append_string(out, "\"");
}

static void append_time(struct buffer *out, const char *name, int64_t wall_s) {
    char time[CATALOG_TIME_SIZE];
    append_string(out, name, wall_s > 0 ? catalog_time_format(wall_s * 1000000, time) : NULL);
}

static void append_number(struct buffer *out, const char *name, uint64_t number) {
    if (number)
        buffer_printf(out, "\"%s\":%llu", name, (unsigned long long)number);
    else
        buffer_printf(out, "\"%s\":null", name);
}

/* ---- the cluster ---- */

static void append_follow(struct buffer *out, const char *name, struct follow *follow) {
    struct follow_state state;
    follow_look(follow, &state);
    buffer_printf(out, "\"%s\":{\"listed\":%s,\"connected\":%s,", name,
                  state.listed ? "true" : "false", state.connected ? "true" : "false");
    append_time(out, "since",
                state.true_ms > 0 ? clock_wall_s() - (clock_ms() - state.true_ms) / 1000 : 0);
    buffer_append_string(out, ",");
    append_string(out, "error", *state.error ? state.error : NULL);
    buffer_append_string(out, "}");
}

static void append_cluster(struct buffer *out, struct keeper *keeper) {
    buffer_append_string(out, "\"kubernetes\":{");
    append_string(out, "server", kubernetes_server(keeper->settings.kubernetes));
    buffer_append_string(out, ",");
    append_string(out, "namespace", keeper->settings.namespace);
    buffer_append_string(out, ",");
    append_follow(out, "nodes", keeper->nodes);
    buffer_append_string(out, ",");
    append_follow(out, "pods", keeper->pods);
    buffer_append_string(out, "},\"leader\":{");
    struct lease_state lease = {.leading = true};
    if (keeper->lease)
        lease_look(keeper->lease, &lease);
    buffer_printf(out, "\"me\":%s,", lease.leading ? "true" : "false");
    append_string(out, "holder", *lease.holder ? lease.holder : NULL);
    buffer_append_string(out, ",");
    append_string(out, "error", *lease.error ? lease.error : NULL);
    buffer_append_string(out, "}");
}

/* ---- one keep ---- */

static void append_cell(struct buffer *out, const struct keep_node *node,
                        const struct keep_cell_view *cell) {
    buffer_append_string(out, "\"");
    buffer_append_json(out, text_of(node->name));
    buffer_printf(out, "\":{\"state\":\"%s\",", keep_state_name(cell->state));
    append_time(out, "since", cell->since_s);
    buffer_printf(out, ",\"attempts\":%u,", cell->attempts);
    append_time(out, "retry_at", cell->retry_s);
    buffer_append_string(out, ",");
    append_string(out, "reason", *cell->reason ? cell->reason : NULL);
    buffer_append_string(out, ",");
    append_number(out, "bytes", cell->bytes);
    buffer_append_string(out, "}");
}

/* The tags of the list's items that are this image, and the name of the first. `items` has the
 * image of each item. */
static void append_tags(struct buffer *out, const struct keep_survey *survey, const int *items,
                        size_t image) {
    const struct keep_list *list = survey->kept->list;
    const struct keep_item *first = NULL;
    buffer_append_string(out, "\"tags\":[");
    for (size_t i = 0; list && i < list->desired_count; i++) {
        const struct keep_item *item = &list->desired[i];
        if (items[i] != (int)image)
            continue;
        if (item->tag) {
            buffer_append_string(out, first ? ",\"" : "\"");
            buffer_append_json(out, text_of(item->tag));
            buffer_append_string(out, "\"");
        }
        first = first ? first : item;
    }
    buffer_append_string(out, "],");
    append_string(out, "display", first ? first->name : NULL);
    buffer_append_string(out, ",");
    const struct keep_entry *entry = first ? &survey->kept->spec->entries[first->entry] : NULL;
    append_string(out, "pull_as", entry ? entry->pull_as : NULL);
}

static void append_image(struct buffer *out, const struct keep_survey *survey, const int *items,
                         size_t index) {
    const struct keep_plan *plan = survey->keeper->plan;
    size_t counts[KEEP_STATES] = {0};
    struct keep_image image;
    struct keep_cell_view cell;
    keep_plan_image(plan, (size_t)survey->keep, index, &image);
    buffer_append_string(out, "{\"image\":\"");
    buffer_append_json(out, text_of(image.name));
    if (image.tag) {
        buffer_append_string(out, ":");
        buffer_append_json(out, text_of(image.tag));
    } else {
        buffer_printf(out, "@%s", image.digest);
    }
    buffer_append_string(out, "\",");
    append_string(out, "digest", image.digest);
    buffer_append_string(out, ",");
    append_tags(out, survey, items, index);
    buffer_append_string(out, ",");
    append_number(out, "size", image.size);
    buffer_append_string(out, ",\"platforms\":[");
    for (size_t i = 0; i < image.platform_count; i++)
        buffer_printf(out, "%s\"%s\"", i ? "," : "", image.platforms[i]);
    buffer_append_string(out, "],\"nodes\":{");
    for (size_t i = 0; i < survey->node_count; i++) {
        keep_plan_cell(plan, (size_t)survey->keep, index, survey->nodes[i], survey->now, &cell);
        counts[cell.state]++;
        buffer_append_string(out, i ? "," : "");
        append_cell(out, keep_plan_node(plan, survey->nodes[i]), &cell);
    }
    buffer_append_string(out, "}");
    for (int state = 0; state < KEEP_STATES; state++)
        buffer_printf(out, ",\"%s\":%zu", keep_state_name((enum keep_state)state), counts[state]);
    buffer_append_string(out, "}");
}

static void append_node(struct buffer *out, const struct keep_survey *survey, size_t n) {
    const struct keep_plan *plan = survey->keeper->plan;
    const struct keep_node *node = keep_plan_node(plan, n);
    char comment[KEEP_COMMENT_SIZE];
    bool eligible =
        keep_node_eligible(node, &survey->kept->spec->nodes, comment) == KEEP_NODE_ELIGIBLE;
    size_t images = keep_plan_image_count(plan, (size_t)survey->keep), kept = 0;
    for (size_t i = 0; eligible && i < images; i++)
        kept += keep_plan_is_kept(plan, (size_t)survey->keep, i, n);
    buffer_append_string(out, "{");
    append_string(out, "name", node->name);
    buffer_printf(out, ",\"eligible\":%s,", eligible ? "true" : "false");
    append_string(out, "comment", *comment ? comment : NULL);
    buffer_printf(out, ",\"list_cut\":%s,\"kept\":%zu,\"pending\":%zu}",
                  keep_plan_node_list_is_cut(plan, n) ? "true" : "false", kept,
                  eligible ? images - kept : 0);
}

static void append_nodes(struct buffer *out, const struct keep_survey *survey) {
    const struct keep_plan *plan = survey->keeper->plan;
    size_t images = keep_plan_image_count(plan, (size_t)survey->keep);
    size_t complete = 0, ineligible = 0, listed = 0;
    cleanup_buffer struct buffer list = {0};
    for (size_t n = 0; n < keep_plan_node_count(plan); n++) {
        char comment[KEEP_COMMENT_SIZE];
        enum keep_eligibility eligibility =
            keep_node_eligible(keep_plan_node(plan, n), &survey->kept->spec->nodes, comment);
        if (eligibility == KEEP_NODE_OTHER)
            continue;
        ineligible += eligibility == KEEP_NODE_INELIGIBLE;
        size_t kept = 0;
        for (size_t i = 0; eligibility == KEEP_NODE_ELIGIBLE && i < images; i++)
            kept += keep_plan_is_kept(plan, (size_t)survey->keep, i, n);
        complete += eligibility == KEEP_NODE_ELIGIBLE && kept == images;
        buffer_append_string(&list, listed++ ? "," : "");
        append_node(&list, survey, n);
    }
    buffer_printf(out, "\"nodes\":{\"eligible\":%zu,\"complete\":%zu,\"ineligible\":%zu,\"list\":[",
                  survey->node_count, complete, ineligible);
    buffer_append(out, list.bytes, list.length);
    buffer_append_string(out, "]}");
    out->failed |= list.failed;
}

static void append_source(struct buffer *out, const struct kept *kept) {
    const struct keep_list *list = kept->list;
    int64_t listed_s = list && list->source_count ? INT64_MAX : 0;
    const char *error = NULL;
    for (size_t i = 0; list && i < list->source_count; i++) {
        if (list->sources[i].listed_s < listed_s)
            listed_s = list->sources[i].listed_s;
        if (!error && *list->sources[i].error)
            error = list->sources[i].error;
    }
    buffer_append_string(out, "\"source\":{");
    append_time(out, "listed_at", listed_s);
    buffer_printf(out, ",\"stale\":%s,", !list || list->failed ? "true" : "false");
    append_string(out, "error", error);
    buffer_append_string(out, "}");
}

static void append_keep(struct buffer *out, const struct keep_survey *survey) {
    static const char *const origins[] = {
        [KEEP_CONFIGURED] = "config", [KEEP_OF_FILE] = "file", [KEEP_POSTED] = "posted"};
    size_t images = keep_plan_image_count(survey->keeper->plan, (size_t)survey->keep);
    const struct keep_list *list = survey->kept->list;
    cleanup_free int *items = calloc((list ? list->desired_count : 0) + 1, sizeof *items);
    out->failed |= !items;
    for (size_t i = 0; items && list && i < list->desired_count; i++)
        items[i] = keep_survey_image(survey, &list->desired[i]);
    append_string(out, "name", survey->kept->spec->name);
    buffer_printf(out, ",\"origin\":\"%s\",", origins[survey->kept->origin]);
    append_nodes(out, survey);
    buffer_append_string(out, ",\"images\":[");
    for (size_t i = 0; items && i < images; i++) {
        buffer_append_string(out, i ? "," : "");
        append_image(out, survey, items, i);
    }
    buffer_append_string(out, "],");
    append_source(out, survey->kept);
}

bool keep_status_write(struct keeper *keeper, const char *name, struct buffer *out) {
    struct keep_survey survey;
    lock_acquire(&keeper->state_lock);
    bool found = keep_survey_begin(keeper, name, &survey, NULL);
    if (found) {
        buffer_append_string(out, "{");
        append_keep(out, &survey);
        buffer_append_string(out, ",");
        append_cluster(out, keeper);
        buffer_append_string(out, "}\n");
        keep_survey_finish(&survey);
    }
    lock_release(&keeper->state_lock);
    return found && !out->failed;
}

bool keep_status_write_all(struct keeper *keeper, struct buffer *out) {
    buffer_append_string(out, "{\"keeps\":[");
    lock_acquire(&keeper->state_lock);
    size_t count = 0;
    for (size_t i = 0; i < keeper->kept_count; i++) {
        struct keep_survey survey;
        if (keeper->kepts[i].is_hidden ||
            !keep_survey_begin(keeper, keeper->kepts[i].spec->name, &survey, NULL))
            continue;
        buffer_append_string(out, count++ ? ",{" : "{");
        append_keep(out, &survey);
        buffer_append_string(out, "}");
        keep_survey_finish(&survey);
    }
    buffer_append_string(out, "],");
    append_cluster(out, keeper);
    buffer_append_string(out, "}\n");
    lock_release(&keeper->state_lock);
    return !out->failed;
}

/* ---- metrics ---- */

static void set_gauge(const char *name, const char *help, const char *keep, const char *state,
                      int64_t value) {
    char labels[KEEP_NAME_LIMIT + 40];
    snprintf(labels, sizeof labels, "keep=\"%s\"%s%s%s", keep, state ? ",state=\"" : "",
             state ? state : "", state ? "\"" : "");
    metric_set(metric_get(METRIC_GAUGE, name, help, labels), value);
}

static void update_keep(const struct keep_survey *survey) {
    const struct keep_plan *plan = survey->keeper->plan;
    const char *name = survey->kept->spec->name;
    size_t images = keep_plan_image_count(plan, (size_t)survey->keep), complete = 0;
    int64_t counts[KEEP_STATES] = {0}, oldest_s = 0, listed_s = 0;
    for (size_t n = 0; n < survey->node_count; n++) {
        size_t kept = 0;
        for (size_t i = 0; i < images; i++) {
            struct keep_cell_view cell;
            keep_plan_cell(plan, (size_t)survey->keep, i, survey->nodes[n], survey->now, &cell);
            counts[cell.state]++;
            kept += cell.state == KEEP_KEPT;
            int64_t age_s = survey->now.wall_s - cell.since_s;
            if (cell.state == KEEP_PENDING && cell.since_s > 0 && age_s > oldest_s)
                oldest_s = age_s;
        }
        complete += kept == images;
    }
    /* Before anything has ended, so that the first end is an increase. */
    for (int outcome = KEEP_OUTCOME_KEPT; outcome <= KEEP_OUTCOME_TIMEOUT; outcome++)
        keeper_pulls_metric(name, (enum keep_outcome)outcome);
    for (int state = 0; state < KEEP_STATES; state++)
        set_gauge("tarn_keep_images", "Images on eligible nodes, by state.", name,
                  keep_state_name((enum keep_state)state), counts[state]);
    set_gauge("tarn_keep_nodes", "Nodes of a keep, by state.", name, "complete", (int64_t)complete);
    set_gauge("tarn_keep_nodes", "Nodes of a keep, by state.", name, "incomplete",
              (int64_t)(survey->node_count - complete));
    set_gauge("tarn_keep_oldest_pending_seconds", "Age of the image that is pending for longest.",
              name, NULL, oldest_s);
    const struct keep_list *list = survey->kept->list;
    for (size_t i = 0; list && i < list->source_count; i++) {
        int64_t at_s = list->sources[i].listed_s;
        listed_s = i == 0 || at_s < listed_s ? at_s : listed_s;
    }
    if (list)
        set_gauge("tarn_keep_listed_seconds", "Time since the repositories were listed.", name,
                  NULL, survey->now.wall_s - listed_s);
}

void keep_status_update_metrics(struct keeper *keeper) {
    lock_acquire(&keeper->state_lock);
    for (size_t i = 0; i < keeper->kept_count; i++) {
        struct keep_survey survey;
        if (keeper->kepts[i].is_hidden ||
            !keep_survey_begin(keeper, keeper->kepts[i].spec->name, &survey, NULL))
            continue;
        update_keep(&survey);
        char labels[KEEP_NAME_LIMIT + 20];
        snprintf(labels, sizeof labels, "keep=\"%s\"", survey.kept->spec->name);
        struct metric *metric =
            metric_get(METRIC_COUNTER, "tarn_keep_evictions_total",
                       "Images that their node deleted twice within a day.", labels);
        metric_add(metric, (int64_t)keep_plan_evictions(keeper->plan, (size_t)survey.keep) -
                               metric_value(metric));
        keep_survey_finish(&survey);
    }
    lock_release(&keeper->state_lock);
    metric_set(metric_get(METRIC_GAUGE, "tarn_keep_leader",
                          "Whether this process creates and deletes pods.", ""),
               lease_holds(keeper->lease));
    follow_update_metrics(keeper->nodes);
    follow_update_metrics(keeper->pods);
}
