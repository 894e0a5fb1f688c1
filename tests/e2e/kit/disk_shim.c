/*
 * Loaded before libc (LD_PRELOAD): the disk below one folder fails when it is told to, and what is
 * done to it is written down in the order in which it was done. See disk_shim.py.
 *
 *   DISK_SHIM_CONTROL  a file of 4096 bytes, shared: for each kind of call an errno (0: none), how
 *                      many calls go well before, how many came and how many failed; from byte
 *                      1024 the folder below which all this is
 *   DISK_SHIM_TRACE    a file that gets one line a change; may be absent
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum kind { WRITE, SYNC, READ, CREATE, RENAME, SENDFILE, KINDS };

struct control {
    struct {
        _Atomic int error, skip, calls, failed;
    } of[KINDS];
};

static struct control *control;
static const char *folder = "";
static int trace = -1;

__attribute__((constructor)) static void load(void) {
    const char *path = getenv("DISK_SHIM_CONTROL");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
    if (fd >= 0) {
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED) {
            control = page;
            folder = (const char *)page + 1024;
        }
        close(fd);
    }
    path = getenv("DISK_SHIM_TRACE");
    if (path)
        trace = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
                             0600);
}

/* The path behind a descriptor and a name; false when it is not below the folder. */
static bool below(int fd, const char *name, char out[static 4096]) {
    char link[64];
    size_t length = 0;
    if (!control || !*folder)
        return false;
    if (!name || (name[0] != '/' && fd != AT_FDCWD)) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t got = readlink(link, out, 2048);
        if (got <= 0)
            return false;
        length = (size_t)got;
    }
    out[length] = '\0';
    if (name)
        snprintf(out + length, 2048, "%s%s", length ? "/" : "", name);
    size_t folder_length = strlen(folder);
    return strncmp(out, folder, folder_length) == 0 &&
           (out[folder_length] == '/' || out[folder_length] == '\0');
}

/* Whether this call is one that fails; errno is then set. */
static bool fails(enum kind kind) {
    atomic_fetch_add(&control->of[kind].calls, 1);
    int error = atomic_load(&control->of[kind].error);
    if (!error || atomic_fetch_sub(&control->of[kind].skip, 1) > 0)
        return false;
    atomic_fetch_add(&control->of[kind].failed, 1);
    errno = error;
    return true;
}

static void note(const char *what, const char *path, const char *to) {
    char line[8300];
    int keep = errno;
    if (trace < 0)
        return;
    int length =
        snprintf(line, sizeof line, "%s\t%s%s%s\n", what, path, to ? "\t" : "", to ? to : "");
    syscall(SYS_write, trace, line, (size_t)length);
    errno = keep;
}

static ssize_t written(int fd, ssize_t result, const char *path, bool is_ours) {
    if (is_ours && result > 0)
        note("write", path, NULL);
    (void)fd;
    return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    char path[4096];
    bool ours = below(fd, NULL, path);
    if (ours && fails(WRITE))
        return -1;
    return written(fd, syscall(SYS_pwrite64, fd, bytes, length, offset), path, ours);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[4096];
    bool ours = below(fd, NULL, path);
    if (ours && fails(WRITE))
        return -1;
    return written(fd, syscall(SYS_write, fd, bytes, length), path, ours);
}

int ftruncate64(int fd, off64_t length) {
    char path[4096];
    bool ours = below(fd, NULL, path);
    if (ours && fails(WRITE))
        return -1;
    int result = (int)syscall(SYS_ftruncate, fd, length);
    if (ours && result == 0)
        note("write", path, NULL);
    return result;
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

static int synced(long number, int fd) {
    char path[4096];
    bool ours = below(fd, NULL, path);
    if (ours && fails(SYNC))
        return -1;
    int result = (int)syscall(number, fd);
    if (ours && result == 0)
        note("sync", path, NULL);
    return result;
}

int fsync(int fd) {
    return synced(SYS_fsync, fd);
}

int fdatasync(int fd) {
    return synced(SYS_fdatasync, fd);
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t offset) {
    char path[4096];
    if (below(fd, NULL, path) && fails(READ))
        return -1;
    return syscall(SYS_pread64, fd, bytes, length, offset);
}

ssize_t pread(int fd, void *bytes, size_t length, off_t offset) {
    return pread64(fd, bytes, length, offset);
}

ssize_t __pread64_chk(int fd, void *bytes, size_t length, off64_t offset, size_t room) {
    return length <= room ? pread64(fd, bytes, length, offset) : (abort(), -1);
}

ssize_t read(int fd, void *bytes, size_t length) {
    char path[4096];
    if (below(fd, NULL, path) && fails(READ))
        return -1;
    return syscall(SYS_read, fd, bytes, length);
}

ssize_t __read_chk(int fd, void *bytes, size_t length, size_t room) {
    return length <= room ? read(fd, bytes, length) : (abort(), -1);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t length) {
    char path[4096];
    if (below(from, NULL, path) && fails(SENDFILE))
        return -1;
    return syscall(SYS_sendfile, to, from, offset, length);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t length) {
    return sendfile64(to, from, offset, length);
}

int openat64(int directory, const char *name, int flags, ...) {
    char path[4096];
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    bool writes = (flags & O_ACCMODE) != O_RDONLY && below(directory, name, path);
    if (writes && fails(CREATE))
        return -1;
    struct stat state;
    bool is_new = writes && flags & O_CREAT && fstatat(directory, name, &state, 0) != 0;
    int fd = (int)syscall(SYS_openat, directory, name, flags, mode);
    if (is_new && fd >= 0)
        note("create", path, NULL);
    return fd;
}

int openat(int directory, const char *name, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return openat64(directory, name, flags, mode);
}

int __openat64_2(int directory, const char *name, int flags) {
    return openat64(directory, name, flags);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    char from_path[4096], to_path[4096];
    bool ours = below(from_directory, from, from_path) && below(to_directory, to, to_path);
    if (ours && fails(RENAME))
        return -1;
    int result = (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, 0);
    if (ours && result == 0)
        note("rename", from_path, to_path);
    return result;
}

int rename(const char *from, const char *to) {
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int unlinkat(int directory, const char *name, int flags) {
    char path[4096];
    /* Before it is done, which takes a while for a large file: who is killed in the middle would
     * otherwise seem to have it still. */
    if (below(directory, name, path))
        note("unlink", path, NULL);
    return (int)syscall(SYS_unlinkat, directory, name, flags);
}

int mkdirat(int directory, const char *name, mode_t mode) {
    char path[4096];
    bool ours = below(directory, name, path);
    if (ours && fails(CREATE))
        return -1;
    int result = (int)syscall(SYS_mkdirat, directory, name, mode);
    if (ours && result == 0)
        note("mkdir", path, NULL);
    return result;
}
