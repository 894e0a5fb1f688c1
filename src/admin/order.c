#include "admin/order.h"

#include <stdlib.h>
#include <string.h>
#include "admin/line.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"

enum { SCAN_WAIT_MS = 60000, POLL_MS = 100 };

/* ---- lines ---- */

bool contents_write(const struct contents_sink *sink, json_t *line, struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    bool written = bounded_json_dump(line, JSON_COMPACT, &bytes);
    json_decref(line);
    if (!written || !buffer_append_string(&bytes, "\n"))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return sink->write(sink->context, bytes.bytes, bytes.length) ||
           error_set(error, ERROR_CLOSED, "the client left");
}

bool contents_go_on(const struct contents *contents, const struct contents_sink *sink,
                    struct error *error) {
    if (contents->stopping && atomic_load(contents->stopping))
        return error_set(error, ERROR_CLOSED, "tarn is stopping");
    return !sink->is_wanted || sink->is_wanted(sink->context) ||
           error_set(error, ERROR_CLOSED, "the client left");
}

bool contents_wait_for_scan(const struct contents *contents, const struct contents_sink *sink,
                            struct error *error) {
    int64_t until_ms = clock_ms() + SCAN_WAIT_MS;
    struct store_usage usage;
    for (;;) {
        store_usage(contents->store, &usage);
        if (usage.complete)
            return true;
        if (!contents_go_on(contents, sink, error))
            return false;
        if (clock_ms() >= until_ms)
            return error_set(error, ERROR_BUSY,
                             "the running tarn is still finding out which blobs it has (%llu so "
                             "far); try again later",
                             (unsigned long long)usage.blobs);
        clock_sleep_ms(POLL_MS);
    }
}

json_t *contents_digest(const struct digest *digest) {
    char text[DIGEST_STRING_SIZE];
    return json_string(digest_format(digest, text));
}

json_t *contents_time(int64_t wall_s) {
    char text[TIME_SIZE];
    time_t seconds = (time_t)wall_s;
    struct tm parts;
    if (!gmtime_r(&seconds, &parts) ||
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        return json_null();
    return json_string(text);
}

json_t *contents_size(uint64_t bytes) {
    return json_integer(bytes < INT64_MAX ? (json_int_t)bytes : INT64_MAX);
}

/* ---- orders ---- */

static bool not_as(struct error *error, const char *expected) {
    return error_set(error, ERROR_INVALID, "expected %s", expected);
}

/* Whether the order has these members alone: one that is misspelt must not count as left out. */
static bool has_only(const json_t *order, const char *const *known) {
    const char *name;
    json_t *value;
    if (!json_is_object(order))
        return false;
    json_object_foreach ((json_t *)order, name, value) {
        const char *const *candidate = known;
        while (*candidate && strcmp(*candidate, name) != 0)
            candidate++;
        if (!*candidate)
            return false;
    }
    return true;
}

static const json_t *member(const json_t *order, const char *name) {
    const json_t *value = json_object_get(order, name);
    return json_is_null(value) ? NULL : value;
}

static bool read_whole_number(const json_t *order, const char *name, int64_t *out) {
    const json_t *value = member(order, name);
    *out = value ? json_integer_value(value) : -1;
    return !value || (json_is_integer(value) && *out >= 0);
}

static bool read_boolean(const json_t *order, const char *name, bool *out) {
    const json_t *value = member(order, name);
    *out = json_is_true(value);
    return !value || json_is_boolean(value);
}

/* Pointers to the order's own strings, NULL-terminated; the list is the caller's. NULL: something
 * else than at most CONTENTS_NAMES_LIMIT strings. */
static const char **read_names(const json_t *order) {
    const json_t *names = member(order, "names");
    size_t count = json_array_size(names);
    if ((names && !json_is_array(names)) || count > CONTENTS_NAMES_LIMIT)
        return NULL;
    cleanup_free const char **list = calloc(count + 1, sizeof *list);
    for (size_t i = 0; list && i < count; i++) {
        const json_t *name = json_array_get(names, i);
        list[i] = json_string_value(name);
        if (!list[i] || strlen(list[i]) != json_string_length(name))
            return NULL;
    }
    return take(list);
}

static bool order_ls(struct contents *contents, const json_t *order,
                     const struct contents_sink *sink, struct error *error) {
    static const char *const known[] = {"names", NULL};
    cleanup_free const char **names = has_only(order, known) ? read_names(order) : NULL;
    return names ? contents_ls(contents, names, sink, error)
                 : not_as(error, "{\"names\":[\"UPSTREAM/REPOSITORY\",…]}");
}

static bool order_du(struct contents *contents, const json_t *order,
                     const struct contents_sink *sink, struct error *error) {
    static const char *const known[] = {NULL};
    return has_only(order, known) ? contents_du(contents, sink, error) : not_as(error, "{}");
}

static bool order_rm(struct contents *contents, const json_t *order,
                     const struct contents_sink *sink, struct error *error) {
    static const char *const known[] = {"names", NULL};
    cleanup_free const char **names = has_only(order, known) ? read_names(order) : NULL;
    return names && *names ? contents_rm(contents, names, sink, error)
                           : not_as(error, "{\"names\":[\"UPSTREAM/REPOSITORY:TAG\",…]}");
}

static bool order_prune(struct contents *contents, const json_t *order,
                        const struct contents_sink *sink, struct error *error) {
    static const char *const known[] = {"older_than_ms", "to_size", "dry_run", NULL};
    struct contents_prune what;
    if (!has_only(order, known) ||
        !read_whole_number(order, "older_than_ms", &what.older_than_ms) ||
        !read_whole_number(order, "to_size", &what.to_size) ||
        !read_boolean(order, "dry_run", &what.dry_run) ||
        (what.older_than_ms < 0 && what.to_size < 0))
        return not_as(error, "{\"older_than_ms\":N,\"to_size\":N,\"dry_run\":false}, one of the "
                             "first two at least");
    return contents_prune(contents, &what, sink, error);
}

static bool order_verify(struct contents *contents, const json_t *order,
                         const struct contents_sink *sink, struct error *error) {
    static const char *const known[] = {"repair", "rate", NULL};
    struct contents_verify what;
    if (!has_only(order, known) || !read_boolean(order, "repair", &what.repair) ||
        !read_whole_number(order, "rate", &what.rate))
        return not_as(error, "{\"repair\":false,\"rate\":BYTES_A_SECOND}");
    return contents_verify(contents, &what, sink, error);
}

bool contents_order(struct contents *contents, const char *what, const json_t *order,
                    const struct contents_sink *sink, struct error *error) {
    static const struct {
        const char *name;
        bool (*perform)(struct contents *contents, const json_t *order,
                        const struct contents_sink *sink, struct error *error);
    } orders[] = {{"ls", order_ls},
                  {"du", order_du},
                  {"rm", order_rm},
                  {"prune", order_prune},
                  {"verify", order_verify}};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        if (strcmp(orders[i].name, what) == 0)
            return orders[i].perform(contents, order, sink, error);
    }
    return error_set(error, ERROR_INVALID, "there is no order %s", what);
}
