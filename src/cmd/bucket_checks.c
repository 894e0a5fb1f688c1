/* The checks of check-bucket. */
#include "cmd/bucket_checks.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include "base/buffer.h"
#include "base/clock.h"

enum {
    TOTAL_MS = 20000,
    ONE_MS = 8000,    /* for one request with its tries */
    CLEAN_MS = 4000,  /* for each request that tidies up, whatever time is left */
    CONTENT = 64,     /* bytes of an object that is written */
    RANGE_FIRST = 10, /* of the range that is read */
    RANGE_LAST = 19,
};

#define FOLDER "tarn/v1/probe/"

struct probe {
    struct bucket *bucket;
    struct bucket_checks *out;
    int64_t ends_ms;
    char key[64], parts_key[64];
    char content[CONTENT + 1]; /* hex digits */
    struct bucket_limits limits;
    struct bucket_answer answer;
    struct error error;
    bool is_lost; /* the bucket cannot be reached: further requests would only wait */
    bool has_put; /* the object is there */
    bool may_have_put, may_have_parts; /* an object may be there, whatever the bucket said */
};

/* ---- the frame of a check ---- */

static struct bucket_limits *limits_of(struct probe *probe, int64_t most_ms) {
    int64_t until = clock_ms() + most_ms;
    probe->limits = (struct bucket_limits){.tries = 2};
    probe->limits.deadline_ms = until < probe->ends_ms ? until : probe->ends_ms;
    return &probe->limits;
}

static void tell(struct bucket_check *check, const char *detail) {
    snprintf(check->detail, sizeof check->detail, "%s", detail);
}

typedef bool run_check(struct probe *probe, struct bucket_check *check);

static void run(struct probe *probe, enum bucket_check_name which, const char *name,
                run_check *function) {
    struct bucket_check *check = &probe->out->all[which];
    check->name = name;
    if (probe->is_lost) {
        tell(check, "not tried: the bucket cannot be asked");
        return;
    }
    int64_t began = clock_us();
    error_clear(&probe->error);
    probe->answer = (struct bucket_answer){.outcome = BUCKET_DONE};
    check->ok = function(probe, check);
    check->seconds = (double)(clock_us() - began) / 1e6;
    if (!check->ok && !check->detail[0])
        tell(check,
             probe->error.text[0] ? probe->error.text : "the answer is not what it should be");
    enum bucket_outcome outcome = probe->answer.outcome;
    probe->is_lost = !check->ok && (outcome == BUCKET_UNREACHABLE || outcome == BUCKET_UNSIGNED ||
                                    outcome == BUCKET_DOWN);
}

/* ---- the checks ---- */

static bool on_entry(void *context, const struct bucket_entry *entry, struct error *error) {
    (void)context, (void)entry, (void)error;
    return true;
}

static bool check_list(struct probe *probe, struct bucket_check *check) {
    struct bucket_list list = {.prefix = FOLDER, .page = 1};
    (void)check;
    bool ok = bucket_list_page(probe->bucket, &list, on_entry, NULL, limits_of(probe, ONE_MS),
                               &probe->answer, &probe->error);
    bucket_list_finish(&list);
    return ok;
}

static bool put(struct probe *probe, bool create_only) {
    const struct bucket_put put = {
        .key = probe->key,
        .body = {.bytes = probe->content, .length = CONTENT},
        .content_type = "text/plain",
        .create_only = create_only,
    };
    return bucket_put(probe->bucket, &put, limits_of(probe, ONE_MS), &probe->answer, &probe->error);
}

/* Whether an object may be there after a write. */
static bool may_be_written(const struct probe *probe, bool ok) {
    enum bucket_outcome outcome = probe->answer.outcome;
    return ok || outcome == BUCKET_UNREACHABLE || outcome == BUCKET_BUSY;
}

static bool check_put(struct probe *probe, struct bucket_check *check) {
    if (bucket_settings(probe->bucket)->read_only) {
        tell(check, "not tried: read_only");
        return false;
    }
    probe->has_put = put(probe, false);
    probe->may_have_put = may_be_written(probe, probe->has_put);
    return probe->has_put;
}

/* What is absent can be read as well as what is there, if the bucket says that it is absent. */
static bool is_told_absent(const struct probe *probe, struct bucket_check *check) {
    if (probe->has_put || probe->answer.status != 404 || probe->answer.outcome != BUCKET_ABSENT)
        return false;
    tell(check, "an absent key is told to be absent");
    return true;
}

static bool check_get(struct probe *probe, struct bucket_check *check) {
    cleanup_buffer struct buffer got = {0};
    bool ok = bucket_read(probe->bucket, probe->key, CONTENT, &got, limits_of(probe, ONE_MS),
                          &probe->answer, &probe->error);
    if (!ok)
        return is_told_absent(probe, check);
    return got.length == CONTENT && memcmp(got.bytes, probe->content, CONTENT) == 0;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct buffer *got = context;
    return buffer_append(got, bytes, length) || error_set(error, ERROR_MEMORY, "too many bytes");
}

static bool check_range(struct probe *probe, struct bucket_check *check) {
    cleanup_buffer struct buffer got = {.limit = CONTENT};
    const struct bucket_range range = {true, RANGE_FIRST, RANGE_LAST};
    const struct bucket_sink sink = {.context = &got, .on_bytes = on_bytes};
    bool ok = bucket_get(probe->bucket, probe->key, &range, &sink, limits_of(probe, ONE_MS),
                         &probe->answer, &probe->error);
    if (!ok)
        return is_told_absent(probe, check);
    if (probe->answer.status != 206)
        tell(check, "200: the whole object came in place of a range");
    return probe->answer.status == 206 && got.length == RANGE_LAST - RANGE_FIRST + 1 &&
           memcmp(got.bytes, probe->content + RANGE_FIRST, got.length) == 0;
}

static bool send_parts(struct probe *probe, struct bucket_upload *upload) {
    struct bucket_part part;
    const struct client_body body = {.bytes = probe->content, .length = CONTENT};
    return bucket_upload_part(probe->bucket, upload, 1, &body, &part, limits_of(probe, ONE_MS),
                              &probe->answer, &probe->error) &&
           bucket_upload_complete(probe->bucket, upload, &part, 1, limits_of(probe, ONE_MS),
                                  &probe->answer, &probe->error);
}

static bool check_multipart(struct probe *probe, struct bucket_check *check) {
    struct bucket_upload upload = {.key = probe->parts_key};
    if (bucket_settings(probe->bucket)->read_only) {
        tell(check, "not tried: read_only");
        return false;
    }
    if (!bucket_upload_begin(probe->bucket, &upload, limits_of(probe, ONE_MS), &probe->answer,
                             &probe->error))
        return false;
    bool ok = send_parts(probe, &upload);
    probe->may_have_parts = may_be_written(probe, ok);
    if (!ok) {
        const struct bucket_limits limits = {.deadline_ms = clock_ms() + CLEAN_MS};
        bucket_upload_abort(probe->bucket, probe->parts_key, upload.id, &limits, NULL, NULL);
    }
    return ok;
}

static bool check_create_once(struct probe *probe, struct bucket_check *check) {
    struct bucket_facts facts;
    if (!probe->has_put) {
        tell(check, "not tried: nothing was written");
        return false;
    }
    if (!put(probe, true))
        return probe->answer.outcome == BUCKET_PRESENT;
    bucket_look(probe->bucket, &facts);
    tell(check, facts.conditions_unknown
                    ? "501 NotImplemented: tarn writes without conditions"
                    : "200: the object was overwritten; tarn needs no conditions");
    return false;
}

static bool check_delete(struct probe *probe, struct bucket_check *check) {
    const char *const keys[] = {probe->may_have_put ? probe->key : NULL,
                                probe->may_have_parts ? probe->parts_key : NULL};
    bool ok = true;
    if (!keys[0] && !keys[1]) {
        tell(check, "not tried: nothing was written");
        return false;
    }
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct bucket_limits limits = {.deadline_ms = clock_ms() + CLEAN_MS};
        if (keys[i])
            ok =
                bucket_delete(probe->bucket, keys[i], &limits, &probe->answer, &probe->error) && ok;
    }
    return ok;
}

/* ---- all of them ---- */

static void name_objects(struct probe *probe) {
    unsigned char random[CONTENT / 2] = {0};
    if (RAND_bytes(random, sizeof random) != 1)
        memcpy(random, &(int64_t){clock_us()}, sizeof(int64_t));
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(probe->content + 2 * i, 3, "%02x", random[i]);
    snprintf(probe->key, sizeof probe->key, FOLDER "%.16s", probe->content);
    snprintf(probe->parts_key, sizeof probe->parts_key, FOLDER "%.16s-parts", probe->content);
}

void bucket_checks_run(struct bucket *bucket, struct bucket_checks *out) {
    struct probe probe = {.bucket = bucket, .out = out, .ends_ms = clock_ms() + TOTAL_MS};
    *out = (struct bucket_checks){.reads = false};
    name_objects(&probe);
    run(&probe, CHECK_LIST, "list", check_list);
    run(&probe, CHECK_PUT, "put", check_put);
    run(&probe, CHECK_GET, "get", check_get);
    run(&probe, CHECK_RANGE, "range", check_range);
    run(&probe, CHECK_MULTIPART, "multipart", check_multipart);
    run(&probe, CHECK_CREATE_ONCE, "create_once", check_create_once);
    probe.is_lost = probe.is_lost && !probe.may_have_put && !probe.may_have_parts;
    run(&probe, CHECK_DELETE, "delete", check_delete);
    out->reads = out->all[CHECK_GET].ok && out->all[CHECK_RANGE].ok;
    out->writes = out->all[CHECK_PUT].ok && out->all[CHECK_MULTIPART].ok;
}
