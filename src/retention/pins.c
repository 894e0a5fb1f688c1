/* Which blobs are never evicted: patterns, pinning on arrival, and the renewal of all pins. */
#include "retention/pins.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/log.h"
#include "base/shared.h"
#include "oci/manifest.h"
#include "oci/reference.h"
#include "store/blobs.h"
#include "store/records.h"
#include "store/usage.h"

enum { DEPTH_LIMIT = 4 }; /* an index of indexes of manifests, and one to spare */

struct pattern {
    char *repository; /* glob over HOST/REPOSITORY, owned */
    const char *tag;  /* glob, part of the pattern's text; NULL: all that the repository holds */
};

/* A list that never changes. */
struct pin_patterns {
    struct shared_value value; /* the first member */
    size_t count;
    struct pattern at[];
};

struct pins {
    struct store *store;
    struct shared patterns; /* of struct pin_patterns */
    bool has_pinned;        /* the last renewal had patterns; for the thread that renews */
    atomic_bool stale; /* pins_add() pinned something by its repository, whose tag may not match; or
                          the patterns are new */
};

static void free_patterns(struct shared_value *value) {
    pins_give_up((struct pin_patterns *)value);
}

void pins_give_up(struct pin_patterns *prepared) {
    for (size_t i = 0; prepared && i < prepared->count; i++)
        free(prepared->at[i].repository);
    free(prepared);
}

/* A ':' behind the last '/' begins the tag; a ':' before it begins a port. The text of the tag
 * stands behind the repository's. */
static bool read_pattern(const char *text, struct pattern *out) {
    const char *slash = strrchr(text, '/');
    const char *colon = strchr(slash ? slash : text, ':');
    out->repository = strdup(text);
    out->tag = NULL;
    if (out->repository && colon) {
        out->repository[colon - text] = '\0';
        out->tag = out->repository + (colon - text) + 1;
    }
    return out->repository != NULL;
}

struct pin_patterns *pins_prepare(const char *const *patterns) {
    size_t count = 0;
    while (patterns && patterns[count])
        count++;
    struct pin_patterns *prepared = calloc(1, sizeof *prepared + count * sizeof *prepared->at);
    while (prepared && prepared->count < count) {
        if (!read_pattern(patterns[prepared->count], &prepared->at[prepared->count])) {
            pins_give_up(prepared);
            return NULL;
        }
        prepared->count++;
    }
    return prepared;
}

struct pins *pins_new(struct store *store, const char *const *patterns) {
    struct pins *pins = calloc(1, sizeof *pins);
    struct pin_patterns *first = pins ? pins_prepare(patterns) : NULL;
    if (!first) {
        free(pins);
        return NULL;
    }
    pins->store = store;
    shared_init(&pins->patterns, &first->value);
    return pins;
}

void pins_free(struct pins *pins) {
    if (!pins)
        return;
    shared_finish(&pins->patterns, free_patterns);
    free(pins);
}

static const struct pin_patterns *hold(struct pins *pins) {
    return (struct pin_patterns *)shared_hold(&pins->patterns);
}

static void release(const struct pin_patterns *patterns) {
    shared_release(&((struct pin_patterns *)patterns)->value);
}

static bool is_same(const struct pattern *a, const struct pattern *b) {
    return strcmp(a->repository, b->repository) == 0 && !a->tag == !b->tag &&
           (!a->tag || strcmp(a->tag, b->tag) == 0);
}

bool pins_differ(struct pins *pins, const struct pin_patterns *prepared) {
    const struct pin_patterns *now = hold(pins);
    bool same = now->count == prepared->count;
    for (size_t i = 0; same && i < now->count; i++)
        same = is_same(&now->at[i], &prepared->at[i]);
    release(now);
    return !same;
}

void pins_take(struct pins *pins, struct pin_patterns *prepared) {
    bool differ = pins_differ(pins, prepared);
    shared_exchange(&pins->patterns, &prepared->value);
    shared_sweep(&pins->patterns, free_patterns);
    if (differ)
        atomic_store(&pins->stale, true);
}

static bool matches(const struct pattern *pattern, const struct repository_name *repository) {
    char name[HOST_LIMIT + 1 + NAME_LIMIT + 1];
    snprintf(name, sizeof name, "%s/%s", repository->host, repository->path);
    return text_matches_glob(pattern->repository, text_of(name));
}

/* The first pattern that names the repository, with any tag; NULL: none does. */
static const struct pattern *find(const struct pin_patterns *patterns,
                                  const struct repository_name *repository) {
    for (size_t i = 0; i < patterns->count; i++) {
        if (matches(&patterns->at[i], repository))
            return &patterns->at[i];
    }
    return NULL;
}

void pins_add(struct pins *pins, const struct repository_name *repository,
              const struct digest *digest) {
    const struct pin_patterns *patterns = hold(pins);
    const struct pattern *pattern = find(patterns, repository);
    if (pattern)
        store_pin(pins->store, digest);
    if (pattern && pattern->tag)
        atomic_store(&pins->stale, true);
    release(patterns);
}

bool pins_name_repository(void *context, const struct repository_name *repository) {
    const struct pin_patterns *patterns = hold(context);
    bool is_named = find(patterns, repository) != NULL;
    release(patterns);
    return is_named;
}

bool pins_want_renewal(const struct pins *pins) {
    return atomic_load(&pins->stale);
}

/* ---- renewal ---- */

struct renewal {
    struct store *store;
    const struct pin_patterns *patterns;
    const struct cancel *cancel;
    const struct pattern *pattern; /* the one that is being applied */
    bool ok;
};

static bool pin_one(void *context, const struct digest *digest) {
    const struct renewal *renewal = context;
    store_pin(renewal->store, digest);
    return cancel_check(renewal->cancel, NULL);
}

/* Pins a manifest and, if it is stored, all that it names. False: it could not be read. */
static bool pin_manifest(struct store *store, const struct digest *digest, unsigned depth) {
    cleanup_buffer struct buffer bytes = {0};
    struct manifest manifest;
    struct store_blob blob;
    struct error error = {0};
    store_pin(store, digest);
    if (depth == DEPTH_LIMIT || !store_blob_find(store, digest, &blob) ||
        blob.size > MANIFEST_SIZE_LIMIT)
        return true;
    if (!store_blob_peek(store, digest, MANIFEST_SIZE_LIMIT, &bytes, &error))
        return error.kind == ERROR_NOT_FOUND || error.kind == ERROR_CORRUPT;
    if (!manifest_parse(bytes.bytes, bytes.length, &manifest, &error))
        return error.kind != ERROR_MEMORY;
    bool ok = true;
    for (size_t i = 0; i < manifest.count; i++) {
        const struct descriptor *named = &manifest.descriptors[i];
        if (named->role == DESCRIPTOR_MANIFEST)
            ok = pin_manifest(store, &named->digest, depth + 1) && ok;
        else if (named->role != DESCRIPTOR_SUBJECT)
            store_pin(store, &named->digest);
    }
    manifest_finish(&manifest);
    return ok;
}

static bool pin_tag(void *context, const char *tag, const struct tag_record *record) {
    struct renewal *renewal = context;
    if (text_matches_glob(renewal->pattern->tag, text_of(tag)) &&
        !pin_manifest(renewal->store, &record->digest, 0))
        renewal->ok = false;
    return cancel_check(renewal->cancel, NULL);
}

static bool pin_repository(void *context, const struct repository_name *repository) {
    struct renewal *renewal = context;
    struct store *store = renewal->store;
    for (size_t i = 0; renewal->ok && i < renewal->patterns->count; i++) {
        renewal->pattern = &renewal->patterns->at[i];
        if (!matches(renewal->pattern, repository))
            continue;
        if (renewal->pattern->tag)
            renewal->ok = store_tags(store, repository, pin_tag, renewal, NULL) && renewal->ok;
        else
            renewal->ok = store_links(store, repository, LINK_BLOB, pin_one, renewal, NULL) &&
                          store_links(store, repository, LINK_MANIFEST, pin_one, renewal, NULL);
    }
    renewal->ok = renewal->ok && cancel_check(renewal->cancel, NULL);
    return renewal->ok;
}

bool pins_renew(struct pins *pins, const struct cancel *cancel) {
    struct error error = {0};
    atomic_store(&pins->stale, false);
    struct renewal renewal = {
        .store = pins->store, .patterns = hold(pins), .cancel = cancel, .ok = true};
    bool is_idle = renewal.patterns->count == 0 && !pins->has_pinned;
    pins->has_pinned = renewal.patterns->count > 0;
    if (is_idle) {
        release(renewal.patterns);
        return true;
    }
    store_pins_begin(pins->store);
    bool listed = renewal.patterns->count == 0 ||
                  store_repositories_all(pins->store, NULL, pin_repository, &renewal, &error);
    release(renewal.patterns);
    if (listed && renewal.ok)
        store_pins_end(pins->store);
    else if (cancel_check(cancel, NULL))
        log_at(LOG_WARN, "pins could not be renewed", LOG_STRING("error", error.text));
    return listed && renewal.ok;
}

bool pins_apply(struct store *store, const char *const *patterns, struct error *error) {
    struct pins *pins = pins_new(store, patterns);
    if (!pins)
        return error_set(error, ERROR_MEMORY, "out of memory");
    bool ok = pins_renew(pins, NULL);
    pins_free(pins);
    return ok || error_set(error, ERROR_IO, "not all pins could be found");
}
