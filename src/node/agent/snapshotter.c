/* Brings the snapshotter together with the images and mounts of the agent. */
#include "node/agent/snapshotter.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "node/snapshot/calls.h"
#include "oci/reference.h"

/* The orders of the snapshotter, so that one that is repeated succeeds. */
#define TOKEN "snapshotter"

enum { STOP_MS = 1500 };

struct snapshotter {
    struct mounts *mounts;
    struct spans *spans;
    struct snapshots *snapshots;
    int fd; /* of the listening socket */
    struct grpc_server *server;
};

/* ---- images ---- */

/* The name HOST/NAME@DIGEST of an image as containerd's labels say it; the caller's to free(). */
static char *name_image(const struct snapshots_wanted *wanted, struct error *error) {
    struct image_name name;
    struct digest manifest;
    char *text = NULL;
    if (!wanted->image[0] || !digest_parse(text_of(wanted->manifest), &manifest)) {
        error_set(error, ERROR_NOT_FOUND, "no label says which image it is");
        return NULL;
    }
    if (!image_name_parse(text_of(wanted->image), &name, error))
        return NULL;
    if (asprintf(&text, "%s/%s@%s", name.host, name.repository, wanted->manifest) < 0) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    return text;
}

static bool find(void *context, const struct snapshots_wanted *wanted, const atomic_bool *stop,
                 struct snapshots_found *found, struct error *error) {
    struct snapshotter *snapshotter = context;
    struct digest chain;
    size_t layers = 0;
    if (!digest_parse(text_of(wanted->chain), &chain))
        return error_set(error, ERROR_INVALID, "%.100s is no chain ID", wanted->chain);
    char *image = name_image(wanted, error);
    if (!image)
        return false;
    if (!spans_image_find(snapshotter->spans, image, &chain, stop, &layers, &found->is_whole,
                          error)) {
        free(image);
        return false;
    }
    found->image = image;
    found->layers = (unsigned)layers;
    return true;
}

static bool is_wanted(void *context) {
    const atomic_bool *stop = context;
    return !stop || !atomic_load(stop);
}

/* Whether a file system is mounted at the directory, which is the last part of its path. */
static bool is_mounted(const char *directory) {
    struct stat here, above;
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s/..", directory);
    if (stat(directory, &here) != 0)
        return false;
    /* Inside of the mount, ".." is the folder in which it is mounted. */
    return stat(parent, &above) == 0 && here.st_dev != above.st_dev;
}

static bool mount_image(void *context, const char *image, unsigned layers, const char *directory,
                        const atomic_bool *stop, struct error *error) {
    struct snapshotter *snapshotter = context;
    struct buffer note = {0};
    const struct mounts_wanted wanted = {.image = image,
                                         .folder = directory,
                                         .token = TOKEN,
                                         .layers = layers,
                                         .is_wanted = is_wanted,
                                         .context = (void *)(uintptr_t)stop};
    bool done = mounts_add(snapshotter->mounts, &wanted, &note, error);
    buffer_finish(&note);
    /* The agent may know of a mount that it could not make again yet. Nobody may see an empty
     * folder in its place. */
    return done && (is_mounted(directory) ||
                    error_set(error, ERROR_UNAVAILABLE, "%s is not mounted again yet", directory));
}

static bool unmount_image(void *context, const char *directory, struct error *error) {
    struct snapshotter *snapshotter = context;
    return mounts_remove(snapshotter->mounts, directory, error) || error->kind == ERROR_NOT_FOUND;
}

/* ---- life ---- */

static bool serve(struct snapshotter *snapshotter, const struct mount_order_place *place,
                  struct error *error) {
    const struct snapshots_images images = {
        .context = snapshotter, .find = find, .mount = mount_image, .unmount = unmount_image};
    char root[PATH_MAX], path[PATH_MAX];
    snprintf(root, sizeof root, "%s/snapshots", place->root);
    snprintf(path, sizeof path, "%s/snap.sock", place->run);
    const struct snapshots_settings settings = {.root = root, .images = &images};
    snapshotter->snapshots = snapshots_open(&settings, error);
    snapshotter->fd = snapshotter->snapshots ? grpc_listen(path, error) : -1;
    if (snapshotter->fd >= 0)
        snapshotter->server =
            grpc_server_start(snapshotter->fd, calls_answer, snapshotter->snapshots, error);
    return snapshotter->server != NULL;
}

struct snapshotter *snapshotter_start(struct mounts *mounts, struct spans *spans,
                                      const struct mount_order_place *place, struct error *error) {
    struct snapshotter *snapshotter = calloc(1, sizeof *snapshotter);
    if (!snapshotter) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    snapshotter->mounts = mounts;
    snapshotter->spans = spans;
    snapshotter->fd = -1;
    if (serve(snapshotter, place, error))
        return snapshotter;
    snapshotter_stop(snapshotter);
    return NULL;
}

void snapshotter_stop(struct snapshotter *snapshotter) {
    if (!snapshotter)
        return;
    if (!grpc_server_stop(snapshotter->server, STOP_MS)) {
        log_event(LOG_WARN, "a snapshot call hangs", NULL, 0);
        return; /* it may still use everything */
    }
    snapshots_close(snapshotter->snapshots);
    if (snapshotter->fd >= 0)
        close(snapshotter->fd);
    free(snapshotter);
}
