/*
 * Makes tarn's own calls fail. The linker redirects them to the functions here (--wrap in
 * meson.build). Also an upstream whose own calls never fail.
 */
#include "cache_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include "base/json.h"
#include "store/partials.h"

/* ---- the faults ---- */

struct fault fault;
_Thread_local int fault_exempt;
const unsigned char *fault_recorded_bytes;
atomic_bool fault_recorded_falsely, fault_has_referrers;

/* Memory files are not on the disk: a full disk does not make them fail. */
enum { DESCRIPTORS = 1024 };
static atomic_bool is_memory[DESCRIPTORS];

static bool on_disk(int fd) {
    return fd < 0 || fd >= DESCRIPTORS || !atomic_load(&is_memory[fd]);
}

static bool fails(unsigned what) {
    if (!atomic_load(&fault.armed) || fault_exempt || !(fault.what & what))
        return false;
    int call = atomic_fetch_add(&fault.calls, 1) + 1;
    if (call != fault.nth && call != fault.second && !(fault.lasting && call > fault.nth))
        return false;
    errno = what & FAULT_MEMORY ? ENOMEM : what & FAULT_THREAD ? EAGAIN : fault.reason;
    return true;
}

#define WRAPPED(result, name, ...)                                                                 \
    result __real_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__)

WRAPPED(void *, malloc, size_t size) {
    return fails(FAULT_MEMORY) ? NULL : __real_malloc(size);
}
WRAPPED(void *, calloc, size_t count, size_t size) {
    return fails(FAULT_MEMORY) ? NULL : __real_calloc(count, size);
}
WRAPPED(void *, realloc, void *old, size_t size) {
    return fails(FAULT_MEMORY) ? NULL : __real_realloc(old, size);
}
WRAPPED(char *, strdup, const char *text) {
    return fails(FAULT_MEMORY) ? NULL : __real_strdup(text);
}
WRAPPED(char *, strndup, const char *text, size_t length) {
    return fails(FAULT_MEMORY) ? NULL : __real_strndup(text, length);
}
WRAPPED(int, posix_memalign, void **out, size_t alignment, size_t size) {
    return fails(FAULT_MEMORY) ? ENOMEM : __real_posix_memalign(out, alignment, size);
}
WRAPPED(EVP_MD_CTX *, EVP_MD_CTX_new, void) {
    return fails(FAULT_MEMORY) ? NULL : __real_EVP_MD_CTX_new();
}
WRAPPED(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes,
        void *(*run)(void *), void *argument) {
    return fails(FAULT_THREAD) ? EAGAIN : __real_pthread_create(thread, attributes, run, argument);
}
WRAPPED(int, openat64, int directory, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    bool makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    int mode = makes ? va_arg(arguments, int) : 0;
    va_end(arguments);
    if (fails(FAULT_OPEN | (makes ? FAULT_DISK_WRITE : FAULT_DISK_READ)))
        return -1;
    return makes ? __real_openat64(directory, path, flags, mode)
                 : __real_openat64(directory, path, flags);
}
WRAPPED(int, fstat64, int fd, struct stat *out) {
    return fails(FAULT_DISK_READ) ? -1 : __real_fstat64(fd, out);
}
WRAPPED(int, fstatat64, int directory, const char *path, struct stat *out, int flags) {
    return fails(FAULT_DISK_READ) ? -1 : __real_fstatat64(directory, path, out, flags);
}
WRAPPED(int, faccessat, int directory, const char *path, int mode, int flags) {
    return fails(FAULT_DISK_READ) ? -1 : __real_faccessat(directory, path, mode, flags);
}
WRAPPED(ssize_t, pread64, int fd, void *bytes, size_t length, off_t at) {
    return on_disk(fd) && fails(FAULT_DISK_READ) ? -1 : __real_pread64(fd, bytes, length, at);
}
WRAPPED(ssize_t, read, int fd, void *bytes, size_t length) {
    return fails(FAULT_DISK_READ) ? -1 : __real_read(fd, bytes, length);
}
WRAPPED(ssize_t, pwrite64, int fd, const void *bytes, size_t length, off_t at) {
    if (!on_disk(fd) || !fails(FAULT_DISK_WRITE))
        return __real_pwrite64(fd, bytes, length, at);
    int reason = errno;
    if (fault.nth % 2 &&
        length > 1) /* a disk that becomes full during a write keeps the first half */
        return __real_pwrite64(fd, bytes, length / 2, at);
    errno = reason;
    return -1;
}
WRAPPED(ssize_t, write, int fd, const void *bytes, size_t length) {
    return fails(FAULT_DISK_WRITE) ? -1 : __real_write(fd, bytes, length);
}
/* These tests do not simulate a crash of the machine, so nothing is really synced. */
WRAPPED(int, fsync, int fd) {
    (void)fd;
    return fails(FAULT_DISK_WRITE) ? -1 : 0;
}
WRAPPED(int, fdatasync, int fd) {
    (void)fd;
    return fails(FAULT_DISK_WRITE) ? -1 : 0;
}
WRAPPED(int, ftruncate64, int fd, off_t length) {
    return fails(FAULT_DISK_WRITE) ? -1 : __real_ftruncate64(fd, length);
}
WRAPPED(int, fallocate64, int fd, int mode, off_t at, off_t length) {
    return on_disk(fd) && fails(FAULT_DISK_WRITE) ? -1 : __real_fallocate64(fd, mode, at, length);
}
WRAPPED(int, renameat, int from_directory, const char *from, int to_directory, const char *to) {
    return fails(FAULT_DISK_WRITE) ? -1 : __real_renameat(from_directory, from, to_directory, to);
}
WRAPPED(int, mkdirat, int directory, const char *path, mode_t mode) {
    return fails(FAULT_DISK_WRITE) ? -1 : __real_mkdirat(directory, path, mode);
}
WRAPPED(int, unlinkat, int directory, const char *path, int flags) {
    return fails(FAULT_DISK_WRITE) ? -1 : __real_unlinkat(directory, path, flags);
}
WRAPPED(int, futimens, int fd, const struct timespec times[2]) {
    return fails(FAULT_DISK_WRITE) ? -1 : __real_futimens(fd, times);
}
WRAPPED(int, memfd_create, const char *name, unsigned flags) {
    int fd = fails(FAULT_MEMORY) ? -1 : __real_memfd_create(name, flags);
    if (fd >= 0 && fd < DESCRIPTORS)
        atomic_store(&is_memory[fd], true);
    return fd;
}
WRAPPED(int, close, int fd) {
    if (fd >= 0 && fd < DESCRIPTORS)
        atomic_store(&is_memory[fd], false);
    return __real_close(fd);
}
WRAPPED(int, fcntl64, int fd, int command, ...) {
    va_list arguments;
    va_start(arguments, command);
    long argument = va_arg(arguments, long);
    va_end(arguments);
    if (command == F_DUPFD_CLOEXEC && fails(FAULT_DISK_READ))
        return -1;
    return __real_fcntl64(fd, command, argument);
}

/* Bytes that a partial records must be on the disk, and not only in memory. */
static bool is_on_disk(int fd, uint64_t start, uint64_t end) {
    static _Thread_local unsigned char step[64 << 10];
    while (fault_recorded_bytes && start < end) {
        size_t want = end - start < sizeof step ? end - start : sizeof step;
        ssize_t got = __real_pread64(fd, step, want, (off_t)start);
        if (got <= 0 || memcmp(step, fault_recorded_bytes + start, (size_t)got) != 0)
            return false;
        start += (uint64_t)got;
    }
    return true;
}

WRAPPED(bool, partial_record, struct partial *partial, uint64_t start, uint64_t end,
        struct error *error) {
    if (!is_on_disk(partial_fd(partial), start, end))
        atomic_store(&fault_recorded_falsely, true);
    return __real_partial_record(partial, start, end, error);
}

static void *failing_json_malloc(size_t size) {
    return fails(FAULT_MEMORY) ? NULL : __real_malloc(size);
}

void fault_prepare(void) {
    client_pread = __real_pread64;
    bounded_json_watch(failing_json_malloc);
}

int fault_start_client(pthread_t *thread, struct client *client) {
    return __real_pthread_create(thread, NULL, client_read, client);
}

/* ---- the upstream ---- */

/* Callbacks into tarn: calls may fail there. */
static bool sink_head(void *context, const struct upstream_head *head, struct error *error) {
    const struct upstream_sink *sink = context;
    fault_exempt--;
    bool ok = sink->on_head(sink->context, head, error);
    fault_exempt++;
    return ok;
}

static bool sink_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    const struct upstream_sink *sink = context;
    fault_exempt--;
    bool ok = sink->on_bytes(sink->context, bytes, length, error);
    fault_exempt++;
    return ok;
}

static bool sink_idle(void *context, struct error *error) {
    const struct upstream_sink *sink = context;
    fault_exempt--;
    bool ok = !sink->on_idle || sink->on_idle(sink->context, error);
    fault_exempt++;
    return ok;
}

/* Tags in two pages, referrers in one. */
static bool serve_list(const struct upstream_request *request, const struct upstream_sink *sink,
                       struct error *error) {
    static const char *const pages[] = {"{\"name\":\"app\",\"tags\":[\"v2\",\"v1\"]}",
                                        "{\"name\":\"app\",\"tags\":[\"v3\",\"v2\"]}"};
    static const char referrers[] = "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"a\","
                                    "\"digest\":\"b\",\"size\":1}]}";
    struct upstream_head head = {.status = 200};
    const char *body = referrers;
    if (request->what == UPSTREAM_TAGS) {
        body = pages[request->page != NULL];
        if (!request->page)
            strcpy(head.next, "/v2/app/tags/list?last=v2");
    } else if (!atomic_load(&fault_has_referrers)) {
        error_set(error, ERROR_NOT_FOUND, "no such endpoint");
        error->status = 404;
        return false;
    }
    return sink_head((void *)sink, &head, error) &&
           sink_bytes((void *)sink, body, strlen(body), error);
}

bool __real_upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                             const struct upstream_sink *sink, struct error *error);
bool __wrap_upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                             const struct upstream_sink *sink, struct error *error);
bool __wrap_upstream_perform(struct upstream *upstream, const struct upstream_request *request,
                             const struct upstream_sink *sink, struct error *error) {
    const struct upstream_sink guarded = {(void *)sink, sink_head, sink_bytes, sink_idle};
    fault_exempt++;
    bool ok =
        !upstream->fail && (request->what == UPSTREAM_TAGS || request->what == UPSTREAM_REFERRERS)
            ? serve_list(request, sink, error)
            : __real_upstream_perform(upstream, request, &guarded, error);
    fault_exempt--;
    return ok;
}
