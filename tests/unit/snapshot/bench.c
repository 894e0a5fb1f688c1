/* A snapshotter for a test, and images that it may find. */
#include "snapshot/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

static bool find(void *context, const struct snapshots_wanted *wanted, const atomic_bool *stop,
                 struct snapshots_found *found, struct error *error) {
    struct bench *bench = context;
    unsigned number = 0;
    lock_acquire(&bench->images_lock);
    bench->finds++;
    bench->finding++;
    condition_broadcast(&bench->found);
    while (bench->hold && !(stop && atomic_load(stop)))
        condition_wait_until(&bench->found, &bench->images_lock, clock_ms() + 10);
    bench->finding--;
    bool streams = sscanf(wanted->chain, "sha256:%u", &number) == 1 && number <= bench->streaming;
    lock_release(&bench->images_lock);
    if (!streams)
        return error_set(error, ERROR_NOT_FOUND, "it does not stream");
    *found = (struct snapshots_found){.image = strdup("registry.example/app@sha256:1"),
                                      .layers = number,
                                      .is_whole = number == bench->whole};
    return true;
}

static bool mount_image(void *context, const char *image, unsigned layers, const char *directory,
                        const atomic_bool *stop, struct error *error) {
    struct bench *bench = context;
    (void)stop;
    assert_string_equal(image, "registry.example/app@sha256:1");
    lock_acquire(&bench->images_lock);
    bench->mount_calls++;
    bool refuse = bench->refuse_mounts;
    for (unsigned i = 0; !refuse; i++) {
        assert_true(i < BENCH_MOUNTS);
        if (bench->mounted[i][0] && strcmp(bench->mounted[i], directory) != 0)
            continue;
        snprintf(bench->mounted[i], BENCH_PATH, "%s", directory);
        bench->mounted_layers[i] = layers;
        break;
    }
    lock_release(&bench->images_lock);
    return !refuse || error_set(error, ERROR_UNAVAILABLE, "no mount today");
}

static bool unmount_image(void *context, const char *directory, struct error *error) {
    struct bench *bench = context;
    lock_acquire(&bench->images_lock);
    bool refuse = bench->refuse_unmounts;
    for (unsigned i = 0; i < BENCH_MOUNTS; i++)
        if (!refuse && strcmp(bench->mounted[i], directory) == 0)
            bench->mounted[i][0] = '\0';
    lock_release(&bench->images_lock);
    return !refuse || error_set(error, ERROR_BUSY, "it is in use");
}

void bench_open(struct bench *bench, bool with_images) {
    struct error error = {0};
    const struct snapshots_settings settings = {.root = bench->root,
                                                .images = with_images ? &bench->images : NULL};
    snapshots_close(bench->snapshots);
    bench->snapshots = snapshots_open(&settings, &error);
    assert_string_equal(error.text, "");
    assert_non_null(bench->snapshots);
}

void bench_reopen(struct bench *bench) {
    bench_open(bench, true);
}

int bench_setup(void **state) {
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    /* In memory if possible, because each change is synced. */
    strcpy(bench->root, "/dev/shm/tarn-snapshots-XXXXXX");
    if (!mkdtemp(bench->root)) {
        strcpy(bench->root, "/tmp/tarn-snapshots-XXXXXX");
        assert_non_null(mkdtemp(bench->root));
    }
    lock_init(&bench->images_lock);
    condition_init(&bench->found);
    bench->images = (struct snapshots_images){
        .context = bench, .find = find, .mount = mount_image, .unmount = unmount_image};
    bench_open(bench, true);
    *state = bench;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw) {
    (void)status, (void)type, (void)ftw;
    return remove(path);
}

int bench_teardown(void **state) {
    struct bench *bench = *state;
    snapshots_close(bench->snapshots);
    nftw(bench->root, remove_one, 64, FTW_DEPTH | FTW_PHYS);
    condition_finish(&bench->found);
    lock_finish(&bench->images_lock);
    free(bench);
    return 0;
}

unsigned bench_count_mounts(struct bench *bench) {
    unsigned count = 0;
    lock_acquire(&bench->images_lock);
    for (unsigned i = 0; i < BENCH_MOUNTS; i++)
        count += bench->mounted[i][0] != '\0';
    lock_release(&bench->images_lock);
    return count;
}

void bench_path(const struct bench *bench, const char *name, char out[static BENCH_PATH]) {
    snprintf(out, BENCH_PATH, "%s/%s", bench->root, name);
}

bool bench_exists(const struct bench *bench, const char *name) {
    char path[BENCH_PATH];
    struct stat status;
    bench_path(bench, name, path);
    return lstat(path, &status) == 0;
}

void bench_write(const struct bench *bench, const char *name, const void *bytes, size_t length) {
    char path[BENCH_PATH];
    bench_path(bench, name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

enum snapshots_outcome bench_prepare(struct bench *bench, const char *key, const char *parent,
                                     const char *chain, struct error *error) {
    cleanup_snapshots_mount struct snapshots_mount mount = {0};
    cleanup_json json_t *labels = json_object();
    const struct snapshots_request request = {.key = key, .parent = parent, .labels = labels};
    if (chain[0])
        json_object_set_new(labels, "containerd.io/snapshot.ref", json_string(chain));
    return snapshots_prepare(bench->snapshots, ENTRY_ACTIVE, &request, &mount, error);
}

enum snapshots_outcome bench_commit(struct bench *bench, const char *name, const char *key,
                                    const char *parent, struct error *error) {
    cleanup_json json_t *labels = json_object();
    const struct snapshots_request request = {.key = key, .parent = parent, .labels = labels};
    return snapshots_commit(bench->snapshots, name, &request, error);
}

void bench_layer(struct bench *bench, const char *name, const char *parent) {
    struct error error = {0};
    assert_int_equal(bench_prepare(bench, "making", parent, "", &error), SNAPSHOTS_DONE);
    assert_int_equal(bench_commit(bench, name, "making", "", &error), SNAPSHOTS_DONE);
}

void bench_mounts(struct bench *bench, const char *key, char *out, size_t size) {
    cleanup_snapshots_mount struct snapshots_mount mount = {0};
    struct error error = {0};
    assert_int_equal(snapshots_mounts(bench->snapshots, key, NULL, &mount, &error), SNAPSHOTS_DONE);
    int length = snprintf(out, size, "%s %s", mount.type, mount.source);
    for (unsigned i = 0; i < mount.count; i++)
        length += snprintf(out + length, size - (size_t)length, " %s", mount.options[i]);
}

static void show_kind(void *context, const struct entry *entry) {
    *(enum entry_kind *)context = entry->kind;
}

enum entry_kind bench_kind(struct bench *bench, const char *key) {
    enum entry_kind kind = 0;
    snapshots_stat(bench->snapshots, key, show_kind, &kind, NULL);
    return kind;
}
