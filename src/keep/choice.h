/*
 * Which images of a repository a keep wants, in which order, and what they are called.
 *
 * Pure: the caller lists the repository (catalog/) and hands the list in. Any thread.
 */
#ifndef KEEP_CHOICE_H
#define KEEP_CHOICE_H

#include <stdint.h>
#include "base/error.h"
#include "keep/spec.h"

/* An image of a repository as the source listed it. */
struct keep_listed {
    const char *digest; /* "sha256:...", or NULL: not known */
    const char *const *tags;
    size_t tag_count;
    int64_t uploaded_s;           /* seconds since 1970; 0: not known */
    uint64_t size;                /* bytes; 0: not known */
    const char *const *platforms; /* "linux/amd64" */
    size_t platform_count;        /* 0: not known */
    bool may_be_index;            /* it is one, or nobody has said what it is */
};

/* A tag that was chosen or listed. Owned by the choice. */
struct keep_chosen {
    char *tag;
    char *name;              /* for people, as cachemachine writes it, with an alias's siblings */
    char *short_name;        /* the same without the siblings */
    char *flat_name;         /* as nublado writes it: "Recommended (Weekly 2077_43, SAL Cycle 1)" */
    enum keep_tag_kind kind; /* as the settings of the keep make it */
    size_t image;            /* index into the list that was handed in */
};

struct keep_choice {
    struct keep_chosen *desired; /* to be kept, in order; an image may come twice by two tags */
    size_t desired_count;
    struct keep_chosen *all; /* whatever the settings let pass, by tag, descending byte order */
    size_t all_count;
    /* `newer_than` is set and the source tells no times, so that nothing is known to be newer. */
    bool without_times;
};

/* `now_s` is the wall time. False: ERROR_MEMORY, or ERROR_INVALID because more than
 * KEEP_IMAGE_LIMIT would be chosen. The choice is to be finished either way. */
bool keep_choose(const struct keep_entry *entry, const struct keep_listed *images, size_t count,
                 int64_t now_s, struct keep_choice *out, struct error *error);
void keep_choice_finish(struct keep_choice *choice);

#endif
