/*
 * Who may read which repositories, and push there: a list of rules. Pure; any thread.
 *
 * A request is allowed when any rule matches it. Without a matching rule it is not.
 */
#ifndef REGISTRY_RULES_H
#define REGISTRY_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include "oci/reference.h"

/* One rule. Lists end with NULL. */
struct rule {
    const char *const *users; /* for clients that have logged in as one of these; NULL: nobody */
    bool anonymous;           /* for everybody, also without a login */
    bool push;                /* they may also write, where the upstream has `push: true` */
    const char *upstream;     /* glob of the upstream's host, in lower case; NULL: all */
    const char *const *repositories; /* globs of the path in it; NULL: all */
};

struct rules;

/* Copies the rules. NULL: out of memory. */
struct rules *rules_new(const struct rule *rules, size_t count);
void rules_free(struct rules *rules); /* NULL is allowed */

/* Whether `user` ("": a client that has not logged in) may read the repository. */
bool rules_allow(const struct rules *rules, const char *user,
                 const struct repository_name *repository);

/* Whether `user` may write to the repository; never without a login. */
bool rules_allow_push(const struct rules *rules, const char *user,
                      const struct repository_name *repository);

/* Whether some user may read the repository, so that a login could help. */
bool rules_allow_somebody(const struct rules *rules, const struct repository_name *repository);

/* Whether a client may read anything without a login. */
bool rules_allow_anonymous(const struct rules *rules);

#endif
