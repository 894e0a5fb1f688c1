/* The kinds of sources, and what they share. Private to copy/. */
#ifndef COPY_SOURCES_H
#define COPY_SOURCES_H

#include "copy/source.h"

/* As copy_source_open(), of the one kind. */
struct copy_source *copy_registry_source_open(struct copy_hosts *hosts,
                                              const struct copy_reference *reference,
                                              struct error *error);
struct copy_source *copy_layout_source_open(const struct copy_reference *reference,
                                            struct error *error);

struct copy_source *copy_archive_source_open(const struct copy_reference *reference,
                                             struct error *error);

/* A registry's repository, and how it is asked. Its upstream and `stop` outlive who has it. */
struct copy_registry {
    struct repository repository;
    int64_t patience_ms;     /* without progress */
    const atomic_bool *stop; /* set: every question ends (CLOSED); NULL: never */
};

/* A source that reads the repository. NULL: out of memory. */
struct copy_source *copy_registry_source_of(const struct copy_registry *registry,
                                            struct error *error);

/* As copy_source_find_digest(), of a registry. */
bool copy_registry_find_digest(const struct copy_registry *registry, const char *reference,
                               struct digest *out, struct error *error);

/* Sorts the names, and drops those that repeat. */
void copy_names_settle(struct copy_names *names);

#endif
