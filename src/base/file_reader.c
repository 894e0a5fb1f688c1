/* Reads files on threads of their own. */
#include "base/file_reader.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/thread.h"

enum reading_kind { READING, LOOKING, MEASURING };

/* One file that is being read, for all who want it now. */
struct reading {
    struct file_reader *reader; /* referenced */
    enum reading_kind kind;
    char *path;
    size_t limit; /* bytes of the file */
    int64_t began_ms;
    unsigned
        references; /* its thread's and its callers'; guarded by readings_lock, as is the rest */
    bool done;
    bool failed; /* `error` says why */
    char *bytes;
    size_t length;
    struct stat status;
    struct statvfs space;
    struct error error;
    struct reading *prev, *next;
};

struct file_reader {
    atomic_uint references; /* the owner's, and one of each reading */
    struct lock readings_lock;
    struct condition ended;
    struct reading *readings GUARDED_BY(readings_lock); /* those that are not done */
};

struct file_reader *file_reader_new(void) {
    struct file_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return NULL;
    atomic_init(&reader->references, 1);
    lock_init(&reader->readings_lock);
    condition_init(&reader->ended);
    return reader;
}

void file_reader_free(struct file_reader *reader) {
    if (!reader || atomic_fetch_sub(&reader->references, 1) > 1)
        return;
    condition_finish(&reader->ended);
    lock_finish(&reader->readings_lock);
    free(reader);
}

static struct reading *reading_new(struct file_reader *reader, enum reading_kind kind,
                                   const char *path, size_t limit) {
    struct reading *reading = calloc(1, sizeof *reading);
    if (!reading || !(reading->path = strdup(path))) {
        free(reading);
        return NULL;
    }
    atomic_fetch_add(&reader->references, 1);
    reading->reader = reader;
    reading->kind = kind;
    reading->limit = limit;
    reading->began_ms = clock_ms();
    reading->references = 2;
    return reading;
}

/* Gives back one reference. Releases the lock, because the last one may free the reader. */
static void release(struct file_reader *reader, struct reading *reading)
    RELEASE(reader->readings_lock);
static void release(struct file_reader *reader, struct reading *reading) {
    bool is_last = --reading->references == 0;
    lock_release(&reader->readings_lock);
    if (!is_last)
        return;
    if (reading->bytes)
        explicit_bzero(reading->bytes, reading->length);
    free(reading->bytes);
    free(reading->path);
    free(reading);
    file_reader_free(reader);
}

static bool look_at(const char *path, struct stat *status, struct error *error) {
    if (stat(path, status) == 0 && access(path, R_OK) == 0)
        return true;
    enum error_kind kind = errno == ENOENT || errno == ENOTDIR ? ERROR_NOT_FOUND : ERROR_IO;
    return error_set(error, kind, "%s", strerror(errno));
}

static bool measure(const char *path, struct statvfs *space, struct error *error) {
    return statvfs(path, space) == 0 ||
           error_set(error, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_IO, "%s", strerror(errno));
}

static void read_file(void *argument) {
    struct reading *reading = argument;
    struct file_reader *reader = reading->reader;
    struct error error = {0};
    struct stat status = {0};
    struct statvfs space = {0};
    char *bytes = NULL;
    size_t length = 0;
    bool ok = false;
    switch (reading->kind) {
    case READING:
        bytes =
            file_read_small(reading->path, reading->limit, FILE_REGULAR, &length, &status, &error);
        ok = bytes != NULL;
        break;
    case LOOKING:
        ok = look_at(reading->path, &status, &error);
        break;
    case MEASURING:
        ok = measure(reading->path, &space, &error);
        break;
    }
    lock_acquire(&reader->readings_lock);
    reading->bytes = bytes;
    reading->length = length;
    reading->status = status;
    reading->space = space;
    reading->error = error;
    reading->failed = !ok;
    reading->done = true;
    DL_DELETE(reader->readings, reading);
    condition_broadcast(&reader->ended);
    release(reader, reading);
}

/* The reading of the file under way, or a new one, referenced. NULL: no memory or thread. */
static struct reading *join(struct file_reader *reader, enum reading_kind kind, const char *path,
                            size_t limit, struct error *error) REQUIRES(reader->readings_lock);
static struct reading *join(struct file_reader *reader, enum reading_kind kind, const char *path,
                            size_t limit, struct error *error) {
    struct reading *reading;
    DL_FOREACH (reader->readings, reading) {
        if (reading->kind == kind && strcmp(reading->path, path) == 0 && reading->limit == limit) {
            reading->references++;
            return reading;
        }
    }
    reading = reading_new(reader, kind, path, limit);
    if (!reading) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    DL_APPEND(reader->readings, reading);
    if (thread_start_detached("file-reader", read_file, reading, error))
        return reading;
    DL_DELETE(reader->readings, reading);
    free(reading->path);
    free(reading);
    atomic_fetch_sub(&reader->references, 1);
    return NULL;
}

/* A copy of the bytes for one caller. */
static char *copy_bytes(const struct reading *reading, size_t *length, struct error *error) {
    char *copy = malloc(reading->length + 1);
    if (copy)
        memcpy(copy, reading->bytes, reading->length + 1);
    else
        error_set(error, ERROR_MEMORY, "out of memory");
    *length = reading->length;
    return copy;
}

/* Waits until the file is read, or long enough. False: it is not, and *error says why. */
static bool await_end(struct file_reader *reader, const struct reading *reading,
                      int64_t patience_ms, struct error *error) REQUIRES(reader->readings_lock);
static bool await_end(struct file_reader *reader, const struct reading *reading,
                      int64_t patience_ms, struct error *error) {
    int64_t until_ms = reading->began_ms + patience_ms;
    while (!reading->done && clock_ms() < until_ms)
        condition_wait_until(&reader->ended, &reader->readings_lock, until_ms);
    if (!reading->done)
        return error_set(error, ERROR_TIMEOUT, "its file system has not answered for %lld s",
                         (long long)(clock_ms() - reading->began_ms) / 1000);
    if (reading->failed && error)
        *error = reading->error;
    return !reading->failed;
}

char *file_reader_read(struct file_reader *reader, const char *path, size_t limit,
                       int64_t patience_ms, size_t *length, struct stat *status,
                       struct error *error) {
    char *bytes = NULL;
    lock_acquire(&reader->readings_lock);
    struct reading *reading = join(reader, READING, path, limit, error);
    if (!reading) {
        lock_release(&reader->readings_lock);
        return NULL;
    }
    if (await_end(reader, reading, patience_ms, error))
        bytes = copy_bytes(reading, length, error);
    if (bytes && status)
        *status = reading->status;
    release(reader, reading);
    return bytes;
}

/* Has nothing read. `status` or `space` is NULL. */
static bool ask(struct file_reader *reader, const char *path, int64_t patience_ms,
                struct stat *status, struct statvfs *space, struct error *error) {
    lock_acquire(&reader->readings_lock);
    struct reading *reading = join(reader, status ? LOOKING : MEASURING, path, 0, error);
    if (!reading) {
        lock_release(&reader->readings_lock);
        return false;
    }
    bool ok = await_end(reader, reading, patience_ms, error);
    if (status)
        *status = ok ? reading->status : (struct stat){0};
    if (space)
        *space = ok ? reading->space : (struct statvfs){0};
    release(reader, reading);
    return ok;
}

bool file_reader_look(struct file_reader *reader, const char *path, int64_t patience_ms,
                      struct stat *status, struct error *error) {
    return ask(reader, path, patience_ms, status, NULL, error);
}

bool file_reader_space(struct file_reader *reader, const char *path, int64_t patience_ms,
                       struct statvfs *space, struct error *error) {
    return ask(reader, path, patience_ms, NULL, space, error);
}
