/* Prints the changes of tarn mirror, for people or as JSON. */
#include "cmd/mirror_report.h"

#include <stdio.h>
#include "base/json.h"
#include "base/log.h"

static const char *engine_name(enum mirror_engine engine) {
    switch (engine) {
    case MIRROR_CONTAINERD:
        return "containerd";
    case MIRROR_DOCKER:
        return "docker";
    case MIRROR_CONTAINERS:
        break;
    }
    return "containers";
}

static const char *action_name(enum mirror_action action) {
    switch (action) {
    case MIRROR_WRITE:
        return "write";
    case MIRROR_RESTORE:
        return "restore";
    case MIRROR_DELETE:
        return "delete";
    case MIRROR_KEEP:
        return "keep";
    case MIRROR_REFUSE:
        break;
    }
    return "refuse";
}

static void print_json(const struct mirror_report *report, const struct mirror_change *change) {
    cleanup_buffer struct buffer line = {0};
    cleanup_json json_t *fields =
        json_pack("{s:s, s:s, s:s, s:b}", "file", change->path, "for", engine_name(change->engine),
                  "action", action_name(change->action), "dry_run", report->dry_run);
    if (change->why)
        json_object_set_new(fields, "error", json_string(change->why));
    if (report->dry_run && change->content.at)
        json_object_set_new(fields, "content",
                            json_stringn(change->content.at, change->content.length));
    if (bounded_json_dump(fields, JSON_COMPACT | JSON_PRESERVE_ORDER, &line))
        puts(line.bytes);
}

static void print_text(const struct mirror_report *report, const struct mirror_change *change) {
    static const char *const done[] = {[MIRROR_WRITE] = "wrote",
                                       [MIRROR_RESTORE] = "restored",
                                       [MIRROR_DELETE] = "deleted",
                                       [MIRROR_KEEP] = "unchanged"};
    static const char *const planned[] = {[MIRROR_WRITE] = "would write",
                                          [MIRROR_RESTORE] = "would restore",
                                          [MIRROR_DELETE] = "would delete",
                                          [MIRROR_KEEP] = "unchanged"};
    if (change->action == MIRROR_REFUSE) {
        fflush(stdout);
        fprintf(stderr, "tarn mirror: %s is left alone: %s\n", change->path, change->why);
        return;
    }
    printf("%s %s\n", (report->dry_run ? planned : done)[change->action], change->path);
    if (report->dry_run && change->action == MIRROR_WRITE)
        printf("%.*s\n", TEXT_PRINT(change->content));
}

void mirror_report_change(void *context, const struct mirror_change *change) {
    struct mirror_report *report = context;
    if (change->engine == MIRROR_DOCKER &&
        (change->action == MIRROR_WRITE || change->action == MIRROR_DELETE))
        report->changed_docker = true;
    if (report->json)
        print_json(report, change);
    else
        print_text(report, change);
}

void mirror_report_advice(const struct mirror_report *report,
                          const struct mirror_settings *settings) {
    struct mirror_containerd containerd;
    fflush(stdout);
    if (settings->engines & MIRROR_CONTAINERD) {
        mirror_check_containerd(settings, &containerd);
        if (*containerd.why)
            fprintf(stderr, "tarn mirror: %s\n", containerd.why);
        if (*containerd.advice)
            fprintf(
                stderr,
                "tarn mirror: if `containerd config dump` does not name %s either, pulls of the "
                "kubelet do not use the mirror; add these lines and restart containerd:\n%s",
                settings->certs_dir, containerd.advice);
    }
    if (report->changed_docker && !report->dry_run)
        fputs("tarn mirror: Docker reads daemon.json after: systemctl reload docker\n", stderr);
}

void mirror_report_log_advice(const struct mirror_settings *settings) {
    if (settings->engines & MIRROR_DOCKER)
        log_event(LOG_WARN,
                  "Docker reads daemon.json only when it is reloaded (systemctl reload docker)",
                  NULL, 0);
}
