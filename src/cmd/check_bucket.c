/* tarn check-bucket: tries what tarn needs of the configured bucket, and says what works. */
#include <stdio.h>
#include <unistd.h>
#include "base/json.h"
#include "base/log.h"
#include "base/secret.h"
#include "client/client.h"
#include "cmd/arguments.h"
#include "cmd/bucket_checks.h"
#include "cmd/commands.h"
#include "cmd/standard_streams.h"
#include "config/config.h"

struct report {
    char label[BUCKET_LABEL_SIZE];
    struct bucket_facts facts;
    struct bucket_checks checks;
};

static json_t *check_json(const struct bucket_check *check) {
    return json_pack("{s:s, s:b, s:f, s:s}", "name", check->name, "ok", check->ok, "seconds",
                     check->seconds, "detail", check->detail);
}

static bool write_json(const struct report *report, struct buffer *out) {
    const struct bucket_facts *facts = &report->facts;
    cleanup_json json_t *json =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:b, s:[]}", "bucket", report->label, "endpoint",
                  facts->endpoint, "region", facts->region, "credentials", facts->credentials,
                  "clock_seconds", (json_int_t)facts->clock_seconds, "reads", report->checks.reads,
                  "writes", report->checks.writes, "checks");
    for (size_t i = 0; i < BUCKET_CHECKS; i++)
        json_array_append_new(json_object_get(json, "checks"), check_json(&report->checks.all[i]));
    return json && bounded_json_dump(json, JSON_COMPACT | JSON_REAL_PRECISION(6), out) &&
           buffer_append_string(out, "\n");
}

static bool write_text(const struct report *report, struct buffer *out) {
    for (size_t i = 0; i < BUCKET_CHECKS; i++) {
        const struct bucket_check *check = &report->checks.all[i];
        buffer_printf(out, "%-12s %-6s %7.3f s%s%s\n", check->name, check->ok ? "ok" : "FAILED",
                      check->seconds, check->detail[0] ? "  " : "", check->detail);
    }
    return !out->failed;
}

/* What stands above the lines of the checks; people alone read it. */
static void print_facts(const struct report *report) {
    const struct bucket_facts *facts = &report->facts;
    fprintf(stderr, "%s at %s, region %s, credentials: %s, clock %+lld s\n", report->label,
            facts->endpoint, facts->region[0] ? facts->region : "none",
            facts->credentials[0] ? facts->credentials : "none", (long long)facts->clock_seconds);
}

static int print_report(const struct report *report, bool read_only, bool json) {
    cleanup_buffer struct buffer out = {0};
    if (!json)
        print_facts(report);
    if (!(json ? write_json(report, &out) : write_text(report, &out))) {
        fputs("tarn check-bucket: out of memory\n", stderr);
        return 1;
    }
    if (!standard_output_write(&out))
        return 1;
    return report->checks.reads && (report->checks.writes || read_only) ? 0 : 1;
}

static int check(const struct bucket_settings *settings, bool json) {
    struct report report;
    cleanup_client struct client *client = client_new();
    cleanup_bucket struct bucket *bucket = bucket_new(settings, client);
    if (!bucket) {
        fputs("tarn check-bucket: out of memory\n", stderr);
        return 1;
    }
    bucket_address_write(&settings->address, report.label);
    bucket_checks_run(bucket, &report.checks);
    bucket_look(bucket, &report.facts);
    return print_report(&report, settings->read_only, json);
}

static int run(const struct arguments *arguments) {
    const struct config_flags flags = {.file = arguments_string(arguments, "config")};
    cleanup_buffer struct buffer problems = {0};
    struct config *config = config_load(&flags, environ, &problems);
    if (!config) {
        fputs(problems.bytes ? problems.bytes : "tarn check-bucket: out of memory\n", stderr);
        return 1;
    }
    int status = 2;
    secret_forbid_core_dumps();
    log_configure(LOG_ERROR, LOG_TEXT); /* the checks say the same */
    if (config->bucket.address.kind == BUCKET_NONE)
        fputs("tarn check-bucket: no bucket is configured (bucket.url, or TARN_BUCKET_URL)\n",
              stderr);
    else
        status = check(&config->bucket, arguments_flag(arguments, "json"));
    config_free(config);
    return status;
}

static const struct command_option options[] = {
    {"json", OPTION_FLAG, NULL, "print JSON"},
    {"config", OPTION_STRING, "FILE",
     "the configuration file; default: $TARN_CONFIG, else " CONFIG_DEFAULT_FILE ", if it exists"},
};

const struct command check_bucket_command = {
    .name = "check-bucket",
    .arguments = "",
    .summary = "try what tarn needs of the configured bucket",
    .text =
        "Lists, writes, reads, reads a range, writes in parts, writes only if absent, and "
        "deletes,\n"
        "all below PREFIX/tarn/v1/probe/, and leaves nothing there. Prints a line for each: its\n"
        "name, whether it works, how long it took, and what the bucket said against it. Exit 1 "
        "when\n"
        "reading or writing does not work: nothing else is needed. list and delete are for\n"
        "retention, create_once saves bytes. With read_only nothing is written, and reading alone\n"
        "decides. Exit 2 when no bucket is configured.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
