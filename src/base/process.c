/* Reads /proc/self and the resource usage. */
#include "base/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/metric.h"

enum { UPDATE_MS = 100 };

static void set(enum metric_type type, const char *name, const char *help, int64_t value) {
    metric_set(metric_get(type, name, help, ""), value);
}

/* Reads the beginning of a file of /proc. False: there is none. */
static bool read_text(const char *path, char *out, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, out, size - 1);
    if (fd >= 0)
        close(fd);
    out[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static void update_cpu(void) {
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    const struct timeval *user = &usage.ru_utime, *system = &usage.ru_stime;
    int64_t us =
        ((int64_t)user->tv_sec + system->tv_sec) * 1000000 + user->tv_usec + system->tv_usec;
    set(METRIC_SECONDS_COUNTER, "process_cpu_seconds_total",
        "CPU time of the process, user and system.", us);
}

static void update_memory(void) {
    char text[256];
    long long pages = 0, resident = 0;
    const long page = sysconf(_SC_PAGESIZE);
    if (read_text("/proc/self/statm", text, sizeof text))
        sscanf(text, "%lld %lld", &pages, &resident);
    set(METRIC_GAUGE, "process_virtual_memory_bytes", "Virtual memory of the process.",
        pages * page);
    set(METRIC_GAUGE, "process_resident_memory_bytes", "Resident memory of the process.",
        resident * page);
}

/* From Linux 6.2 on, the size of the directory is the number of descriptors. */
static int64_t open_files(void) {
    struct stat state;
    if (stat("/proc/self/fd", &state) == 0 && state.st_size > 0)
        return state.st_size;
    int64_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (!directory)
        return 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count > 3 ? count - 3 : 0; /* ".", "..", and the directory itself */
}

static void update_files(void) {
    struct rlimit limit = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    set(METRIC_GAUGE, "process_open_fds", "Open file descriptors.", open_files());
    set(METRIC_GAUGE, "process_max_fds", "The most file descriptors that may be open.",
        limit.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur);
}

static int64_t us_of(clockid_t clock) {
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* The wall time at which the process began; 0: unknown. */
static int64_t read_start_us(void) {
    char text[1024];
    unsigned long long ticks = 0;
    /* The name of the program is in parentheses and may hold anything. */
    const char *behind_name =
        read_text("/proc/self/stat", text, sizeof text) ? strrchr(text, ')') : NULL;
    if (!behind_name || sscanf(behind_name + 1,
                               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                               "%*d %*d %*d %llu",
                               &ticks) != 1)
        return 0;
    int64_t began_us = (int64_t)(ticks * 1000000 / (unsigned long long)sysconf(_SC_CLK_TCK));
    return us_of(CLOCK_REALTIME) - (us_of(CLOCK_BOOTTIME) - began_us);
}

/* The time is computed once, because it must not change with the clock. */
static void update_start(void) {
    static _Atomic int64_t start_us;
    int64_t none = 0;
    if (atomic_load(&start_us) == 0)
        atomic_compare_exchange_strong(&start_us, &none, read_start_us());
    set(METRIC_SECONDS_GAUGE, "process_start_time_seconds", "When the process began, in Unix time.",
        atomic_load(&start_us));
}

/* Whether the last update is so old that the caller makes the next one. Reading the CPU time takes
 * the longer, the more threads there are, and anybody may ask for the metrics again and again. */
static bool is_time_to_update(void) {
    static _Atomic int64_t updated_ms = INT64_MIN / 2;
    int64_t now_ms = clock_ms(), last_ms = atomic_load(&updated_ms);
    return now_ms - last_ms >= UPDATE_MS &&
           atomic_compare_exchange_strong(&updated_ms, &last_ms, now_ms);
}

void process_update_metrics(void) {
    if (!is_time_to_update())
        return;
    update_cpu();
    update_memory();
    update_files();
    update_start();
}
