/*
 * Private to http/. The fields that each response gets from the configuration, which may change
 * while responses are made. Threads: any; more_fields_change() by one at a time.
 */
#ifndef HTTP_MORE_FIELDS_H
#define HTTP_MORE_FIELDS_H

#include <stdatomic.h>
#include "base/error.h"
#include "base/shared.h"
#include "http/unsent.h"

/* Fields as they are sent. */
struct composed_fields;

struct more_fields {
    struct shared now;   /* of struct composed_fields */
    atomic_bool are_any; /* so that a server without them takes no lock */
};

/* From lines of "Name: value", of a NULL-terminated list or NULL. NULL: no memory. */
struct composed_fields *more_fields_compose(const char *const *lines);
void more_fields_drop(struct composed_fields *fields); /* NULL is allowed */

/* Take `fields` over. */
void more_fields_init(struct more_fields *more, struct composed_fields *fields);
void more_fields_change(struct more_fields *more, struct composed_fields *fields);
void more_fields_finish(struct more_fields *more); /* zeroed is allowed */

/* Adds them to a response. False: out of memory. */
bool more_fields_append(struct more_fields *more, struct unsent *unsent);

#endif
