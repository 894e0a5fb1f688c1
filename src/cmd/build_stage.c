/* Brings the context of a build to its bucket, if it is not there yet. */
#include "cmd/build_stage.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "build/behind.h"
#include "copy/compress.h"

enum { UPLOADS_MOST = 3 };

int build_stage_begin(struct build_stage *stage, const struct build_run *run) {
    const char *bucket = arguments_string(run->arguments, "staging-bucket");
    if (bucket && strncmp(bucket, "gs://", 5) == 0)
        bucket += 5;
    bool fits = bucket ? text_copy(text_of(bucket), stage->bucket, sizeof stage->bucket)
                       : staging_bucket_name(run->project, run->region, stage->bucket);
    return fits ? 0 : build_complain("the name of the staging bucket is too long");
}

int build_stage_measure(struct build_stage *stage, struct build_run *run, const char *folder,
                        bool needs_dockerfile) {
    char digest[DIGEST_STRING_SIZE];
    int status = build_context_open(run, folder, needs_dockerfile, true, &stage->context);
    if (status)
        return status;
    digest_format(&stage->context->sum.digest, digest);
    snprintf(stage->object, sizeof stage->object, "source/sha256-%s.tgz",
             digest + strlen("sha256:"));
    return 0;
}

/* ---- the upload ---- */

static bool write_upload(void *context, const void *bytes, size_t length, struct error *error) {
    struct staging_upload *upload = context;
    return staging_write(upload, bytes, length, error);
}

/* Packed bytes on their way, with a bar on a terminal. */
struct packing {
    struct compress *compress;
    uint64_t bytes, all; /* of the context's files; headers count among `bytes`, too */
    bool draws;
    int64_t draw_again_ms;
};

static void draw(struct packing *packing) {
    enum { WIDTH = 40, EVERY_MS = 100 };
    if (!packing->draws || clock_ms() < packing->draw_again_ms)
        return;
    unsigned full =
        packing->bytes >= packing->all ? WIDTH : (unsigned)(packing->bytes * WIDTH / packing->all);
    fprintf(stderr, "\rcontext [%.*s%*s]", (int)full,
            "========================================", (int)(WIDTH - full), "");
    packing->draw_again_ms = clock_ms() + EVERY_MS;
}

static void erase(const struct packing *packing) {
    if (packing->draws && packing->draw_again_ms)
        fputs("\r\033[K", stderr);
}

static bool write_compress(void *context, const void *bytes, size_t length, struct error *error) {
    struct packing *packing = context;
    packing->bytes += length;
    draw(packing);
    return compress_write(packing->compress, bytes, length, error);
}

static bool write_behind(void *context, const void *bytes, size_t length, struct error *error) {
    struct behind *behind = context;
    return behind_write(behind, bytes, length, error);
}

/* Packs and compresses the context, whose bytes are sent meanwhile. */
static bool pack(struct build_stage *stage, struct behind *behind, struct error *error) {
    const struct sink out = {write_behind, behind};
    struct compress_result result;
    struct compress *compress = compress_new(COMPRESS_GZIP, 0, &out, error);
    struct packing packing = {.compress = compress,
                              .all = stage->context->sum.bytes,
                              .draws = isatty(STDERR_FILENO) && stage->context->sum.bytes > 0};
    const struct sink in = {write_compress, &packing};
    bool ok = compress && context_write(stage->context->context, &in, error) &&
              compress_finish(compress, &result, error) &&
              context_check(stage->context->context, &result.diff_id, error) &&
              behind_finish(behind, error);
    erase(&packing);
    compress_free(compress);
    return ok;
}

/* Packs and uploads the context once. *lost: the service has dropped the session. */
static bool upload_once(struct build_stage *stage, struct api *api, bool *lost,
                        struct error *error) {
    struct staging_upload *upload = staging_begin(api, stage->bucket, stage->object, error);
    if (!upload)
        return false;
    const struct sink sink = {write_upload, upload};
    struct behind *behind = behind_new(&sink, error);
    bool ok = behind && pack(stage, behind, error);
    behind_free(behind);
    ok = ok && staging_finish(upload, stage->generation, error);
    *lost = staging_is_lost(upload);
    staging_free(upload);
    return ok;
}

/* A session that the service has dropped is begun anew. */
static bool upload(struct build_stage *stage, struct api *api, struct error *error) {
    bool lost = false;
    for (unsigned tries = 1; !upload_once(stage, api, &lost, error); tries++) {
        if (!lost || tries == UPLOADS_MOST)
            return false;
        error_clear(error);
    }
    return true;
}

bool build_stage_upload(struct build_stage *stage, const struct build_run *run,
                        struct error *error) {
    const bool is_given = arguments_string(run->arguments, "staging-bucket") != NULL;
    bool found = false;
    if (!staging_check_bucket(run->api, run->project, run->region, stage->bucket, !is_given,
                              error) ||
        !staging_find(run->api, stage->bucket, stage->object, &found, stage->generation, error) ||
        (!found && !upload(stage, run->api, error)))
        return false;
    build_context_show(run, stage->context, stage->object, found ? "present" : "uploaded");
    return true;
}

void build_stage_end(struct build_stage *stage) {
    build_context_close(stage->context);
}
