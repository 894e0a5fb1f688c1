/* Adds the configured fields to responses. */
#include "http/more_fields.h"

#include <stdlib.h>
#include <string.h>

struct composed_fields {
    struct shared_value value; /* the first member */
    size_t length;
    char bytes[];
};

struct composed_fields *more_fields_compose(const char *const *lines) {
    size_t length = 0;
    for (const char *const *line = lines; line && *line; line++)
        length += strlen(*line) + 2;
    struct composed_fields *fields = calloc(1, sizeof *fields + length + 1);
    if (!fields)
        return NULL;
    fields->length = length;
    char *at = fields->bytes;
    for (const char *const *line = lines; line && *line; line++)
        at = stpcpy(stpcpy(at, *line), "\r\n");
    return fields;
}

void more_fields_drop(struct composed_fields *fields) {
    free(fields);
}

static void free_value(struct shared_value *value) {
    more_fields_drop((struct composed_fields *)value);
}

void more_fields_init(struct more_fields *more, struct composed_fields *fields) {
    shared_init(&more->now, &fields->value);
    atomic_init(&more->are_any, fields->length > 0);
}

void more_fields_change(struct more_fields *more, struct composed_fields *fields) {
    bool are_any = fields->length > 0;
    shared_exchange(&more->now, &fields->value);
    atomic_store(&more->are_any, are_any);
    shared_sweep(&more->now, free_value); /* whatever is held now, the next change frees */
}

void more_fields_finish(struct more_fields *more) {
    if (more->now.now)
        shared_finish(&more->now, free_value);
}

bool more_fields_append(struct more_fields *more, struct unsent *unsent) {
    if (!atomic_load_explicit(&more->are_any, memory_order_relaxed))
        return true;
    struct shared_value *value = shared_hold(&more->now);
    const struct composed_fields *fields = (const struct composed_fields *)value;
    bool added = unsent_append(unsent, fields->bytes, fields->length);
    shared_release(value);
    return added;
}
