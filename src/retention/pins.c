/* Which blobs are never evicted: patterns, pinning on arrival, and the renewal of all pins. */
#include "retention/pins.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/log.h"
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

struct pins {
    struct store *store;
    struct pattern *patterns;
    size_t count;
    atomic_bool guessed; /* pins_add() pinned something by its repository; its tag may not match */
};

void pins_free(struct pins *pins) {
    if (!pins)
        return;
    for (size_t i = 0; i < pins->count; i++)
        free(pins->patterns[i].repository);
    free(pins->patterns);
    free(pins);
}

/* A ':' behind the last '/' begins the tag; a ':' before it begins a port. */
static bool read_pattern(const char *text, struct pattern *out) {
    const char *slash = strrchr(text, '/');
    const char *colon = strchr(slash ? slash : text, ':');
    out->tag = colon ? colon + 1 : NULL;
    out->repository = text_dup((struct text){text, colon ? (size_t)(colon - text) : strlen(text)});
    return out->repository != NULL;
}

struct pins *pins_new(struct store *store, const char *const *patterns, bool *ok) {
    size_t count = 0;
    *ok = true;
    while (patterns && patterns[count])
        count++;
    if (count == 0)
        return NULL;
    struct pins *pins = calloc(1, sizeof *pins);
    if (pins)
        pins->patterns = calloc(count, sizeof *pins->patterns);
    *ok = pins && pins->patterns;
    for (size_t i = 0; *ok && i < count; i++) {
        *ok = read_pattern(patterns[i], &pins->patterns[i]);
        pins->count += *ok;
    }
    if (*ok) {
        pins->store = store;
        return pins;
    }
    pins_free(pins);
    return NULL;
}

static bool matches(const struct pattern *pattern, const struct repository_name *repository) {
    char name[HOST_LIMIT + 1 + NAME_LIMIT + 1];
    snprintf(name, sizeof name, "%s/%s", repository->host, repository->path);
    return text_matches_glob(pattern->repository, text_of(name));
}

void pins_add(struct pins *pins, const struct repository_name *repository,
              const struct digest *digest) {
    for (size_t i = 0; pins && i < pins->count; i++) {
        if (matches(&pins->patterns[i], repository)) {
            store_pin(pins->store, digest);
            if (pins->patterns[i].tag)
                atomic_store(&pins->guessed, true);
            return;
        }
    }
}

bool pins_name_repository(void *context, const struct repository_name *repository) {
    const struct pins *pins = context;
    for (size_t i = 0; pins && i < pins->count; i++)
        if (matches(&pins->patterns[i], repository))
            return true;
    return false;
}

bool pins_want_renewal(const struct pins *pins) {
    return pins && atomic_load(&pins->guessed);
}

/* ---- renewal ---- */

struct renewal {
    struct pins *pins;
    const struct cancel *cancel;
    const struct pattern *pattern; /* the one that is being applied */
    bool ok;
};

static bool pin_one(void *context, const struct digest *digest) {
    const struct renewal *renewal = context;
    store_pin(renewal->pins->store, digest);
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
        !pin_manifest(renewal->pins->store, &record->digest, 0))
        renewal->ok = false;
    return cancel_check(renewal->cancel, NULL);
}

static bool pin_repository(void *context, const struct repository_name *repository) {
    struct renewal *renewal = context;
    struct store *store = renewal->pins->store;
    for (size_t i = 0; renewal->ok && i < renewal->pins->count; i++) {
        renewal->pattern = &renewal->pins->patterns[i];
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
    struct renewal renewal = {.pins = pins, .cancel = cancel, .ok = true};
    struct error error = {0};
    if (!pins)
        return true;
    atomic_store(&pins->guessed, false);
    store_pins_begin(pins->store);
    bool listed = store_repositories_all(pins->store, NULL, pin_repository, &renewal, &error);
    if (listed && renewal.ok)
        store_pins_end(pins->store);
    else if (cancel_check(cancel, NULL))
        log_at(LOG_WARN, "pins could not be renewed", LOG_STRING("error", error.text));
    return listed && renewal.ok;
}

bool pins_apply(struct store *store, const char *const *patterns, struct error *error) {
    bool ok;
    struct pins *pins = pins_new(store, patterns, &ok);
    if (!ok)
        return error_set(error, ERROR_MEMORY, "out of memory");
    ok = pins_renew(pins, NULL);
    pins_free(pins);
    return ok || error_set(error, ERROR_IO, "not all pins could be found");
}
