/* The bucket and the object of a build's source. */
#include "build/staging.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "client/retry.h"

enum { ATTEMPTS = 8, SESSION_SIZE = 4096 };

/* ---- the bucket ---- */

/* A project may be "example.com:name", which cannot stand in a bucket's name; "google" may not
 * either (gcloud's rule). */
bool staging_bucket_name(const char *project, const char *region,
                         char out[static STAGING_BUCKET_SIZE]) {
    char name[STAGING_BUCKET_SIZE];
    int length = strcmp(region, "global") == 0
                     ? snprintf(name, sizeof name, "%s_cloudbuild", project)
                     : snprintf(name, sizeof name, "%s_%s_cloudbuild", project, region);
    if (length < 0 || (size_t)length >= sizeof name)
        return false;
    for (char *at = name; *at; at++)
        if (*at == ':' || *at == '.')
            *at = '_';
    for (char *at = name; (at = strstr(at, "google"));)
        memcpy(at, "elgoog", strlen("elgoog"));
    memcpy(out, name, (size_t)length + 1);
    return true;
}

static void append_object(struct buffer *path, const char *bucket, const char *object) {
    buffer_append_string(path, "/storage/v1/b/");
    buffer_append_percent(path, bucket, "");
    if (object) {
        buffer_append_string(path, "/o/");
        buffer_append_percent(path, object, "");
    }
}

static bool out_of_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* Whether the bucket is in the project's list. */
static bool is_own(struct api *api, const char *project, const char *bucket, bool *own,
                   struct error *error) {
    char role[400];
    size_t index;
    json_t *item;
    cleanup_buffer struct buffer path = {0};
    buffer_append_string(&path, "/storage/v1/b?project=");
    buffer_append_percent(&path, project, ":");
    buffer_append_string(&path, "&prefix=");
    buffer_append_percent(&path, bucket, "");
    buffer_append_string(&path, "&fields=items/name,nextPageToken&maxResults=1000");
    if (path.failed)
        return out_of_memory(error);
    snprintf(role, sizeof role, "storage.buckets.list (roles/storage.admin) on project %.250s",
             project);
    cleanup_json json_t *list = api_perform_json(
        api,
        &(struct api_call){
            .service = API_STORAGE, .method = "GET", .path = path.bytes, .role = role},
        error);
    *own = false;
    json_array_foreach (json_object_get(list, "items"), index, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        *own = *own || (name && strcmp(name, bucket) == 0);
    }
    return list != NULL;
}

static bool make_bucket(struct api *api, const char *project, const char *region,
                        const char *bucket, struct error *error) {
    static const int taken[] = {409, 0};
    char role[400];
    cleanup_buffer struct buffer path = {0}, body = {0};
    cleanup_api_answer struct api_answer answer = {0};
    cleanup_json json_t *json = json_pack("{s:s}", "name", bucket);
    if (strcmp(region, "global") != 0)
        json_object_set_new(json, "location", json_string(region));
    buffer_append_string(&path, "/storage/v1/b?project=");
    buffer_append_percent(&path, project, ":");
    if (!bounded_json_dump(json, JSON_COMPACT, &body) || path.failed)
        return out_of_memory(error);
    snprintf(role, sizeof role, "storage.buckets.create (roles/storage.admin) on project %.250s",
             project);
    const struct api_call call = {.service = API_STORAGE,
                                  .method = "POST",
                                  .path = path.bytes,
                                  .body = {body.bytes, body.length},
                                  .role = role,
                                  .once = true};
    if (!api_perform(api, &call, taken, &answer, error))
        return error_wrap(error, "the bucket %s for sources cannot be made", bucket);
    return answer.status != 409 ||
           error_set(error, ERROR_DENIED,
                     "the bucket %s is not one of project %s: somebody else has it, so no source "
                     "goes there. Name another bucket with --staging-bucket",
                     bucket, project);
}

bool staging_check_bucket(struct api *api, const char *project, const char *region,
                          const char *bucket, bool may_make, struct error *error) {
    bool own = false;
    if (!is_own(api, project, bucket, &own, error))
        return false;
    if (own)
        return true;
    return may_make ? make_bucket(api, project, region, bucket, error)
                    : error_set(error, ERROR_DENIED,
                                "the bucket %s is not one of project %s, so no source goes there",
                                bucket, project);
}

/* ---- the object ---- */

static bool read_generation(const struct buffer *body,
                            char generation[static STAGING_GENERATION_SIZE], struct error *error) {
    cleanup_json json_t *json =
        bounded_json_load(body->bytes ? body->bytes : "", body->length, error);
    const char *text = json_string_value(json_object_get(json, "generation"));
    if (text && text[strspn(text, "0123456789")] == '\0' &&
        text_copy(text_of(text), generation, STAGING_GENERATION_SIZE) && *text)
        return true;
    return error_set(error, ERROR_UNAVAILABLE,
                     "the answer of Cloud Storage has no generation of the object");
}

bool staging_find(struct api *api, const char *bucket, const char *object, bool *found,
                  char generation[static STAGING_GENERATION_SIZE], struct error *error) {
    static const int absent[] = {404, 0};
    char role[400];
    cleanup_buffer struct buffer path = {0};
    cleanup_api_answer struct api_answer answer = {0};
    append_object(&path, bucket, object);
    buffer_append_string(&path, "?fields=generation");
    if (path.failed)
        return out_of_memory(error);
    snprintf(role, sizeof role, "roles/storage.objectUser on bucket %.250s", bucket);
    const struct api_call call = {
        .service = API_STORAGE, .method = "GET", .path = path.bytes, .role = role};
    if (!api_perform(api, &call, absent, &answer, error))
        return false;
    *found = answer.status != 404;
    return !*found || read_generation(&answer.body, generation, error);
}

/* ---- the upload ---- */

struct staging_upload {
    struct api *api;
    char *bucket, *object;
    char session[SESSION_SIZE]; /* a secret: whoever has it may write the object */
    char *chunk;
    size_t length;   /* bytes in `chunk` */
    uint64_t offset; /* of the chunk's first byte */
    bool done, was_there, lost;
    struct buffer answer; /* to the last piece */
};

bool staging_is_lost(const struct staging_upload *upload) {
    return upload->lost;
}

static bool start_session(struct staging_upload *upload, struct error *error) {
    static const int taken[] = {412, 0};
    char role[400];
    cleanup_buffer struct buffer path = {0};
    cleanup_api_answer struct api_answer answer = {0};
    struct client_field location = {"Location", upload->session, sizeof upload->session, false};
    buffer_append_string(&path, "/upload/storage/v1/b/");
    buffer_append_percent(&path, upload->bucket, "");
    buffer_append_string(&path, "/o?uploadType=resumable&ifGenerationMatch=0&name=");
    buffer_append_percent(&path, upload->object, "");
    if (path.failed)
        return out_of_memory(error);
    snprintf(role, sizeof role, "roles/storage.objectUser on bucket %.250s", upload->bucket);
    const struct api_call call = {.service = API_STORAGE,
                                  .method = "POST",
                                  .path = path.bytes,
                                  .body = text_of("{\"contentType\":\"application/gzip\"}"),
                                  .field = "X-Upload-Content-Type: application/gzip",
                                  .role = role,
                                  .wanted = &location,
                                  .wanted_count = 1};
    if (!api_perform(upload->api, &call, taken, &answer, error))
        return false;
    upload->done = upload->was_there = answer.status == 412;
    return upload->done || upload->session[0] ||
           error_set(error, ERROR_UNAVAILABLE,
                     "Cloud Storage has begun no session for the upload (no Location)");
}

struct staging_upload *staging_begin(struct api *api, const char *bucket, const char *object,
                                     struct error *error) {
    struct staging_upload *upload = calloc(1, sizeof *upload);
    if (upload) {
        upload->api = api;
        upload->bucket = strdup(bucket);
        upload->object = strdup(object);
        upload->chunk = malloc(STAGING_CHUNK);
    }
    if (!upload || !upload->bucket || !upload->object || !upload->chunk)
        out_of_memory(error);
    else if (start_session(upload, error))
        return upload;
    staging_free(upload);
    return NULL;
}

void staging_free(struct staging_upload *upload) {
    if (!upload)
        return;
    if (upload->session[0] && !upload->done && !upload->lost) {
        static const int also[] = {499, 404, 410, 0};
        cleanup_api_answer struct api_answer answer = {0};
        api_perform(
            upload->api,
            &(struct api_call){
                .service = API_STORAGE, .method = "DELETE", .path = upload->session, .once = true},
            also, &answer, NULL);
    }
    explicit_bzero(upload->session, sizeof upload->session);
    buffer_finish(&upload->answer);
    free(upload->bucket);
    free(upload->object);
    free(upload->chunk);
    free(upload);
}

/* How many bytes the service has: "bytes=0-N" is N + 1. Without the field there are none. */
static bool read_range(const char *range, uint64_t *has) {
    uint64_t last;
    *has = 0;
    if (!*range)
        return true;
    if (strncmp(range, "bytes=0-", 8) != 0 || !text_to_u64(text_of(range + 8), &last) ||
        last == UINT64_MAX)
        return false;
    *has = last + 1;
    return true;
}

/* The service has so many bytes of all: those of the chunk need not be sent again. */
static bool take_progress(struct staging_upload *upload, uint64_t has, struct error *error) {
    upload->lost = has < upload->offset || has > upload->offset + upload->length;
    if (upload->lost)
        return error_set(error, ERROR_CORRUPT,
                         "Cloud Storage has %" PRIu64 " bytes of the upload, and %" PRIu64
                         " were sent",
                         has, upload->offset + upload->length);
    size_t taken = (size_t)(has - upload->offset);
    memmove(upload->chunk, upload->chunk + taken, upload->length - taken);
    upload->length -= taken;
    upload->offset = has;
    return true;
}

/* One request of the session: the chunk, or (is_question) how far it has come. False: no answer
 * that says so. */
static bool ask_session(struct staging_upload *upload, bool is_last, bool is_question,
                        struct error *error) {
    static const int also[] = {308, 404, 410, 412, 408, 429, 500, 502, 503, 504, 0};
    char field[120], range[64] = "", total[32] = "*";
    cleanup_api_answer struct api_answer answer = {0};
    struct client_field wanted = {"Range", range, sizeof range, false};
    size_t length = is_question ? 0 : upload->length;
    uint64_t has;
    if (is_last)
        snprintf(total, sizeof total, "%" PRIu64, upload->offset + upload->length);
    if (length == 0)
        snprintf(field, sizeof field, "Content-Range: bytes */%s", total);
    else
        snprintf(field, sizeof field, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%s",
                 upload->offset, upload->offset + length - 1, total);
    const struct api_call call = {.service = API_STORAGE,
                                  .method = "PUT",
                                  .path = upload->session,
                                  .body = {upload->chunk, length},
                                  .content_type = "application/gzip",
                                  .field = field,
                                  .once = true,
                                  .wanted = &wanted,
                                  .wanted_count = 1};
    if (!api_perform(upload->api, &call, also, &answer, error))
        return false;
    upload->lost = answer.status == 404 || answer.status == 410;
    if (upload->lost)
        return error_set(error, ERROR_CORRUPT, "Cloud Storage has dropped the upload");
    if (answer.status == 412) {
        upload->done = upload->was_there = true;
        return true;
    }
    if (answer.status == 308)
        return read_range(range, &has)
                   ? take_progress(upload, has, error)
                   : error_set(error, ERROR_UNAVAILABLE,
                               "Cloud Storage has said nonsense of the upload (Range: %s)", range);
    if (answer.status >= 400)
        return error_set(error, ERROR_UNAVAILABLE, "Cloud Storage answers %d", answer.status);
    upload->done = true;
    upload->length = 0;
    upload->answer = answer.body;
    answer.body = (struct buffer){0};
    return true;
}

static bool is_lasting(const struct error *error) {
    return error->kind == ERROR_CORRUPT || error->kind == ERROR_CLOSED ||
           error->kind == ERROR_MEMORY || error->kind == ERROR_DENIED ||
           error->kind == ERROR_INVALID || error->kind == ERROR_NOT_FOUND;
}

/* Sends the chunk, and all of the upload if `is_last`. */
static bool send_chunk(struct staging_upload *upload, bool is_last, struct error *error) {
    struct error why = {0};
    bool is_question = false;
    for (unsigned failures = 0; !upload->done && (upload->length > 0 || is_last);) {
        uint64_t before = upload->offset;
        if (ask_session(upload, is_last, is_question, &why)) {
            /* What the service did not take is sent again, but not for ever. */
            failures = upload->offset > before ? 0 : failures + 1;
            is_question = false;
        } else {
            failures++;
            is_question = true;
        }
        if (why.kind != ERROR_NONE && is_lasting(&why))
            break;
        if (failures > ATTEMPTS)
            break;
        if (is_question || failures > 1) {
            if (!cancel_sleep(api_cancel(upload->api), clock_ms() + retry_backoff_ms(failures),
                              &why))
                break;
        } else
            error_clear(&why);
    }
    if (upload->done || (!is_last && upload->length == 0))
        return true;
    if (why.kind == ERROR_NONE)
        error_set(&why, ERROR_UNAVAILABLE, "Cloud Storage takes no more bytes");
    if (error)
        *error = why;
    return error_wrap(error, "upload to gs://%s/%s", upload->bucket, upload->object);
}

bool staging_write(struct staging_upload *upload, const void *bytes, size_t length,
                   struct error *error) {
    const char *at = bytes;
    while (length > 0 && !upload->done) {
        size_t room = STAGING_CHUNK - upload->length, some = length < room ? length : room;
        memcpy(upload->chunk + upload->length, at, some);
        upload->length += some;
        at += some;
        length -= some;
        if (upload->length == STAGING_CHUNK && !send_chunk(upload, false, error))
            return false;
    }
    return true;
}

bool staging_finish(struct staging_upload *upload, char generation[static STAGING_GENERATION_SIZE],
                    struct error *error) {
    bool found = true;
    if (!send_chunk(upload, true, error))
        return false;
    if (!upload->was_there)
        return read_generation(&upload->answer, generation, error);
    return staging_find(upload->api, upload->bucket, upload->object, &found, generation, error) &&
           (found ||
            error_set(error, ERROR_UNAVAILABLE, "gs://%s/%s was there a moment ago, and is gone",
                      upload->bucket, upload->object));
}
