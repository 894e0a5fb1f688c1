/* What is written to the bucket about one digest: its bytes, links, tags, and the mark of its use.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "base/clock.h"
#include "cache/upload_private.h"
#include "store/blobs.h"
#include "store/records.h"

enum { LINK_LIMIT = 256 }; /* bytes of a link that is read */

/* ---- single requests ---- */

static enum errand_result failed(const struct bucket_answer *answer) {
    return answer->outcome == BUCKET_DOWN ? ERRAND_DOWN : ERRAND_FAILED;
}

/* Whether the object is there; *answer is then of a HEAD. */
static enum errand_result look(struct errand *errand, const char *key, bool *there,
                               struct bucket_answer *answer, struct error *error) {
    const struct bucket_limits limits = {.cancel = errand->cancel};
    *there = bucket_head(errand->settings->bucket, key, &limits, answer, error);
    return *there || answer->outcome == BUCKET_ABSENT ? ERRAND_DONE : failed(answer);
}

static enum errand_result put(struct errand *errand, const struct bucket_put *request,
                              struct bucket_answer *answer, struct error *error) {
    const struct bucket_limits limits = {.cancel = errand->cancel};
    bool ok = bucket_put(errand->settings->bucket, request, &limits, answer, error);
    return ok || answer->outcome == BUCKET_PRESENT ? ERRAND_DONE : failed(answer);
}

/* ---- the bytes ---- */

/* Only the 64 digits of a SHA-256 can be the hash that is signed. */
static const char *signed_hash(const struct digest *digest, char text[static DIGEST_STRING_SIZE]) {
    return digest->algorithm == DIGEST_SHA256 ? digest_format(digest, text) + strlen("sha256:")
                                              : NULL;
}

static enum errand_result put_whole(struct errand *errand, const struct client_body *body,
                                    bool overwrite, struct error *error) {
    char key[SHARE_KEY_SIZE], text[DIGEST_STRING_SIZE];
    struct bucket_answer answer;
    const struct bucket_put request = {
        .key = share_key_blob(key, &errand->digest),
        .body = *body,
        .sha256 = signed_hash(&errand->digest, text),
        .create_only = !overwrite,
    };
    enum errand_result result = put(errand, &request, &answer, error);
    if (result == ERRAND_DONE)
        metric_add(answer.outcome == BUCKET_PRESENT ? errand->present : errand->stored, 1);
    return result;
}

/* A large blob that may be there is looked for, before it is sent again. Takes over `fd` with
 * ERRAND_PARTS. */
static enum errand_result send_large(struct errand *errand, int fd, uint64_t size, bool overwrite,
                                     struct error *error) {
    char key[SHARE_KEY_SIZE];
    struct bucket_answer answer;
    bool there = false;
    enum errand_result result =
        overwrite ? ERRAND_DONE
                  : look(errand, share_key_blob(key, &errand->digest), &there, &answer, error);
    if (result != ERRAND_DONE)
        return result;
    if (there && answer.has_length && answer.length == size) {
        metric_add(errand->present, 1);
        return ERRAND_DONE;
    }
    const struct parts_source source = {.bucket = errand->settings->bucket,
                                        .digest = errand->digest,
                                        .size = size,
                                        .fd = fd,
                                        .overwrite = overwrite};
    errand->parts = parts_new(&source, errand->settings->part_size);
    if (errand->parts)
        errand->parts->is_recorded = true;
    else
        error_set(error, ERROR_MEMORY, "no memory to upload a blob");
    return errand->parts ? ERRAND_PARTS : ERRAND_FAILED;
}

/* Opens the blob, but does not keep it from being evicted: what a slow bucket takes is no reason
 * for that, and an open file can be read all the same. */
static int open_blob(struct errand *errand, uint64_t *size, struct error *error) {
    struct store *store = errand->settings->store;
    int held = store_blob_open(store, &errand->digest, size, error);
    if (held < 0)
        return -1;
    int fd = fcntl(held, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        error_set_errno(error, errno, "opening a blob");
    store_blob_close(store, &errand->digest, held);
    return fd;
}

/* Sends the blob from the store, or from memory. ERRAND_DROPPED: it is not there. */
static enum errand_result send_data(struct errand *errand, bool overwrite, struct error *error) {
    uint64_t size;
    int fd = open_blob(errand, &size, error);
    const bool is_held = fd < 0 && errand->bytes.length > 0;
    if (fd < 0 && !is_held)
        return error->kind == ERROR_NOT_FOUND ? ERRAND_DROPPED : ERRAND_FAILED;
    const struct client_body body =
        is_held ? (struct client_body){.bytes = errand->bytes.at, .length = errand->bytes.length}
                : (struct client_body){.fd = fd, .length = size};
    enum errand_result result = body.length > UPLOADS_WHOLE
                                    ? send_large(errand, fd, size, overwrite, error)
                                    : put_whole(errand, &body, overwrite, error);
    if (fd >= 0 && result != ERRAND_PARTS)
        close(fd);
    if (result == ERRAND_DONE) {
        errand->healed = overwrite;
        store_blob_set_marked(errand->settings->store, &errand->digest, clock_wall_s());
    }
    return result;
}

/* ---- links ---- */

struct link {
    const char *key, *content_type;
    bool replaces;  /* it may name another digest now */
    bool may_exist; /* it is looked for first, because reading costs less than writing */
};

static enum errand_result write_link(struct errand *errand, const struct link *link,
                                     struct error *error) {
    char text[DIGEST_STRING_SIZE];
    struct bucket_answer answer;
    bool there = false;
    if (link->may_exist) {
        enum errand_result result = look(errand, link->key, &there, &answer, error);
        if (result != ERRAND_DONE || there)
            return result;
    }
    digest_format(&errand->digest, text);
    const struct bucket_put request = {
        .key = link->key,
        .body = {.bytes = text, .length = strlen(text)},
        .content_type = link->content_type,
        .create_only = !link->replaces,
    };
    return put(errand, &request, &answer, error);
}

/* Whether the tag's link in the bucket names the digest already. */
static bool is_tagged(struct errand *errand, const struct pending_item *item) {
    char key[SHARE_KEY_SIZE];
    cleanup_buffer struct buffer bytes = {0};
    const struct bucket_limits limits = {.cancel = errand->cancel};
    struct digest digest;
    struct error ignored;
    return bucket_read(errand->settings->bucket, share_key_tag(key, &item->name, item->text),
                       LINK_LIMIT, &bytes, &limits, NULL, &ignored) &&
           share_parse_link((struct text){bytes.bytes, bytes.length}, &digest) &&
           digest_equal(&digest, &errand->digest);
}

/* Whether the tag still names the digest. If it has been moved or removed since, it is not for this
 * errand to write it. */
static bool is_current(struct errand *errand, const struct pending_item *item) {
    struct tag_record record;
    if (!store_tag_get(errand->settings->store, &item->name, item->text, &record))
        return errand->bytes.length > 0; /* the disk did not take the tag either */
    return digest_equal(&record.digest, &errand->digest);
}

static enum errand_result write_item(struct errand *errand, const struct pending_item *item,
                                     bool may_exist, struct error *error) {
    char key[SHARE_KEY_SIZE];
    struct link link = {.key = key, .may_exist = may_exist};
    switch (item->kind) {
    case PENDING_DATA:
    case PENDING_OVERWRITE:
        return ERRAND_DONE;
    case PENDING_BLOB:
        share_key_layer(key, &item->name, &errand->digest);
        break;
    case PENDING_MANIFEST:
        share_key_revision(key, &item->name, &errand->digest);
        link.content_type = item->text;
        break;
    case PENDING_TAG:
        share_key_tag(key, &item->name, item->text);
        link.replaces = true;
        link.may_exist = false; /* it was read before */
        if (!is_current(errand, item))
            return ERRAND_DONE;
        break;
    }
    return write_link(errand, &link, error);
}

/* ---- the whole errand ---- */

/* What a record is about. */
struct summary {
    bool data, overwrite;
    unsigned tags, tagged; /* of the tags, those whose links name the digest already: then what
                              they need is there */
};

static struct summary summarise(struct errand *errand) {
    struct summary summary = {0};
    struct text rest = errand->record;
    struct pending_item item;
    while (pending_next(&rest, &item)) {
        summary.data |= item.kind == PENDING_DATA;
        summary.overwrite |= item.kind == PENDING_OVERWRITE;
        summary.tags += item.kind == PENDING_TAG;
        summary.tagged += item.kind == PENDING_TAG && is_tagged(errand, &item);
    }
    return summary;
}

/* Makes sure that the bytes are in the bucket. *is_new: nothing can refer to them yet. */
static enum errand_result ensure_data(struct errand *errand, const struct summary *summary,
                                      bool *is_new, struct error *error) {
    char key[SHARE_KEY_SIZE];
    struct bucket_answer answer;
    bool there = false;
    *is_new = errand->has_data && !errand->was_run;
    if ((errand->has_data && !(errand->was_run && summary->overwrite)) ||
        (summary->tagged && !summary->overwrite))
        return ERRAND_DONE;
    if (!summary->data && !summary->overwrite) { /* it should be there */
        enum errand_result result =
            look(errand, share_key_blob(key, &errand->digest), &there, &answer, error);
        if (result != ERRAND_DONE || there)
            return result;
    }
    *is_new = true;
    return send_data(errand, summary->overwrite, error);
}

/* Whether the tag's link is right already. */
static bool is_done(struct errand *errand, const struct summary *summary,
                    const struct pending_item *item) {
    return summary->tagged == summary->tags || (summary->tagged && is_tagged(errand, item));
}

enum errand_result errand_run(struct errand *errand, struct error *error) {
    static const enum pending_kind order[] = {PENDING_BLOB, PENDING_MANIFEST, PENDING_TAG};
    const struct summary summary = summarise(errand);
    bool is_new;
    enum errand_result result = ensure_data(errand, &summary, &is_new, error);
    for (size_t i = 0; i < sizeof order / sizeof *order && result == ERRAND_DONE; i++) {
        struct text rest = errand->record;
        struct pending_item item;
        while (result == ERRAND_DONE && pending_next(&rest, &item)) {
            if (item.kind != order[i] ||
                (item.kind == PENDING_TAG && is_done(errand, &summary, &item)))
                continue;
            result = write_item(errand, &item, !is_new, error);
        }
    }
    if (result == ERRAND_FAILED)
        metric_add(errand->failed, 1);
    return result;
}

/* ---- marks ---- */

/* Whether the object is old enough for a (new) mark. *at_s: when it was written. */
static enum errand_result look_at_age(struct errand *errand, const char *key, int64_t *at_s,
                                      struct error *error) {
    struct bucket_answer answer;
    bool there;
    enum errand_result result = look(errand, key, &there, &answer, error);
    *at_s = result == ERRAND_DONE && there ? bucket_written_s(answer.date_s, answer.modified_s) : 0;
    return result;
}

static bool is_recent(const struct errand *errand, int64_t at_s) {
    return clock_wall_s() - at_s <= errand->settings->mark_period_s;
}

enum errand_result errand_mark(struct errand *errand, bool known, struct error *error) {
    struct store *store = errand->settings->store;
    char key[SHARE_KEY_SIZE];
    struct bucket_answer answer;
    int64_t at_s = 0;
    enum errand_result result = ERRAND_DONE;
    if (!known) {
        result = look_at_age(errand, share_key_blob(key, &errand->digest), &at_s, error);
        if (result == ERRAND_DONE && at_s == 0) /* the bucket has not the blob: nothing to mark */
            return ERRAND_DONE;
    }
    if (result == ERRAND_DONE && !is_recent(errand, at_s))
        result = look_at_age(errand, share_key_used(key, &errand->digest), &at_s, error);
    if (result != ERRAND_DONE) {
        store_blob_set_marked(store, &errand->digest, 0); /* the next use tries again */
        return result;
    }
    if (is_recent(errand, at_s)) {
        store_blob_set_marked(store, &errand->digest, at_s);
        return ERRAND_DONE;
    }
    const struct bucket_put request = {.key = share_key_used(key, &errand->digest),
                                       .body = {.bytes = ""}};
    result = put(errand, &request, &answer, error);
    if (result != ERRAND_DONE)
        store_blob_set_marked(store, &errand->digest, 0);
    return result;
}
