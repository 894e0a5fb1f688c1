/* Requests to the snapshotter: the first byte chooses the method, the rest is the message. Answers
 * must be well-formed, and names stay unique. */
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "fuzz.h"
#include "node/snapshot/calls.h"

static char root[] = "/tmp/tarn-fuzz-XXXXXX";
static struct snapshots *snapshots;

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw) {
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

static void clear(void) {
    snapshots_close(snapshots);
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static bool find(void *context, const struct snapshots_wanted *wanted, const atomic_bool *stop,
                 struct snapshots_found *found, struct error *error) {
    (void)context, (void)stop, (void)error;
    MUST(wanted->chain && wanted->image && wanted->manifest && wanted->layer);
    *found = (struct snapshots_found){.image = strdup("a/b@c"), .layers = 1};
    return true;
}

static bool mount_image(void *context, const char *image, unsigned layers, const char *directory,
                        const atomic_bool *stop, struct error *error) {
    (void)context, (void)image, (void)layers, (void)directory, (void)stop, (void)error;
    return true;
}

static bool unmount_image(void *context, const char *directory, struct error *error) {
    (void)context, (void)directory, (void)error;
    return true;
}

static void set_up(void) {
    static const struct snapshots_images images = {
        .find = find, .mount = mount_image, .unmount = unmount_image};
    const struct snapshots_settings settings = {.root = root, .images = &images};
    if (snapshots)
        return;
    log_configure(LOG_ERROR, LOG_TEXT);
    MUST(mkdtemp(root));
    snapshots = snapshots_open(&settings, NULL);
    MUST(snapshots);
    atexit(clear);
}

/* Frames one after the other. */
static void check_reply(const struct buffer *reply) {
    const unsigned char *bytes = (const unsigned char *)reply->bytes;
    for (size_t at = 0; at < reply->length;) {
        MUST(reply->length - at >= GRPC_PREFIX && bytes[at] == 0);
        size_t length = (size_t)bytes[at + 1] << 24 | (size_t)bytes[at + 2] << 16 |
                        (size_t)bytes[at + 3] << 8 | bytes[at + 4];
        MUST(length <= reply->length - at - GRPC_PREFIX);
        at += GRPC_PREFIX + length;
    }
}

static void remove_shown(void *context, const struct entry *entry) {
    snprintf(context, ENTRIES_NAME_LIMIT, "%s", entry->children == 0 ? entry->name : "");
}

/* Removes what there is, so that each input begins with nothing. */
static void empty(void) {
    static char name[ENTRIES_NAME_LIMIT];
    struct filters *filters = filters_parse(NULL, 0, NULL);
    MUST(filters);
    do {
        name[0] = '\0';
        snapshots_list(snapshots, filters, remove_shown, name);
    } while (name[0] && snapshots_remove(snapshots, name, NULL) == SNAPSHOTS_DONE);
    filters_free(filters);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const char *const methods[] = {"Prepare", "View", "Mounts", "Commit",  "Remove", "Stat",
                                          "Update",  "List", "Usage",  "Cleanup", "No"};
    set_up();
    /* Several requests: method, two bytes of length, message. */
    while (length >= 3) {
        char path[GRPC_PATH_LIMIT];
        size_t wanted = (size_t)bytes[1] << 8 | bytes[2];
        size_t size = wanted < length - 3 ? wanted : length - 3;
        struct buffer reply = {0};
        struct error error = {0};
        atomic_bool stop = false;
        snprintf(path, sizeof path, "/containerd.services.snapshots.v1.Snapshots/%s",
                 methods[bytes[0] % (sizeof methods / sizeof *methods)]);
        const struct grpc_request request = {.path = path,
                                             .message = bytes + 3,
                                             .length = size,
                                             .stop = &stop,
                                             .reply = &reply,
                                             .error = &error};
        enum grpc_status status = calls_answer(snapshots, &request);
        MUST(status == GRPC_OK || error.text[0]);
        if (status == GRPC_OK)
            check_reply(&reply);
        buffer_finish(&reply);
        bytes += 3 + size;
        length -= 3 + size;
    }
    empty();
    return 0;
}
