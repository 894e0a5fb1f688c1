/* The search order of Application Default Credentials: which source is present. Inside google/. */
#ifndef AUTH_GOOGLE_DISCOVER_H
#define AUTH_GOOGLE_DISCOVER_H

#include "auth/google/google.h"
#include "auth/google/kinds.h"
#include "base/error.h"

enum found_kind { FOUND_NOTHING, FOUND_FILE, FOUND_METADATA, FOUND_GCLOUD };

struct found {
    enum found_kind kind;
    bool named;      /* by the settings or the environment: it has to work */
    char place[400]; /* the file's path, or the metadata server's host[:port] */
};

/* What the settings name, or the first that is present. False: whether one is present cannot be
 * told (a folder that may not be looked into). `trail` may be NULL. */
bool discover(struct client *client, const struct google_settings *settings, struct found *out,
              struct google_trail *trail, struct error *error);

/* A path is there, in whatever state; false with an error: that cannot be told. */
bool discover_file_present(const char *path, bool *present, struct error *error);

#endif
