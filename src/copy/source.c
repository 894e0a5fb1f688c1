/* What all sources have in common: manifests and lists of names. */
#include "copy/source.h"

#include <stdlib.h>
#include "base/text.h"
#include "copy/sources.h"

void copy_manifest_finish(struct copy_manifest *manifest) {
    buffer_finish(&manifest->bytes);
    *manifest = (struct copy_manifest){0};
}

bool copy_names_add(struct copy_names *names, struct text name) {
    if (names->count == names->capacity) {
        size_t capacity = names->capacity ? 2 * names->capacity : 64;
        char **at = reallocarray(names->at, capacity, sizeof *at);
        if (!at)
            return false;
        names->at = at;
        names->capacity = capacity;
    }
    char *copy = text_dup(name);
    if (copy)
        names->at[names->count++] = copy;
    return copy != NULL;
}

void copy_names_finish(struct copy_names *names) {
    for (size_t i = 0; i < names->count; i++)
        free(names->at[i]);
    free(names->at);
    *names = (struct copy_names){0};
}

static int compare(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void copy_names_settle(struct copy_names *names) {
    if (!names->count)
        return;
    qsort(names->at, names->count, sizeof *names->at, compare);
    size_t kept = 1;
    for (size_t i = 1; i < names->count; i++) {
        if (strcmp(names->at[i], names->at[kept - 1]) == 0)
            free(names->at[i]);
        else
            names->at[kept++] = names->at[i];
    }
    names->count = kept;
}

bool copy_source_find_digest(struct copy_source *source, const char *reference, struct digest *out,
                             struct error *error) {
    cleanup_copy_manifest struct copy_manifest manifest = {0};
    if (source->kind->find_digest)
        return source->kind->find_digest(source, reference, out, error);
    if (!copy_source_get_manifest(source, reference, &manifest, error))
        return false;
    *out = manifest.digest;
    return true;
}

void copy_source_free(struct copy_source *source) {
    if (source)
        source->kind->free(source);
}

struct copy_source *copy_source_open(struct copy_hosts *hosts,
                                     const struct copy_reference *reference, struct error *error) {
    switch (reference->kind) {
    case COPY_REGISTRY:
        return copy_registry_source_open(hosts, reference, error);
    case COPY_LAYOUT:
        return copy_layout_source_open(reference, error);
    case COPY_ARCHIVE:
        return copy_archive_source_open(reference, error);
    }
    return NULL;
}
