/* The content of one file, read once and compared with what its status said. */
#include "copy/content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"

enum {
    STEP_MS = 20,
    HOLE_STEP = 64 << 20, /* bytes of a hole between two looks at the file */
};

/* ---- changes ---- */

bool content_is_fresh(const struct stat *status) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const int64_t age_ms = ((int64_t)now.tv_sec - status->st_ctim.tv_sec) * 1000 +
                           (now.tv_nsec - status->st_ctim.tv_nsec) / 1000000;
    return age_ms > -STEP_MS && age_ms < STEP_MS;
}

bool content_let_settle(int fd, struct stat *status) {
    clock_sleep_ms(STEP_MS);
    return fstat(fd, status) == 0;
}

static bool is_same_time(struct timespec a, struct timespec b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

bool content_changed(const char *how, struct error *error) {
    return error_set(error, ERROR_CORRUPT,
                     "it %s while it was read; pack a folder that nobody writes to", how);
}

static bool check_unchanged(int fd, const struct stat *then, struct error *error) {
    struct stat now;
    if (fstat(fd, &now) != 0)
        return error_set_errno(error, errno, "cannot read its status");
    if (now.st_size != then->st_size)
        return content_changed(now.st_size > then->st_size ? "grew" : "shrank", error);
    if (now.st_nlink == 0)
        return content_changed("vanished", error);
    if (!is_same_time(now.st_mtim, then->st_mtim) || !is_same_time(now.st_ctim, then->st_ctim))
        return content_changed("was written to, or its attributes were set,", error);
    return true;
}

/* ---- reading ---- */

/* Where the run of data ends that begins at `from`, or the hole. */
struct run {
    bool is_hole;
    uint64_t end;
};

static struct run find_run(int fd, uint64_t from, uint64_t size) {
    const off_t data = lseek(fd, (off_t)from, SEEK_DATA);
    if (data < 0) /* ENXIO: there is no data behind; else: the file system knows no holes */
        return (struct run){errno == ENXIO, size};
    if ((uint64_t)data > from)
        return (struct run){true, (uint64_t)data < size ? (uint64_t)data : size};
    const off_t hole = lseek(fd, (off_t)from, SEEK_HOLE);
    return (struct run){false, hole > data && (uint64_t)hole < size ? (uint64_t)hole : size};
}

static bool write_data(int fd, uint64_t from, uint64_t end, char *bytes, const struct sink *sink,
                       struct error *error) {
    while (from < end) {
        const size_t length =
            end - from < CONTENT_BUFFER_SIZE ? (size_t)(end - from) : CONTENT_BUFFER_SIZE;
        const ssize_t got = file_read_at(fd, bytes, length, from);
        if (got < 0)
            return error_set_errno(error, errno, "cannot read it");
        if ((size_t)got < length)
            return content_changed("shrank", error);
        if (!sink_write(sink, bytes, length, error))
            return false;
        from += length;
    }
    return true;
}

bool content_write(int fd, const struct stat *status, char *bytes, const struct sink *sink,
                   struct error *error) {
    const uint64_t size = (uint64_t)status->st_size;
    const bool has_holes = (uint64_t)status->st_blocks * 512 < size;
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    for (uint64_t at = 0; at < size;) {
        const struct run run = has_holes ? find_run(fd, at, size) : (struct run){false, size};
        const uint64_t end = run.is_hole && run.end - at > HOLE_STEP ? at + HOLE_STEP : run.end;
        if (!(run.is_hole ? sink_write_zeros(sink, end - at, error)
                          : write_data(fd, at, end, bytes, sink, error)))
            return false;
        /* What became a hole by a truncation meanwhile is not written to its end. */
        if (run.is_hole && end < size && !check_unchanged(fd, status, error))
            return false;
        at = end;
    }
    return check_unchanged(fd, status, error);
}
