/* Reads files on threads of their own. */
#include "base/file_reader.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/thread.h"

/* One file that is being read, for all who want it now. */
struct reading {
    struct file_reader *reader; /* referenced */
    char *path;
    size_t limit;
    int64_t began_ms;
    unsigned
        references; /* its thread's and its callers'; guarded by readings_lock, as is the rest */
    bool done;
    char *bytes; /* NULL: `error` says why */
    size_t length;
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

static struct reading *reading_new(struct file_reader *reader, const char *path, size_t limit) {
    struct reading *reading = calloc(1, sizeof *reading);
    if (!reading || !(reading->path = strdup(path))) {
        free(reading);
        return NULL;
    }
    atomic_fetch_add(&reader->references, 1);
    reading->reader = reader;
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
    free(reading->bytes);
    free(reading->path);
    free(reading);
    file_reader_free(reader);
}

static void read_file(void *argument) {
    struct reading *reading = argument;
    struct file_reader *reader = reading->reader;
    struct error error = {0};
    size_t length = 0;
    char *bytes =
        file_read_small(reading->path, reading->limit, FILE_REGULAR, &length, NULL, &error);
    lock_acquire(&reader->readings_lock);
    reading->bytes = bytes;
    reading->length = length;
    reading->error = error;
    reading->done = true;
    DL_DELETE(reader->readings, reading);
    condition_broadcast(&reader->ended);
    release(reader, reading);
}

/* The reading of the file under way, or a new one, referenced. NULL: no memory or thread. */
static struct reading *join(struct file_reader *reader, const char *path, size_t limit,
                            struct error *error) REQUIRES(reader->readings_lock);
static struct reading *join(struct file_reader *reader, const char *path, size_t limit,
                            struct error *error) {
    struct reading *reading;
    DL_FOREACH (reader->readings, reading) {
        if (strcmp(reading->path, path) == 0 && reading->limit == limit) {
            reading->references++;
            return reading;
        }
    }
    reading = reading_new(reader, path, limit);
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

static char *copy_bytes(const struct reading *reading, size_t *length, struct error *error) {
    if (!reading->bytes) {
        if (error)
            *error = reading->error;
        return NULL;
    }
    char *copy = malloc(reading->length + 1);
    if (copy)
        memcpy(copy, reading->bytes, reading->length + 1);
    else
        error_set(error, ERROR_MEMORY, "out of memory");
    *length = reading->length;
    return copy;
}

char *file_reader_read(struct file_reader *reader, const char *path, size_t limit,
                       int64_t patience_ms, size_t *length, struct error *error) {
    char *bytes = NULL;
    lock_acquire(&reader->readings_lock);
    struct reading *reading = join(reader, path, limit, error);
    if (!reading) {
        lock_release(&reader->readings_lock);
        return NULL;
    }
    int64_t until_ms = reading->began_ms + patience_ms;
    while (!reading->done && clock_ms() < until_ms)
        condition_wait_until(&reader->ended, &reader->readings_lock, until_ms);
    if (reading->done)
        bytes = copy_bytes(reading, length, error);
    else
        error_set(error, ERROR_TIMEOUT, "its file system has not answered for %lld s",
                  (long long)(clock_ms() - reading->began_ms) / 1000);
    release(reader, reading);
    return bytes;
}
