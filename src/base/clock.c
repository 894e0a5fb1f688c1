/* Time: the two clocks, waiting, and jitter. */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

static int64_t read_us(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_us(void) {
    return read_us(CLOCK_MONOTONIC);
}

int64_t clock_ms(void) {
    return clock_us() / 1000;
}

int64_t clock_wall_s(void) {
    return (int64_t)time(NULL);
}

void clock_sleep_ms(int64_t ms) {
    struct timespec left = {ms / 1000, (ms % 1000) * 1000000};
    while (ms > 0 && nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

struct timespec clock_deadline(int64_t ms) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    now.tv_sec += ms / 1000;
    now.tv_nsec += (ms % 1000) * 1000000;
    if (now.tv_nsec >= 1000000000) {
        now.tv_sec++;
        now.tv_nsec -= 1000000000;
    }
    return now;
}

void clock_format_now(char *out, size_t size) {
    struct timespec now;
    struct tm parts;
    char seconds[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out, size, "%s.%03ldZ", seconds, now.tv_nsec / 1000000);
}

uint32_t clock_jitter(uint32_t bound) {
    uint32_t random = 0;
    if (bound == 0)
        return 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = (uint32_t)clock_us();
    return random % bound;
}
