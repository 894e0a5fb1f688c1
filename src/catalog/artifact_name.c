/* Names of Artifact Registry. */
#include "catalog/artifact_name.h"

#include <ctype.h>
#include <string.h>

/* The label between `prefix` and `suffix`; empty: there is no such label. */
static struct text label_between(struct text host, const char *prefix, const char *suffix) {
    if (!text_starts(host, prefix) || !text_ends(host, suffix) ||
        host.length <= strlen(prefix) + strlen(suffix))
        return (struct text){0};
    struct text label = text_from(host, strlen(prefix));
    label.length -= strlen(suffix);
    for (size_t i = 0; i < label.length; i++) {
        if (!islower((unsigned char)label.at[i]) && !isdigit((unsigned char)label.at[i]) &&
            label.at[i] != '-')
            return (struct text){0};
    }
    return label;
}

/* The location of a host, and of a gcr.io host the repository, which is named for it. */
static bool read_host(struct text host, struct text *location, struct text *repository) {
    static const struct {
        const char *host, *location;
    } containers[] = {
        {"gcr.io", "us"}, {"us.gcr.io", "us"}, {"eu.gcr.io", "europe"}, {"asia.gcr.io", "asia"}};
    *repository = (struct text){0};
    for (size_t i = 0; i < sizeof containers / sizeof *containers; i++) {
        if (!text_is(host, containers[i].host))
            continue;
        *location = text_of(containers[i].location);
        *repository = text_of(containers[i].host);
        return true;
    }
    *location = label_between(host, "", "-docker.pkg.dev");
    if (!location->length)
        *location = label_between(host, "docker.", ".rep.pkg.dev");
    return location->length > 0;
}

bool artifact_name_is_host(struct text host) {
    struct text location, repository;
    return read_host(host, &location, &repository);
}

/* Cuts the project off: its first part, or the first two when the first one is a domain. */
static bool read_project(struct text *path, char project[static NAME_LIMIT + 1]) {
    struct text rest, first = text_cut(*path, '/', &rest);
    if (memchr(first.at, '.', first.length) && !memchr(first.at, ':', first.length)) {
        if (!rest.at)
            return false;
        struct text second = text_cut(rest, '/', &rest);
        struct text both = {first.at, first.length + 1 + second.length};
        if (!second.length || !text_copy(both, project, NAME_LIMIT + 1))
            return false;
        project[first.length] = ':';
    } else if (!first.length || !text_copy(first, project, NAME_LIMIT + 1)) {
        return false;
    }
    *path = rest;
    return true;
}

bool artifact_name_parse(struct text host, struct text path, struct artifact_name *out) {
    struct text location, repository, rest = path;
    *out = (struct artifact_name){0};
    if (!path.length || !read_host(host, &location, &repository) ||
        !read_project(&rest, out->project))
        return false;
    if (!repository.length) {
        if (!rest.at)
            return false;
        repository = text_cut(rest, '/', &rest);
    }
    return repository.length > 0 && (!rest.at || rest.length > 0) &&
           text_copy(location, out->location, sizeof out->location) &&
           text_copy(repository, out->repository, sizeof out->repository) &&
           (!rest.at || text_copy(rest, out->image, sizeof out->image));
}

bool artifact_name_same_repository(const struct artifact_name *a, const struct artifact_name *b) {
    return strcmp(a->project, b->project) == 0 && strcmp(a->location, b->location) == 0 &&
           strcmp(a->repository, b->repository) == 0;
}

void artifact_name_append_parent(const struct artifact_name *name, struct buffer *out) {
    buffer_printf(out, "projects/%s/locations/%s/repositories/%s", name->project, name->location,
                  name->repository);
}

bool artifact_name_append_filter(const struct artifact_name *name, struct buffer *out) {
    buffer_append_string(out, "name=\"");
    artifact_name_append_parent(name, out);
    buffer_append_string(out, "/dockerImages/");
    for (const char *c = name->image; *c; c++) {
        if (*c == '/')
            buffer_append_string(out, "%2F");
        else
            buffer_append(out, c, 1);
    }
    return buffer_append_string(out, "@*\"");
}
