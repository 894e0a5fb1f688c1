/* The end of an Authorization. */
#include "upstream/authorization.h"

#include "base/secret.h"

void authorization_wipe(struct authorization *authorization) {
    secret_free(&authorization->header);
    *authorization = (struct authorization){0};
}
