/* The search order of Application Default Credentials. */
#include "auth/google/discover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "auth/google/metadata.h"
#include "auth/shown.h"

#define WELL_KNOWN_FILE "application_default_credentials.json"

/* An empty variable counts as absent. */
static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static void record(struct google_trail *trail, const char *place, const char *finding) {
    if (!trail || trail->count == GOOGLE_TRAIL_LIMIT)
        return;
    struct google_step *step = &trail->steps[trail->count++];
    snprintf(step->place, sizeof step->place, "%s", shown_value(place));
    snprintf(step->finding, sizeof step->finding, "%s", finding);
}

static bool set_found(struct found *out, enum found_kind kind, bool named, const char *place,
                      struct error *error) {
    out->kind = kind;
    out->named = named;
    if (shown_is_secret(place) && access(place, F_OK) != 0)
        return error_set(error, ERROR_INVALID,
                         "a credential itself stands where %s is wanted: write it to a file that "
                         "only tarn's user may read, and name that file",
                         kind == FOUND_METADATA ? "a host" : "the path of a file");
    return text_copy(text_of(place), out->place, sizeof out->place) ||
           error_set(error, ERROR_INVALID, "path or host longer than %zu bytes",
                     sizeof out->place - 1);
}

/* Whether there is a file, in whatever state. False: that cannot be told. */
static bool is_present(const char *path, bool *present, struct error *error) {
    struct stat status;
    *present = stat(path, &status) == 0;
    if (*present || errno == ENOENT || errno == ENOTDIR)
        return true;
    return error_set_errno(error, errno, "%s", shown_value(path));
}

/* The second place: gcloud's well-known file. */
static bool look_at_well_known(struct found *out, struct google_trail *trail, struct error *error) {
    const char *folder = environment("CLOUDSDK_CONFIG"), *home = environment("HOME");
    char path[sizeof out->place];
    if (!folder && !home) {
        record(trail, "$HOME/.config/gcloud/" WELL_KNOWN_FILE, "HOME is not set");
        return true;
    }
    int length = folder ? snprintf(path, sizeof path, "%s/" WELL_KNOWN_FILE, folder)
                        : snprintf(path, sizeof path, "%s/.config/gcloud/" WELL_KNOWN_FILE, home);
    if (length < 0 || (size_t)length >= sizeof path)
        return error_set(error, ERROR_INVALID, "the path of gcloud's folder is too long");
    bool present;
    if (!is_present(path, &present, error)) {
        record(trail, path, "cannot be examined");
        return false;
    }
    record(trail, path, present ? "used" : "no such file");
    return !present || set_found(out, FOUND_FILE, false, path, error);
}

/* The third place: the metadata server. */
static bool look_at_metadata(struct client *client, struct found *out, struct google_trail *trail,
                             struct error *error) {
    const char *host = environment("GCE_METADATA_HOST"), *no_check = environment("NO_GCE_CHECK");
    if (host) {
        record(trail, "GCE_METADATA_HOST", "used");
        return set_found(out, FOUND_METADATA, true, host, error) ||
               error_wrap(error, "GCE_METADATA_HOST");
    }
    if (no_check && strcasecmp(no_check, "true") == 0) {
        record(trail, "http://" METADATA_DEFAULT_HOST, "not asked: NO_GCE_CHECK=true");
        return true;
    }
    enum metadata_presence presence = metadata_look(client);
    bool there = presence == METADATA_THERE;
    out->unsettled = presence == METADATA_SILENT;
    record(trail, "http://" METADATA_DEFAULT_HOST, there ? "used" : "no metadata server answers");
    return !there || set_found(out, FOUND_METADATA, false, METADATA_DEFAULT_HOST, error);
}

bool google_discover(struct client *client, const struct google_settings *settings,
                     struct found *out, struct google_trail *trail, struct error *error) {
    *out = (struct found){0};
    if (settings->file) {
        record(trail, settings->file, "used: named by the configuration");
        return set_found(out, FOUND_FILE, true, settings->file, error);
    }
    if (settings->metadata) {
        record(trail, settings->metadata, "used: named by the configuration");
        return set_found(out, FOUND_METADATA, true, settings->metadata, error);
    }
    if (settings->gcloud) {
        record(trail, "gcloud", "used: named by the configuration");
        return set_found(out, FOUND_GCLOUD, true, "gcloud", error);
    }
    const char *file = environment("GOOGLE_APPLICATION_CREDENTIALS");
    if (file) {
        record(trail, "GOOGLE_APPLICATION_CREDENTIALS", "used");
        return set_found(out, FOUND_FILE, true, file, error) ||
               error_wrap(error, "GOOGLE_APPLICATION_CREDENTIALS");
    }
    record(trail, "GOOGLE_APPLICATION_CREDENTIALS", "not set");
    if (!look_at_well_known(out, trail, error))
        return false;
    return out->kind != FOUND_NOTHING || look_at_metadata(client, out, trail, error);
}
