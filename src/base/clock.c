/* Time: the two clocks, waiting, and jitter. */
#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

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

void clock_format_now(char out[static CLOCK_NOW_SIZE]) {
    static _Thread_local struct {
        time_t second;
        char text[CLOCK_NOW_SIZE];
    } last; /* the time of day changes once a second */
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != last.second || !last.text[0]) {
        struct tm parts;
        gmtime_r(&now.tv_sec, &parts);
        strftime(last.text, sizeof last.text, "%Y-%m-%dT%H:%M:%S.000Z", &parts);
        last.second = now.tv_sec;
    }
    int ms = (int)(now.tv_nsec / 1000000);
    memcpy(out, last.text, CLOCK_NOW_SIZE);
    out[20] = (char)('0' + ms / 100);
    out[21] = (char)('0' + ms / 10 % 10);
    out[22] = (char)('0' + ms % 10);
}

static bool read_digits(const char **at, int count, int *out) {
    *out = 0;
    for (int i = 0; i < count; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return false;
        *out = *out * 10 + (**at - '0');
    }
    return true;
}

static bool read_char(const char **at, const char *any) {
    return **at && strchr(any, **at) && (*at)++;
}

/* Whether the month has so many days. timegm() takes the 30th of February for the 2nd of March. */
static bool has_day(const struct tm *tm) {
    struct tm date = {.tm_year = tm->tm_year, .tm_mon = tm->tm_mon, .tm_mday = tm->tm_mday};
    timegm(&date);
    return date.tm_mday == tm->tm_mday;
}

bool clock_parse_rfc3339(const char *text, int64_t *seconds) {
    struct tm tm = {0};
    int offset_hours = 0, offset_minutes = 0, sign = 1;
    const char *at = text;
    if (!read_digits(&at, 4, &tm.tm_year) || !read_char(&at, "-") ||
        !read_digits(&at, 2, &tm.tm_mon) || !read_char(&at, "-") ||
        !read_digits(&at, 2, &tm.tm_mday) || !read_char(&at, "Tt ") ||
        !read_digits(&at, 2, &tm.tm_hour) || !read_char(&at, ":") ||
        !read_digits(&at, 2, &tm.tm_min) || !read_char(&at, ":") ||
        !read_digits(&at, 2, &tm.tm_sec))
        return false;
    if (*at == '.') {
        at++;
        if (!isdigit((unsigned char)*at))
            return false;
        at += strspn(at, "0123456789");
    }
    if (*at == '+' || *at == '-') {
        sign = *at++ == '-' ? -1 : 1;
        if (!read_digits(&at, 2, &offset_hours) || !read_char(&at, ":") ||
            !read_digits(&at, 2, &offset_minutes))
            return false;
    } else if (!read_char(&at, "Zz")) {
        return false;
    }
    if (*at || tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
        tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60 ||
        offset_hours > 23 || offset_minutes > 59)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    if (!has_day(&tm))
        return false;
    *seconds = (int64_t)timegm(&tm) - INT64_C(60) * sign * (offset_hours * 60 + offset_minutes);
    return true;
}

uint32_t clock_jitter(uint32_t bound) {
    uint32_t random = 0;
    if (bound == 0)
        return 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        random = (uint32_t)clock_us();
    return random % bound;
}
