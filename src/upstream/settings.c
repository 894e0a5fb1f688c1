/* The settings of an upstream: their defaults, copies, and which are equal. */
#include "upstream/upstream.h"

#include <stdlib.h>
#include <string.h>
#include "upstream/upstream_private.h"

static bool holds(const char *const *globs, const char *glob) {
    for (; *globs; globs++) {
        if (strcmp(*globs, glob) == 0)
            return true;
    }
    return false;
}

static bool holds_all(const char *const *globs, const char *const *others) {
    for (; *others; others++) {
        if (!holds(globs, *others))
            return false;
    }
    return true;
}

bool upstream_settings_same_repositories(const struct upstream_settings *a,
                                         const struct upstream_settings *b) {
    if (!a->repositories || !b->repositories)
        return a->repositories == b->repositories;
    return holds_all(a->repositories, b->repositories) &&
           holds_all(b->repositories, a->repositories);
}

struct upstream_settings upstream_settings_default(void) {
    return (struct upstream_settings){
        .tag_ttl_ms = 60000,
        .connect_timeout_ms = 5000,
        .stall_timeout_ms = 10000,
        .first_byte_timeout_ms = 25000, /* containerd >= 2.3 gives up after 30 s without a head */
        .connections = 4,
        .max_connections = 64,
        .range_fill = true,
        .push_patience_ms = 60000,
    };
}

/* ---- equal ---- */

static bool strings_equal(const char *a, const char *b) {
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool upstream_settings_equal(const struct upstream_settings *a, const struct upstream_settings *b) {
    return strings_equal(a->host, b->host) && strings_equal(a->url, b->url) &&
           strings_equal(a->prefix, b->prefix) && text_lists_equal(a->fallbacks, b->fallbacks) &&
           a->is_default == b->is_default &&
           credential_source_equal(a->credentials, b->credentials) &&
           text_lists_equal(a->repositories, b->repositories) &&
           text_lists_equal(a->token_hosts, b->token_hosts) &&
           text_lists_equal(a->redirect_hosts, b->redirect_hosts) &&
           strings_equal(a->ca_file, b->ca_file) && a->tag_ttl_ms == b->tag_ttl_ms &&
           a->link_ttl_ms == b->link_ttl_ms && a->connect_timeout_ms == b->connect_timeout_ms &&
           a->stall_timeout_ms == b->stall_timeout_ms &&
           a->first_byte_timeout_ms == b->first_byte_timeout_ms &&
           a->connections == b->connections && a->max_connections == b->max_connections &&
           a->keep_deleted == b->keep_deleted && a->range_fill == b->range_fill &&
           a->prefetch == b->prefetch && a->push == b->push &&
           a->allows_delete == b->allows_delete && a->push_patience_ms == b->push_patience_ms;
}

/* ---- a copy ---- */

/* Memory from which the copied strings and lists are taken. With `at` NULL it only counts. */
struct strings {
    char *at;
    size_t used;
};

static void *take(struct strings *strings, size_t size, size_t align) {
    strings->used = (strings->used + align - 1) / align * align;
    void *taken = strings->at ? strings->at + strings->used : NULL;
    strings->used += size;
    return taken;
}

static const char *copy_string(struct strings *strings, const char *from) {
    size_t size = from ? strlen(from) + 1 : 0;
    char *copy = from ? take(strings, size, 1) : NULL;
    return copy ? memcpy(copy, from, size) : NULL;
}

static const char *const *copy_list(struct strings *strings, const char *const *from) {
    size_t count = 0;
    if (!from)
        return NULL;
    while (from[count])
        count++;
    const char **copy = take(strings, (count + 1) * sizeof *copy, _Alignof(char *));
    for (size_t i = 0; i <= count; i++) {
        const char *string = copy_string(strings, from[i]);
        if (copy)
            copy[i] = string;
    }
    return copy;
}

static void copy_all(struct strings *strings, const struct upstream_settings *from,
                     struct upstream_settings *out) {
    *out = *from;
    out->host = copy_string(strings, from->host);
    out->url = copy_string(strings, from->url);
    out->prefix = copy_string(strings, from->prefix);
    out->ca_file = copy_string(strings, from->ca_file);
    out->fallbacks = copy_list(strings, from->fallbacks);
    out->repositories = copy_list(strings, from->repositories);
    out->token_hosts = copy_list(strings, from->token_hosts);
    out->redirect_hosts = copy_list(strings, from->redirect_hosts);
}

void *upstream_settings_copy(const struct upstream_settings *from, struct upstream_settings *out) {
    struct strings strings = {0};
    copy_all(&strings, from, out);
    strings = (struct strings){.at = malloc(strings.used + 1)};
    if (strings.at)
        copy_all(&strings, from, out);
    return strings.at;
}
