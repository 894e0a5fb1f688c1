/* A folder as the context of a build. */
#include "build/context.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/siphash.h"
#include "build/ignore.h"
#include "copy/pack.h"

enum { INCLUDES_LIMIT = 10 };

struct context {
    struct context_settings settings;
    char *folder, *dockerfile;      /* owned */
    struct ignore *docker, *gcloud; /* NULL: there is no such file */
    struct siphash_key key;
    struct digest digest; /* of the first reading */
    /* A hash of each entry of the first reading, by which the second one finds what has changed. */
    uint64_t *marks;
    size_t count, capacity;
};

/* ---- the ignore files ---- */

/* Reads a file of the folder, the caller's to free; *bytes NULL: there is no such file. */
static bool read_file(const struct context *context, const char *name, char **bytes, size_t *length,
                      struct error *error) {
    cleanup_buffer struct buffer path = {0};
    struct error why = {0};
    buffer_printf(&path, "%s/%s", context->folder, name);
    if (path.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    *bytes = file_read_small(path.bytes, IGNORE_FILE_LIMIT, FILE_REGULAR, length, NULL, &why);
    if (*bytes || why.kind == ERROR_NOT_FOUND)
        return true;
    if (error)
        *error = why;
    return error_wrap(error, "%s", path.bytes);
}

static bool read_gcloudignore(struct context *context, const char *name, unsigned depth,
                              struct error *error);

/* Adds each line, or the patterns of the file that a line includes. */
static bool add_lines(struct context *context, const char *name, struct text bytes, unsigned depth,
                      struct error *error) {
    static const char include[] = "#!include:";
    for (unsigned number = 1; bytes.at && bytes.length > 0; number++) {
        struct text line = text_cut(bytes, '\n', &bytes);
        char other[IGNORE_PATTERN_LIMIT];
        bool ok = true;
        if (!text_starts(line, include))
            ok = ignore_add(context->gcloud, line, error);
        else if (!text_copy(text_trim(text_from(line, strlen(include))), other, sizeof other) ||
                 strchr(other, '/') || depth == INCLUDES_LIMIT)
            ok = error_set(error, ERROR_INVALID,
                           "#!include: names a file beside it, and not itself");
        else
            ok = read_gcloudignore(context, other, depth + 1, error);
        if (!ok)
            return error_wrap(error, "%s:%u", name, number);
    }
    return true;
}

static bool read_gcloudignore(struct context *context, const char *name, unsigned depth,
                              struct error *error) {
    size_t length;
    cleanup_free char *bytes = NULL;
    if (!read_file(context, name, &bytes, &length, error))
        return false;
    if (!bytes)
        return true;
    if (!context->gcloud && !(context->gcloud = ignore_new(IGNORE_AS_GIT)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return add_lines(context, name, (struct text){bytes, length}, depth, error);
}

/* Reads `name` as Docker's patterns. *found: it is there. */
static bool read_dockerignore(struct context *context, const char *name, bool *found,
                              struct error *error) {
    size_t length;
    cleanup_free char *bytes = NULL;
    if (!read_file(context, name, &bytes, &length, error))
        return false;
    *found = bytes != NULL;
    if (!bytes)
        return true;
    if (!(context->docker = ignore_new(IGNORE_AS_DOCKER)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return ignore_add_file(context->docker, name, (struct text){bytes, length}, error);
}

static bool read_ignore_files(struct context *context, struct error *error) {
    bool found = false;
    if (context->dockerfile) {
        cleanup_buffer struct buffer name = {0};
        buffer_printf(&name, "%s.dockerignore", context->dockerfile);
        if (name.failed)
            return error_set(error, ERROR_MEMORY, "out of memory");
        if (!read_dockerignore(context, name.bytes, &found, error))
            return false;
    }
    return (found || read_dockerignore(context, ".dockerignore", &found, error)) &&
           (!context->settings.reads_gcloudignore ||
            read_gcloudignore(context, ".gcloudignore", 0, error));
}

/* ---- opening ---- */

static bool check_folder(const struct context *context, struct error *error) {
    struct stat status;
    cleanup_buffer struct buffer path = {0};
    bool is_there = stat(context->folder, &status) == 0;
    if (!is_there && errno != ENOENT)
        return error_set_errno(error, errno, "%s: cannot read the folder", context->folder);
    if (!is_there || !S_ISDIR(status.st_mode))
        return error_set(error, ERROR_NOT_FOUND, "%s: there is no such folder", context->folder);
    if (!context->dockerfile)
        return true;
    buffer_printf(&path, "%s/%s", context->folder, context->dockerfile);
    if (path.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return (lstat(path.bytes, &status) == 0 &&
            (S_ISREG(status.st_mode) || S_ISLNK(status.st_mode))) ||
           error_set(error, ERROR_NOT_FOUND, "%s has no %s: name the Dockerfile with --file",
                     context->folder, context->dockerfile);
}

struct context *context_open(const struct context_settings *settings, struct error *error) {
    struct context *context = calloc(1, sizeof *context);
    if (!context) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    context->settings = *settings;
    context->folder = strdup(settings->folder);
    context->dockerfile = settings->dockerfile ? strdup(settings->dockerfile) : NULL;
    siphash_key_fill(&context->key);
    if (!context->folder || (settings->dockerfile && !context->dockerfile))
        error_set(error, ERROR_MEMORY, "out of memory");
    else if (check_folder(context, error) && read_ignore_files(context, error))
        return context;
    context_close(context);
    return NULL;
}

void context_close(struct context *context) {
    if (!context)
        return;
    ignore_free(context->docker);
    ignore_free(context->gcloud);
    free(context->folder);
    free(context->dockerfile);
    free(context->marks);
    free(context);
}

/* ---- one reading ---- */

struct reading {
    struct context *context;
    struct context_sum *sum; /* NULL: the second reading */
    struct digest_hash *hash;
    size_t next; /* the entry that comes, in the second reading */
};

static bool is_always_sent(const struct context *context, const char *path) {
    return strcmp(path, ".dockerignore") == 0 ||
           (context->dockerfile && strcmp(path, context->dockerfile) == 0);
}

/* Whether a symlink leads out of the folder that `path` is below. */
static bool leads_out(const char *path, const char *target) {
    long depth = 0;
    for (const char *at = path; (at = strchr(at, '/')); at++)
        depth++;
    if (target[0] == '/')
        return true;
    for (struct text rest = text_of(target); rest.at;) {
        struct text part = text_cut(rest, '/', &rest);
        if (text_is(part, ".."))
            depth--;
        else if (part.length > 0 && !text_is(part, "."))
            depth++;
        if (depth < 0)
            return true;
    }
    return false;
}

/* What an entry is, as far as it shows without reading its content. */
static uint64_t mark_of(const struct context *context, const struct pack_candidate *candidate) {
    struct {
        uint64_t size, inode, path;
        int64_t changed_s, changed_ns;
        uint64_t mode;
    } facts = {0};
    bool is_folder = S_ISDIR(candidate->status->st_mode);
    facts.path = siphash_of(&context->key, candidate->path, strlen(candidate->path));
    facts.mode = candidate->status->st_mode;
    if (!is_folder) {
        facts.size = (uint64_t)candidate->status->st_size;
        facts.inode = candidate->status->st_ino;
        facts.changed_s = candidate->status->st_ctim.tv_sec;
        facts.changed_ns = candidate->status->st_ctim.tv_nsec;
    }
    return siphash_of(&context->key, &facts, sizeof facts);
}

static bool keep_mark(struct context *context, uint64_t mark, struct error *error) {
    if (context->count == CONTEXT_ENTRIES_LIMIT)
        return error_set(error, ERROR_UNSUPPORTED,
                         "the context has more than %d entries: leave some out with .dockerignore",
                         CONTEXT_ENTRIES_LIMIT);
    if (context->count == context->capacity) {
        size_t capacity = context->capacity ? 2 * context->capacity : 1024;
        uint64_t *marks = reallocarray(context->marks, capacity, sizeof *marks);
        if (!marks)
            return error_set(error, ERROR_MEMORY, "out of memory");
        context->marks = marks;
        context->capacity = capacity;
    }
    context->marks[context->count++] = mark;
    return true;
}

static bool refuse_changed(const struct pack_candidate *candidate, struct error *error) {
    return error_set(error, ERROR_CORRUPT,
                     "%.400s has changed while the context was sent: build again when nobody "
                     "writes to the folder",
                     candidate->path);
}

/* Notes an entry that is packed next. */
static bool note(struct reading *reading, const struct pack_candidate *candidate,
                 struct error *error) {
    struct context *context = reading->context;
    const uint64_t mark = mark_of(context, candidate);
    if (reading->sum) {
        reading->sum->files += !S_ISDIR(candidate->status->st_mode);
        if (S_ISREG(candidate->status->st_mode))
            reading->sum->bytes += (uint64_t)candidate->status->st_size;
        return keep_mark(context, mark, error);
    }
    size_t next = reading->next++;
    return (next < context->count && context->marks[next] == mark) ||
           refuse_changed(candidate, error);
}

static bool is_left_out(const struct context *context, const char *path, bool is_folder) {
    return (context->docker && ignore_matches(context->docker, path, is_folder)) ||
           (context->gcloud && ignore_matches(context->gcloud, path, is_folder));
}

/* Whether something below a folder that is left out may be sent all the same. */
static bool may_hold_some(const struct context *context, const char *path) {
    size_t length = strlen(path);
    const char *always = context->dockerfile;
    if (always && strncmp(always, path, length) == 0 && always[length] == '/')
        return true;
    return !(context->gcloud && ignore_matches(context->gcloud, path, true)) && context->docker &&
           !ignore_is_final(context->docker, path);
}

static enum pack_verdict judge(void *state, const struct pack_candidate *candidate,
                               struct error *error) {
    struct reading *reading = state;
    const struct context *context = reading->context;
    bool is_folder = S_ISDIR(candidate->status->st_mode);
    if (!is_always_sent(context, candidate->path) &&
        is_left_out(context, candidate->path, is_folder))
        return is_folder && may_hold_some(context, candidate->path) ? PACK_ENTER : PACK_LEAVE_OUT;
    if (candidate->target && !context->settings.keeps_symlinks &&
        leads_out(candidate->path, candidate->target)) {
        error_set(error, ERROR_INVALID,
                  "the symlink leads out of the context, to %.200s: leave it out with "
                  ".dockerignore, or send it as it is with --keep-symlinks",
                  candidate->target);
        return PACK_REFUSE;
    }
    return PACK_TAKE;
}

static bool on_entry(void *state, const struct pack_candidate *candidate, struct error *error) {
    return note(state, candidate, error);
}

static bool write_hashed(void *state, const void *bytes, size_t length, struct error *error) {
    struct reading *reading = state;
    (void)error;
    digest_hash_update(reading->hash, bytes, length);
    return true;
}

static bool read_folder(struct reading *reading, const struct sink *sink, struct error *error) {
    const struct pack_filter filter = {reading, judge, on_entry};
    const struct pack_settings settings = {
        .time = CONTEXT_TIME, .is_no_layer = true, .filter = &filter};
    return pack_folder(reading->context->folder, "", &settings, sink, error);
}

/* ---- the names alone ---- */

struct listing {
    struct context *context;
    bool (*on_path)(void *receiver, const char *path);
    void *receiver;
};

/* Tells of a file and has it left out, so that nothing is read. */
static enum pack_verdict judge_listed(void *state, const struct pack_candidate *candidate,
                                      struct error *error) {
    const struct listing *listing = state;
    bool is_folder = S_ISDIR(candidate->status->st_mode);
    if (!is_always_sent(listing->context, candidate->path) &&
        is_left_out(listing->context, candidate->path, is_folder))
        return is_folder && may_hold_some(listing->context, candidate->path) ? PACK_ENTER
                                                                             : PACK_LEAVE_OUT;
    if (is_folder)
        return PACK_ENTER;
    if (listing->on_path(listing->receiver, candidate->path))
        return PACK_LEAVE_OUT;
    error_set(error, ERROR_MEMORY, "out of memory");
    return PACK_REFUSE;
}

static bool write_nowhere(void *context, const void *bytes, size_t length, struct error *error) {
    (void)context, (void)bytes, (void)length, (void)error;
    return true;
}

bool context_list(struct context *context, bool (*on_path)(void *receiver, const char *path),
                  void *receiver, struct error *error) {
    struct listing listing = {context, on_path, receiver};
    const struct pack_filter filter = {&listing, judge_listed, NULL};
    const struct pack_settings settings = {
        .time = CONTEXT_TIME, .is_no_layer = true, .filter = &filter};
    const struct sink sink = {write_nowhere, NULL};
    return pack_folder(context->folder, "", &settings, &sink, error);
}

/* ---- both readings ---- */

bool context_measure(struct context *context, struct context_sum *sum, struct error *error) {
    struct reading reading = {.context = context, .sum = sum};
    const struct sink sink = {write_hashed, &reading};
    context->count = 0;
    *sum = (struct context_sum){0};
    reading.hash = digest_hash_new(DIGEST_SHA256);
    if (!reading.hash)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool ok = read_folder(&reading, &sink, error);
    digest_hash_finish(reading.hash, &sum->digest);
    digest_hash_free(reading.hash);
    context->digest = sum->digest;
    return ok;
}

static bool refuse_other(const struct context *context, struct error *error) {
    return error_set(error, ERROR_CORRUPT,
                     "%s has changed while the context was sent: build again when nobody writes to "
                     "the folder",
                     context->folder);
}

bool context_write(struct context *context, const struct sink *sink, struct error *error) {
    struct reading reading = {.context = context};
    return read_folder(&reading, sink, error) &&
           (reading.next == context->count || refuse_other(context, error));
}

bool context_check(const struct context *context, const struct digest *digest,
                   struct error *error) {
    return digest_equal(digest, &context->digest) || refuse_other(context, error);
}
