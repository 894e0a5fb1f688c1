/*
 * Serves src/node/snapshot/ for a test:
 *
 *     snapshot_driver ROOT SOCKET [IMAGES]
 *
 * IMAGES/CHAIN, where CHAIN is the hexadecimal part of a chain ID, is a folder for the layers up to
 * that chain: `layers` says how many they are, and `tree` is what they are together, which is bound
 * to where the snapshotter wants it. Each search is printed as a line of JSON. The driver ends with
 * its input.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"
#include "node/snapshot/calls.h"

enum { STOP_MS = 10000 };

static const char *images_folder;

static bool find(void *context, const struct snapshots_wanted *wanted, const atomic_bool *stop,
                 struct snapshots_found *found, struct error *error) {
    char path[PATH_MAX];
    const char *colon = strchr(wanted->chain, ':');
    (void)context, (void)stop;
    snprintf(path, sizeof path, "%s/%s/layers", images_folder, colon ? colon + 1 : "none");
    cleanup_free char *number = file_read_small(path, 64, 0, NULL, NULL, error);
    printf("{\"chain\": \"%s\", \"image\": \"%s\", \"manifest\": \"%s\", \"layer\": \"%s\", "
           "\"found\": %s}\n",
           wanted->chain, wanted->image, wanted->manifest, wanted->layer,
           number ? "true" : "false");
    fflush(stdout);
    if (!number)
        return false;
    *found = (struct snapshots_found){.image = strdup(colon + 1), .layers = (unsigned)atoi(number)};
    return found->image != NULL;
}

static bool mount_tree(void *context, const char *image, unsigned layers, const char *directory,
                       const atomic_bool *stop, struct error *error) {
    char path[PATH_MAX];
    struct stat tree, there;
    (void)context, (void)layers, (void)stop;
    snprintf(path, sizeof path, "%s/%s/tree", images_folder, image);
    if (stat(path, &tree) == 0 && stat(directory, &there) == 0 && tree.st_ino == there.st_ino)
        return true;
    return mount(path, directory, NULL, MS_BIND, NULL) == 0 ||
           error_set_errno(error, errno, "mounting %s", path);
}

static bool unmount_tree(void *context, const char *directory, struct error *error) {
    (void)context;
    return umount2(directory, MNT_DETACH) == 0 || errno == EINVAL || errno == ENOENT ||
           error_set_errno(error, errno, "unmounting %s", directory);
}

int main(int count, char **arguments) {
    static const struct snapshots_images images = {
        .find = find, .mount = mount_tree, .unmount = unmount_tree};
    struct error error = {0};
    char byte;
    if (count < 3)
        return 2;
    images_folder = count > 3 ? arguments[3] : NULL;
    thread_allow_rest();
    const struct snapshots_settings settings = {.root = arguments[1],
                                                .images = images_folder ? &images : NULL};
    struct snapshots *snapshots = snapshots_open(&settings, &error);
    int fd = snapshots ? grpc_listen(arguments[2], &error) : -1;
    struct grpc_server *server =
        fd >= 0 ? grpc_server_start(fd, calls_answer, snapshots, &error) : NULL;
    if (!server) {
        fprintf(stderr, "snapshot_driver: %s\n", error.text);
        return 1;
    }
    printf("{\"ready\": true}\n");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    if (!grpc_server_stop(server, STOP_MS))
        return 1;
    close(fd);
    snapshots_close(snapshots);
    return 0;
}
