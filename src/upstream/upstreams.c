/* A set of upstreams: the entries of one configuration, and which of them a host means. */
#include "upstream/upstream.h"

#include <stdlib.h>
#include <string.h>
#include "oci/reference.h"
#include "upstream/set.h"
#include "upstream/upstream_private.h"

/* ---- by name ---- */

/* Where the entries of this name begin in `named`, or where they would be. */
static size_t place_of(const struct upstreams *upstreams, const char *name) {
    size_t low = 0, high = upstreams->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(upstreams->named[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The entry at a place in `named`, if it has the name; else NULL. */
static struct upstream *named_at(const struct upstreams *upstreams, size_t place,
                                 const char *name) {
    bool has_name = place < upstreams->count && strcmp(upstreams->named[place]->name, name) == 0;
    return has_name ? upstreams->named[place] : NULL;
}

/* ---- making a set ---- */

static struct upstreams *set_new(struct upstream_commons *commons, size_t capacity) {
    struct upstreams *upstreams = calloc(1, sizeof *upstreams);
    if (!upstreams)
        return NULL;
    upstreams->commons = commons;
    upstreams->all = calloc(capacity + 1, sizeof(struct upstream *));
    upstreams->named = calloc(capacity + 1, sizeof(struct upstream *));
    if (upstreams->all && upstreams->named)
        return upstreams;
    upstreams_drop(upstreams);
    return NULL;
}

void upstreams_drop(struct upstreams *upstreams) {
    if (!upstreams)
        return;
    for (size_t i = 0; i < upstreams->count; i++)
        upstream_release(upstreams->all[i]);
    free(upstreams->all);
    free(upstreams->named);
    free(upstreams);
}

/* Checks that an entry fits to those before it. */
static bool check_entry(const struct upstreams *upstreams, const struct upstream *upstream,
                        struct error *error) {
    const struct upstream *chosen = upstreams->default_upstream, *earlier;
    size_t place = place_of(upstreams, upstream->name);
    if (upstream->settings.is_default && chosen && strcmp(chosen->name, upstream->name) != 0)
        return error_set(error, ERROR_INVALID, "upstreams %s and %s are both the default",
                         chosen->name, upstream->name);
    while ((earlier = named_at(upstreams, place++, upstream->name))) {
        if (upstream_settings_same_repositories(&earlier->settings, &upstream->settings))
            return error_set(error, ERROR_INVALID,
                             "upstream %s is configured twice for the same repositories",
                             upstream->name);
    }
    return true;
}

/* Adds an entry behind the others of its name. Takes over the caller's reference, also when it
 * returns false. */
static bool enter(struct upstreams *upstreams, struct upstream *upstream, struct error *error) {
    if (!check_entry(upstreams, upstream, error)) {
        upstream_release(upstream);
        return false;
    }
    size_t first = place_of(upstreams, upstream->name), place = first;
    while (named_at(upstreams, place, upstream->name))
        place++;
    memmove(&upstreams->named[place + 1], &upstreams->named[place],
            (upstreams->count - place) * sizeof(struct upstream *));
    upstreams->named[place] = upstream;
    upstreams->all[upstreams->count++] = upstream;
    if (upstream->settings.is_default)
        upstreams->default_upstream = upstreams->named[first];
    return true;
}

/* The entry of an earlier set with the same settings. It is taken over, with all that is known of
 * its hosts: connections, tokens, health. NULL: there is none. */
static struct upstream *find_unchanged(const struct upstreams *before,
                                       const struct upstream_settings *settings) {
    char name[HOST_LIMIT + 1];
    struct upstream *upstream;
    if (!before || !upstream_name_of(settings, name))
        return NULL;
    size_t place = place_of(before, name);
    while ((upstream = named_at(before, place++, name))) {
        if (upstream_settings_equal(&upstream->settings, settings))
            return upstream;
    }
    return NULL;
}

/* The source that an earlier set has for the same credentials, with the tokens that it holds; else
 * the settings' own. */
static struct credential_source *find_credentials(const struct upstreams *before,
                                                  const struct upstream_settings *settings) {
    for (size_t i = 0; before && i < before->count; i++) {
        struct credential_source *known = before->all[i]->settings.credentials;
        if (known && credential_source_equal(known, settings->credentials))
            return known;
    }
    return settings->credentials;
}

static bool add(struct upstreams *upstreams, const struct upstreams *before,
                const struct upstream_settings *settings, struct error *error) {
    struct upstream *upstream = find_unchanged(before, settings);
    if (upstream)
        return enter(upstreams, upstream_keep(upstream), error);
    struct upstream_settings changed = *settings;
    changed.credentials = find_credentials(before, settings);
    upstream = upstream_new(upstreams->commons, &changed, error);
    return upstream && enter(upstreams, upstream, error);
}

struct upstreams *upstreams_make(struct upstream_commons *commons, const struct upstreams *before,
                                 const struct upstream_settings *settings, size_t count,
                                 struct error *error) {
    struct upstreams *upstreams = set_new(commons, count);
    if (!upstreams) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (!add(upstreams, before, &settings[i], error)) {
            upstreams_drop(upstreams);
            return NULL;
        }
    }
    return upstreams;
}

static bool holds(const struct upstreams *upstreams, const struct upstream *entry) {
    const struct upstream *upstream;
    size_t place = place_of(upstreams, entry->name);
    while ((upstream = named_at(upstreams, place++, entry->name))) {
        if (upstream == entry)
            return true;
    }
    return false;
}

size_t upstreams_count_missing(const struct upstreams *in, const struct upstreams *from) {
    size_t missing = 0;
    for (size_t i = 0; i < from->count; i++)
        missing += !holds(in, from->all[i]);
    return missing;
}

/* ---- which upstream is meant ---- */

/* The first pattern that matches. */
static struct upstream *match(const struct upstreams *upstreams, const char *host) {
    char labels[HOST_LIMIT + 1];
    if (!upstream_labels_of(host, labels))
        return NULL;
    for (size_t i = 0; i < upstreams->count; i++) {
        struct upstream *upstream = upstreams->all[i];
        if (upstream->pattern[0] && text_matches_glob(upstream->pattern, text_of(labels)))
            return upstream;
    }
    return NULL;
}

struct upstream *upstreams_find(const struct upstreams *upstreams, struct text host,
                                char canonical[static HOST_LIMIT + 1]) {
    if (!upstream_canonical_host(host, canonical))
        return NULL;
    struct upstream *upstream = named_at(upstreams, place_of(upstreams, canonical), canonical);
    return upstream ? upstream : match(upstreams, canonical);
}

/* A name or a pattern without its port. */
static void cut_port(char *host) {
    char *port = host[0] == '[' ? strstr(host, "]:") : strchr(host, ':');
    if (port)
        port[host[0] == '['] = '\0';
}

bool upstreams_know(const struct upstreams *upstreams, struct text text) {
    char host[HOST_LIMIT + 1], labels[HOST_LIMIT + 1], name[HOST_LIMIT + 1];
    if (!upstream_canonical_host(text, host))
        return false;
    cut_port(host);
    bool may_match = upstream_labels_of(host, labels);
    for (size_t i = 0; i < upstreams->count; i++) {
        const struct upstream *upstream = upstreams->all[i];
        bool is_host = upstream->pattern[0] == '\0';
        memcpy(name, is_host ? upstream->name : upstream->pattern, sizeof name);
        cut_port(name);
        if (is_host ? strcmp(name, host) == 0
                    : may_match && text_matches_glob(name, text_of(labels)))
            return true;
    }
    return false;
}

struct upstream *upstreams_default(const struct upstreams *upstreams) {
    return upstreams->default_upstream;
}

struct upstream *upstreams_next(const struct upstreams *upstreams, const struct upstream *before) {
    size_t i = 0;
    while (before && upstreams->all[i++] != before)
        ;
    return upstreams->all[i]; /* NULL stands behind the last */
}

/* ---- which entry of a name ---- */

/* The length of the longest glob that matches; 0: the entry serves all; -1: it does not serve this
 * repository. */
static int match_repository(const struct upstream *upstream, const char *repository) {
    const char *const *globs = upstream->settings.repositories;
    int longest = globs ? -1 : 0;
    for (; globs && *globs; globs++) {
        int length = (int)strlen(*globs);
        if (length > longest && text_matches_glob(*globs, text_of(repository)))
            longest = length;
    }
    return longest;
}

struct upstream *upstream_for(const struct upstreams *upstreams, const struct upstream *named,
                              const char *repository) {
    struct upstream *best = NULL, *upstream;
    size_t place = place_of(upstreams, named->name);
    int longest = -1;
    while ((upstream = named_at(upstreams, place++, named->name))) {
        int length = match_repository(upstream, repository);
        if (length > longest) {
            longest = length;
            best = upstream;
        }
    }
    return best;
}
