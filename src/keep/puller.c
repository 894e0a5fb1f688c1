/* Sends what the plan asks for to the cluster: pods to create and to delete. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/json.h"
#include "base/log.h"
#include "keep/keeper_private.h"

static void job_free(struct keeper_job *job) {
    free(job->uid);
    free(job->name);
    buffer_finish(&job->body);
    free(job);
}

void keeper_free_jobs(struct keeper *keeper) {
    while (keeper->jobs) {
        struct keeper_job *job = keeper->jobs;
        keeper->jobs = job->next;
        job_free(job);
    }
    keeper->last_job = &keeper->jobs;
}

static bool write_create(const struct keeper *keeper, const struct keep_action *action,
                         struct buffer *out) {
    struct keep_pod_wish wish = action->wish;
    wish.namespace = keeper->settings.namespace;
    wish.owner_name = keeper->settings.owner_name;
    wish.owner_uid = keeper->settings.owner_uid;
    return keep_pod_write(&wish, out);
}

bool keeper_add_job(struct keeper *keeper, const struct keep_action *action) {
    struct keeper_job *job = calloc(1, sizeof *job);
    if (!job)
        return false;
    job->is_create = action->kind == KEEP_CREATE;
    job->id = action->id;
    bool done = true;
    if (job->is_create) {
        done = write_create(keeper, action, &job->body);
    } else {
        job->uid = strdup(action->uid);
        job->name = strdup(action->pod);
        /* By uid, so that a stranger's pod of that name stays. */
        done = job->uid && job->name &&
               buffer_printf(&job->body,
                             "{\"apiVersion\":\"v1\",\"kind\":\"DeleteOptions\","
                             "\"preconditions\":{\"uid\":\"%s\"}}",
                             action->uid);
    }
    if (!done) {
        job_free(job);
        return false;
    }
    *keeper->last_job = job;
    keeper->last_job = &job->next;
    condition_signal(&keeper->jobs_changed);
    return true;
}

static struct keep_failure failure_of(bool was_sent, const struct error *error) {
    bool refused = error->status >= 400 && error->status < 500;
    return (struct keep_failure){!was_sent ? KEEP_FAILURE_NOT_SENT
                                 : refused ? KEEP_FAILURE_REFUSED
                                           : KEEP_FAILURE_UNKNOWN,
                                 error->text, (int64_t)error->retry_after_s * 1000};
}

/* Whether a pod may still be created: a process that was stopped for a while leads no more when it
 * wakes up. */
static bool still_may_act(void *keeper) {
    return keeper_may_act(keeper);
}

static void create(struct keeper *keeper, const struct keeper_job *job) {
    const struct cancel cancel = {.is_wanted = still_may_act, .context = keeper};
    char path[300];
    struct error error = {0};
    cleanup_json json_t *pod = NULL;
    snprintf(path, sizeof path, "/api/v1/namespaces/%s/pods", keeper->settings.namespace);
    const struct kubernetes_call call = {.verb = "create",
                                         .resource = "pods",
                                         .path = path,
                                         .body = {job->body.bytes, job->body.length},
                                         .timeout_ms = KEEPER_REQUEST_MS,
                                         .cancel = &cancel};
    bool may_act = keeper_may_act(keeper);
    bool done = may_act && kubernetes_call(keeper->settings.kubernetes, &call, &pod, &error);
    const json_t *metadata = json_object_get(pod, "metadata");
    const char *name = json_string_value(json_object_get(metadata, "name"));
    const char *uid = json_string_value(json_object_get(metadata, "uid"));
    const struct keep_failure failure = failure_of(may_act, &error);
    lock_acquire(&keeper->state_lock);
    if (done && name && uid)
        keep_plan_created(keeper->plan, job->id, name, uid, keeper_now());
    else
        keep_plan_not_created(keeper->plan, job->id, &failure, keeper_now());
    keeper_touch(keeper);
    lock_release(&keeper->state_lock);
    if (may_act && !done)
        log_at(LOG_WARN, "a pod was not created", LOG_STRING("error", error.text));
}

static bool still_leads(void *keeper) {
    return keeper_leads(keeper);
}

static void delete (struct keeper *keeper, const struct keeper_job *job) {
    const struct cancel cancel = {.is_wanted = still_leads, .context = keeper};
    char path[600];
    struct error error = {0};
    snprintf(path, sizeof path, "/api/v1/namespaces/%s/pods/%s", keeper->settings.namespace,
             job->name);
    const struct kubernetes_call call = {.verb = "delete",
                                         .resource = "pods",
                                         .path = path,
                                         .body = {job->body.bytes, job->body.length},
                                         .timeout_ms = KEEPER_REQUEST_MS,
                                         .cancel = &cancel};
    bool leads = keeper_leads(keeper);
    bool done = leads && kubernetes_call(keeper->settings.kubernetes, &call, NULL, &error);
    /* 409: there is another pod of that name, so ours is gone. */
    bool is_gone = error.kind == ERROR_NOT_FOUND || error.status == 409;
    lock_acquire(&keeper->state_lock);
    if (!done && is_gone)
        keep_plan_remove_pod(keeper->plan, job->uid, keeper_now());
    else
        keep_plan_deleted(keeper->plan, job->uid, done, keeper_now());
    keeper_touch(keeper);
    lock_release(&keeper->state_lock);
    if (leads && !done && !is_gone)
        log_at(LOG_WARN, "a pod was not deleted", LOG_STRING("pod", job->name),
               LOG_STRING("error", error.text));
}

void keeper_send(void *context) {
    struct keeper *keeper = context;
    lock_acquire(&keeper->state_lock);
    while (!atomic_load(&keeper->stop)) {
        struct keeper_job *job = keeper->jobs;
        if (!job) {
            condition_wait(&keeper->jobs_changed, &keeper->state_lock);
            continue;
        }
        keeper->jobs = job->next;
        if (!keeper->jobs)
            keeper->last_job = &keeper->jobs;
        lock_release(&keeper->state_lock);
        if (job->is_create)
            create(keeper, job);
        else
            delete (keeper, job);
        job_free(job);
        lock_acquire(&keeper->state_lock);
    }
    lock_release(&keeper->state_lock);
}
