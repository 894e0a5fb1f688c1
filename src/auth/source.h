/* Inside auth/: sources with a name of their own making. */
#ifndef AUTH_SOURCE_H
#define AUTH_SOURCE_H

#include "auth/credential.h"

/* credential_source_new() with a name that is copied. `by_host`: see
 * credential_source_is_by_host(). */
struct credential_source *source_new_named(const char *name, bool by_host,
                                           bool (*get)(void *context, const char *host, bool renew,
                                                       struct credential *out, struct error *error),
                                           void (*free_context)(void *context), void *context);

#endif
