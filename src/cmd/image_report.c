/* Tells on standard output what is done with an image. */
#include "cmd/image_report.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/json.h"
#include "base/units.h"
#include "cmd/image_command.h"

bool image_report_open(struct image_report *report, const struct arguments *arguments,
                       bool dry_run) {
    *report = (struct image_report){
        .arguments = arguments,
        .dry_run = dry_run,
        .is_bars = !arguments_flag(arguments, "json") && isatty(STDOUT_FILENO),
    };
    if (report->is_bars)
        report->progress = warm_progress_new(stdout);
    return !report->is_bars || report->progress;
}

void image_report_close(struct image_report *report) {
    warm_progress_free(report->progress);
    report->progress = NULL;
}

void image_report_begin(struct image_report *report, const struct copy_reference *source,
                        const struct copy_reference *destination, const char *tag) {
    report->target = *destination;
    report->target.pattern[0] = '\0';
    snprintf(report->target.tag, sizeof report->target.tag, "%s", tag);
    copy_reference_format(source, report->source);
    copy_reference_format(&report->target, report->destination);
    report->began_ms = clock_ms();
}

/* ---- lines ---- */

static void print_line(struct image_report *report, json_t *line) {
    cleanup_buffer struct buffer text = {0};
    bool ok = line &&
              (!report->dry_run || json_object_set_new(line, "dry_run", json_true()) == 0) &&
              bounded_json_dump(line, JSON_COMPACT | JSON_REAL_PRECISION(6), &text) &&
              buffer_append_string(&text, "\n");
    json_decref(line);
    if (!ok) {
        report->failed = true;
        return;
    }
    fwrite(text.bytes, 1, text.length, stdout);
    fflush(stdout); /* whoever reads the lines sees how far it is */
}

void image_report_line(struct image_report *report, json_t *line) {
    if (!report->is_bars)
        print_line(report, line);
    else
        json_decref(line);
}

static json_t *line_of(const struct image_report *report, const struct copy_event *event) {
    char digest[DIGEST_STRING_SIZE], reference[COPY_REFERENCE_SIZE];
    const char *state = copy_state_name(event->state);
    digest_format(&event->digest, digest);
    switch (event->kind) {
    case COPY_EVENT_BLOB:
        return json_pack("{s:s, s:s, s:I, s:s}", "event", "blob", "digest", digest, "size",
                         (json_int_t)event->size, "state", state);
    case COPY_EVENT_MANIFEST:
        return json_pack("{s:s, s:s, s:s, s:I, s:s}", "event", "manifest", "digest", digest,
                         "media_type", event->media_type, "size", (json_int_t)event->size, "state",
                         state);
    case COPY_EVENT_TAG:
        return json_pack("{s:s, s:s, s:s, s:s}", "event", "tag", "reference",
                         copy_reference_format(&report->target, reference), "digest", digest,
                         "state", state);
    case COPY_EVENT_PROGRESS:
        break;
    }
    return NULL;
}

/* ---- bars ---- */

static void draw(struct image_report *report, const struct copy_event *event) {
    char digest[DIGEST_STRING_SIZE];
    bool is_done = event->kind == COPY_EVENT_BLOB;
    if (event->kind != COPY_EVENT_BLOB && event->kind != COPY_EVENT_PROGRESS)
        return;
    cleanup_json json_t *line = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:b}", "image", report->destination, "digest",
        digest_format(&event->digest, digest), "role", event->is_config ? "config" : "layer",
        "state", is_done ? "done" : "fetching", "size", (json_int_t)event->size, "bytes",
        (json_int_t)event->bytes, "was_cached", is_done && event->state != COPY_STATE_COPIED);
    if (line)
        warm_progress_record(report->progress, line);
}

void image_report_event(void *context, const struct copy_event *event) {
    struct image_report *report = context;
    if (report->is_bars)
        draw(report, event);
    else if (event->kind != COPY_EVENT_PROGRESS)
        print_line(report, line_of(report, event));
}

/* ---- the end ---- */

static void print_words(const struct image_report *report, const struct copy_image_result *result,
                        double seconds) {
    char sent[16], present[16], mounted[16], digest[DIGEST_STRING_SIZE];
    units_format_size(result->bytes_sent, sent, sizeof sent);
    units_format_size(result->bytes_present, present, sizeof present);
    units_format_size(result->bytes_mounted, mounted, sizeof mounted);
    printf("%s %s %s%s, %s had been there, %s mounted, %.1f s\n", report->destination,
           digest_format(&result->digest, digest), sent, report->dry_run ? " to send" : " sent",
           present, mounted, seconds);
    fflush(stdout);
}

static json_t *result_of(const struct image_report *report, const struct copy_image_result *result,
                         const struct error *failure, double seconds) {
    char digest[DIGEST_STRING_SIZE];
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:s}", "event", "result",
                     "source", report->source, "destination", report->destination, "digest",
                     digest_format(&result->digest, digest), "state", failure ? "failed" : "done",
                     "bytes_sent", (json_int_t)result->bytes_sent, "bytes_present",
                     (json_int_t)result->bytes_present, "bytes_mounted",
                     (json_int_t)result->bytes_mounted, "seconds", seconds, "message",
                     failure ? failure->text : "");
}

int image_report_fail(struct image_report *report, const char *what, const struct error *failure) {
    const struct copy_image_result nothing = {0};
    if (!report->is_bars)
        print_line(report, result_of(report, &nothing, failure, 0));
    return image_command_fail(report->arguments, what, failure);
}

void image_report_end(struct image_report *report, const struct copy_image_result *result,
                      const struct error *failure) {
    double seconds = (double)(clock_ms() - report->began_ms) / 1000;
    if (!report->is_bars)
        print_line(report, result_of(report, result, failure, seconds));
    else if (!failure)
        print_words(report, result, seconds);
    if (failure)
        image_command_fail(report->arguments, report->source, failure);
}
