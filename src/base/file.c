/* Small files in one piece, and whole reads and writes of descriptors. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"

/* ---- small files ---- */

static int open_to_read(const char *path, unsigned rules, struct error *error) {
    int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY;
    if (rules & FILE_REGULAR)
        flags |= O_NONBLOCK; /* opening a pipe must not wait for a writer */
    int fd = open(path, flags);
    if (fd >= 0)
        return fd;
    error_set_errno(error, errno, "cannot be read");
    if (error && (errno == ENOENT || errno == ENOTDIR))
        error->kind = ERROR_NOT_FOUND;
    return -1;
}

/* Reads until the end or until `size` bytes are there; -1: failed. */
static ssize_t read_up_to(int fd, char *bytes, size_t size) {
    size_t length = 0;
    while (length < size) {
        ssize_t got = read(fd, bytes + length, size - length);
        if (got == 0)
            break;
        if (got > 0)
            length += (size_t)got;
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)length;
}

char *file_read_open(int fd, size_t limit, unsigned rules, size_t *length, struct stat *status,
                     struct error *error) {
    struct stat found;
    if (fstat(fd, &found) < 0) {
        error_set_errno(error, errno, "cannot be read");
        return NULL;
    }
    if (status)
        *status = found;
    if ((rules & FILE_REGULAR) && !S_ISREG(found.st_mode)) {
        error_set(error, ERROR_INVALID, "is no regular file");
        return NULL;
    }
    const size_t size = limit + 1; /* one byte more shows that the file is too long */
    char *bytes = malloc(size + 1);
    if (!bytes) {
        error_set(error, ERROR_MEMORY, "cannot be read: out of memory");
        return NULL;
    }
    ssize_t got = read_up_to(fd, bytes, size);
    if (got < 0) {
        error_set_errno(error, errno, "cannot be read");
    } else if ((size_t)got > limit) {
        error_set(error, ERROR_INVALID, "is longer than %zu bytes", limit);
    } else if ((rules & FILE_TEXT) && memchr(bytes, '\0', (size_t)got)) {
        error_set(error, ERROR_INVALID, "holds a NUL byte");
    } else {
        bytes[got] = '\0';
        if (length)
            *length = (size_t)got;
        return bytes;
    }
    explicit_bzero(bytes, got < 0 ? size : (size_t)got);
    free(bytes);
    return NULL;
}

char *file_read_small(const char *path, size_t limit, unsigned rules, size_t *length,
                      struct stat *status, struct error *error) {
    cleanup_close int fd = open_to_read(path, rules, error);
    return fd < 0 ? NULL : file_read_open(fd, limit, rules, length, status, error);
}

/* ---- descriptors ---- */

ssize_t file_read_at(int fd, void *bytes, size_t length, uint64_t offset) {
    size_t done = 0;
    while (done < length) {
        ssize_t got = pread(fd, (char *)bytes + done, length - done, (off_t)(offset + done));
        if (got == 0)
            break;
        if (got > 0)
            done += (size_t)got;
        else if (errno != EINTR)
            return -1;
    }
    return (ssize_t)done;
}

bool file_read_all_at(int fd, void *bytes, size_t length, uint64_t offset, struct error *error) {
    ssize_t got = file_read_at(fd, bytes, length, offset);
    if (got < 0)
        return error_set_errno(error, errno, "cannot be read");
    return (size_t)got == length ||
           error_set(error, ERROR_IO, "ends at byte %llu, before byte %llu",
                     (unsigned long long)offset + (size_t)got, (unsigned long long)offset + length);
}

/* Sets the error of a write, and leaves errno as it was. */
static bool cannot_write(struct error *error) {
    int reason = errno;
    error_set_errno(error, reason, "cannot be written");
    errno = reason;
    return false;
}

/* Checks the result of write() or pwrite(). Returns how many bytes were written; 0: call it again;
 * -1: it failed. */
static ssize_t written_bytes(ssize_t result) {
    if (result > 0)
        return result;
    if (result < 0)
        return errno == EINTR ? 0 : -1;
    errno = EIO; /* no file returns 0; without an error the caller would repeat the call for ever */
    return -1;
}

bool file_write_all(int fd, const void *bytes, size_t length, struct error *error) {
    for (const char *at = bytes; length;) {
        ssize_t written = written_bytes(write(fd, at, length));
        if (written < 0)
            return cannot_write(error);
        at += written;
        length -= (size_t)written;
    }
    return true;
}

bool file_write_all_at(int fd, const void *bytes, size_t length, uint64_t offset,
                       struct error *error) {
    for (const char *at = bytes; length;) {
        ssize_t written = written_bytes(pwrite(fd, at, length, (off_t)offset));
        if (written < 0)
            return cannot_write(error);
        at += written;
        offset += (uint64_t)written;
        length -= (size_t)written;
    }
    return true;
}

/* ---- changes ---- */

static bool times_differ(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec != b->tv_sec || a->tv_nsec != b->tv_nsec;
}

bool file_identity_differs(const struct stat *a, const struct stat *b) {
    return a->st_dev != b->st_dev || a->st_ino != b->st_ino || a->st_size != b->st_size ||
           times_differ(&a->st_mtim, &b->st_mtim) || times_differ(&a->st_ctim, &b->st_ctim);
}

bool file_differs(const char *path, const struct stat *identity, bool *is_gone) {
    struct stat now;
    *is_gone = false;
    if (stat(path, &now) < 0) {
        *is_gone = errno == ENOENT || errno == ENOTDIR;
        return true; /* reading it again gives the reason */
    }
    return file_identity_differs(&now, identity);
}
