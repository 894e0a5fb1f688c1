/* The gcloud program's own login, for developers' machines. Private to auth/google/. */
#ifndef AUTH_GOOGLE_GCLOUD_H
#define AUTH_GOOGLE_GCLOUD_H

#include "auth/google/google.h"

/* Its tokens have the scopes of its login, because gcloud offers no way to ask for others. */
bool gcloud_token(struct google_token *out, struct error *error);

#endif
