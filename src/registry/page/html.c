/* Escapes and formats what stands in a page, and fills templates. */
#include "registry/page/html.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include "base/units.h"

static const char *entity_of(char c) {
    switch (c) {
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '&':
        return "&amp;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void html_text_of(struct buffer *out, struct text text) {
    size_t begin = 0;
    for (size_t i = 0; i <= text.length; i++) {
        const bool at_end = i == text.length;
        const char *entity = at_end ? NULL : entity_of(text.at[i]);
        const bool is_control =
            !at_end && ((unsigned char)text.at[i] < ' ' || text.at[i] == '\x7f');
        if (!at_end && !entity && !is_control)
            continue;
        if (i > begin)
            buffer_append(out, text.at + begin, i - begin);
        if (entity)
            buffer_append_string(out, entity);
        begin = i + 1;
    }
}

void html_text(struct buffer *out, const char *text) {
    html_text_of(out, text_of(text));
}

void html_parameter(struct buffer *out, const char *text) {
    buffer_append_percent(out, text, "/:@");
}

void html_number(struct buffer *out, uint64_t number) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%" PRIu64, number);
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            buffer_append(out, ",", 1);
        buffer_append(out, &digits[i], 1);
    }
}

void html_size(struct buffer *out, uint64_t bytes) {
    char text[24];
    units_format_size(bytes, text, sizeof text);
    buffer_append_string(out, text);
}

void html_percent(struct buffer *out, uint64_t part, uint64_t whole) {
    if (whole)
        buffer_printf(out, "%.1f %%", 100 * ((double)part / (double)whole));
    else
        buffer_append_string(out, "–");
}

void html_duration(struct buffer *out, int64_t seconds) {
    static const struct {
        int64_t seconds;
        const char *one, *many;
    } units[] = {
        {86400, "day", "days"}, {3600, "hour", "hours"}, {60, "min", "min"}, {1, "s", "s"}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        int64_t count = seconds / units[i].seconds;
        if (count > 0) {
            buffer_printf(out, "%" PRId64 " %s", count, count == 1 ? units[i].one : units[i].many);
            return;
        }
    }
    buffer_append_string(out, "0 s");
}

void html_ago(struct buffer *out, int64_t then_s, int64_t now_s) {
    struct tm parts;
    char stamp[40];
    const time_t then = (time_t)then_s;
    if (then_s <= 0 || !gmtime_r(&then, &parts) ||
        !strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &parts)) {
        buffer_append_string(out, "never");
        return;
    }
    buffer_printf(out, "<time datetime=\"%s\" title=\"%s\">", stamp, stamp);
    if (now_s - then_s < 2) {
        buffer_append_string(out, "now");
    } else {
        html_duration(out, now_s - then_s);
        buffer_append_string(out, " ago");
    }
    buffer_append_string(out, "</time>");
}

void html_fill(struct buffer *out, struct text template,
               void (*fill)(void *context, struct text name, struct buffer *out), void *context) {
    while (template.length) {
        const char *open = memmem(template.at, template.length, "{{", 2);
        const char *close =
            open ? memmem(open, template.length - (size_t)(open - template.at), "}}", 2) : NULL;
        if (!close) {
            buffer_append(out, template.at, template.length);
            return;
        }
        if (open > template.at)
            buffer_append(out, template.at, (size_t)(open - template.at));
        fill(context, (struct text){open + 2, (size_t)(close - open) - 2}, out);
        template = text_from(template, (size_t)(close - template.at) + 2);
    }
}

void html_put_host(struct buffer *out, struct text page, const char *host) {
    while (page.length) {
        const char *mark = memchr(page.at, HTML_HOST[0], page.length);
        const size_t before = mark ? (size_t)(mark - page.at) : page.length;
        if (before)
            buffer_append(out, page.at, before);
        if (!mark)
            return;
        html_text(out, host);
        page = text_from(page, before + 1);
    }
}
