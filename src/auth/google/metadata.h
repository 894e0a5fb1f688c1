/*
 * The metadata server of a Google machine, pod or job. Private to auth/google/.
 *
 * It is plain HTTP at an address that only the machine itself reaches, and is never asked through a
 * proxy. A response without `Metadata-Flavor: Google` is from some other server.
 */
#ifndef AUTH_GOOGLE_METADATA_H
#define AUTH_GOOGLE_METADATA_H

#include "auth/google/google.h"

enum { METADATA_HOST_SIZE = 280 };
#define METADATA_DEFAULT_HOST "169.254.169.254"

enum metadata_presence {
    METADATA_THERE,
    METADATA_SILENT, /* nothing answers, which may pass: a new pod's needs some seconds */
    METADATA_ABSENT, /* some other server answers */
};

/* Looks at the default address: two requests of a second at most. */
enum metadata_presence metadata_look(struct client *client);

/* `scope` may be NULL: the instance's own. `account`: also ask for the account's address. False
 * with ERROR_NOT_FOUND: the metadata server has no service account. */
bool metadata_token(struct client *client, const char *host, const char *scope, bool account,
                    struct google_token *out, struct error *error);

#endif
