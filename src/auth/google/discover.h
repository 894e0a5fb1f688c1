/* The search order of Application Default Credentials: which source is present. Private to
 * auth/google/. */
#ifndef AUTH_GOOGLE_DISCOVER_H
#define AUTH_GOOGLE_DISCOVER_H

#include "auth/google/google.h"
#include "base/error.h"

enum found_kind { FOUND_NOTHING, FOUND_FILE, FOUND_METADATA, FOUND_GCLOUD };

struct found {
    enum found_kind kind;
    bool named;      /* by the settings or the environment, so that it must work */
    bool unsettled;  /* FOUND_NOTHING, but the metadata server may still come */
    char place[400]; /* the file's path, or the metadata server's host[:port] */
};

/* Finds the source that the settings name, or else the first that is present. False: it cannot be
 * told whether a source is present (a folder that tarn may not read). `trail` may be NULL. */
bool google_discover(struct client *client, const struct google_settings *settings,
                     struct found *out, struct google_trail *trail, struct error *error);

#endif
