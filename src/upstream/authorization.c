/* The end of an Authorization. */
#include "upstream/authorization.h"

#include "upstream/credential.h"

void authorization_wipe(struct authorization *authorization) {
    credential_text_wipe(&authorization->header);
    *authorization = (struct authorization){0};
}
