/* Opens and closes the root, which one process holds at a time. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "store/quarantine.h"
#include "store/root.h"
#include "store/store_private.h"

/* The process id that the holder of the lock wrote into the file; 0: none. */
static uint64_t read_holder(int lock) {
    char text[24];
    uint64_t pid = 0;
    ssize_t length = file_read_at(lock, text, sizeof text, 0);
    if (length > 0 && text[length - 1] == '\n')
        text_to_u64((struct text){text, (size_t)length - 1}, &pid);
    return pid;
}

/* On a read-only file system an existing lock file can be locked all the same. If there is none, no
 * lock is needed, because no process can write anything below the root. */
static bool open_lock(struct store *store, struct error *error) {
    store->lock_file = root_open(store, "lock", O_RDWR | O_CREAT);
    if (store->lock_file >= 0)
        return true;
    int reason = errno;
    if (reason == EROFS || reason == EACCES) {
        store->lock_file = root_open(store, "lock", O_RDONLY);
        if (store->lock_file >= 0 || (reason == EROFS && errno == ENOENT))
            return true;
    }
    return error_set_errno(error, reason, "open %s/lock", store->path);
}

static bool is_in_use(const struct store *store, struct error *error) {
    uint64_t pid = read_holder(store->lock_file);
    if (!pid) /* the lock file was deleted, or its process id is not written yet */
        return error_set(error, ERROR_BUSY,
                         "%s is in use by another process (stop it, or name another root)",
                         store->path);
    return error_set(error, ERROR_BUSY,
                     "%s is in use by process %llu (stop it, or name another root)", store->path,
                     (unsigned long long)pid);
}

/* The directory is locked as well, because somebody may delete or replace the lock file of a
 * running tarn, but not the directory itself. Network file systems cannot lock directories: the
 * lock file must do there. */
static bool lock_directory(const struct store *store, struct error *error) {
    return flock(store->root, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK ||
           is_in_use(store, error);
}

/* Whether the locked file is still the one that has the name. */
static bool is_lock_current(const struct store *store) {
    struct stat held, named;
    return fstat(store->lock_file, &held) == 0 &&
           fstatat(store->root, "lock", &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

/* Opens and locks the lock file and the directory; opens again while the file is being replaced. */
static bool lock_root(struct store *store, struct error *error) {
    enum { ATTEMPTS = 16 };
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (!open_lock(store, error))
            return false;
        if (store->lock_file < 0)
            return true;
        if (!lock_directory(store, error))
            return false;
        if (flock(store->lock_file, LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK
                       ? is_in_use(store, error)
                       : error_set_errno(error, errno, "lock %s/lock", store->path);
        if (is_lock_current(store))
            return true;
        close(store->lock_file);
        store->lock_file = -1;
    }
    return error_set(error, ERROR_BUSY,
                     "lock %s/lock: the file is replaced again and again (stop what does that)",
                     store->path);
}

static bool take_lock(struct store *store, struct error *error) {
    if (!lock_root(store, error))
        return false;
    if (store->lock_file < 0)
        return true;
    char text[24];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    /* The process id is only information for people: if the disk is full, go on without it. */
    if (ftruncate(store->lock_file, 0) == 0 &&
        !file_write_all(store->lock_file, text, (size_t)length, NULL))
        (void)!ftruncate(store->lock_file, 0);
    return true;
}

/* Whether the root has the file `lower` under the name `upper` too. */
static bool is_one_file(const struct store *store, const char *lower, const char *upper) {
    struct stat one, other;
    return fstatat(store->root, lower, &one, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(store->root, upper, &other, AT_SYMLINK_NOFOLLOW) == 0 &&
           one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/* Needs no file of its own. The directory is for a read-only root without a lock file. */
static bool ignores_case(const struct store *store) {
    return is_one_file(store, "lock", "LOCK") || is_one_file(store, "blobs", "BLOBS");
}

/* If the kernel does not say, a random one, so that partials of earlier processes are dropped. */
static bool read_boot_id(struct store *store, struct error *error) {
    cleanup_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, store->boot_id, 36) == 36)
        return true;
    if (getrandom(store->boot_id, BOOT_ID_SIZE, 0) == BOOT_ID_SIZE)
        return true;
    return error_set_errno(error, errno, "get random bytes");
}

/* mkdir -p of the root itself, which is the only path that is not relative to the root. */
static bool make_root(const char *root, struct error *error) {
    cleanup_free char *path = text_dup(text_of(root));
    if (!path)
        return error_set(error, ERROR_MEMORY, "open store %s: out of memory", root);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
            return error_set_errno(error, errno, "make directory %s", path);
        *slash = '/';
    }
    if (mkdir(path, DIRECTORY_MODE) == 0 || errno == EEXIST)
        return true;
    int reason = errno;
    return access(path, F_OK) == 0 || error_set_errno(error, reason, "make directory %s", path);
}

/* The bytes that the file system allocates at a time. */
static uint64_t allocation_unit(const struct store *store) {
    enum { USUAL = 4096, LEAST = 512, MOST = 1 << 20 };
    struct statvfs state;
    if (store->root < 0 || fstatvfs(store->root, &state) < 0 || state.f_frsize < LEAST ||
        state.f_frsize > MOST)
        return USUAL;
    return state.f_frsize;
}

struct store *store_open(const char *root, struct error *error) {
    if (!root[0]) {
        error_set(error, ERROR_INVALID, "the store's root is empty (name a directory)");
        return NULL;
    }
    struct store *store = calloc(1, sizeof *store);
    if (!store || !(store->path = text_dup(text_of(root)))) {
        free(store);
        error_set(error, ERROR_MEMORY, "open store %s: out of memory", root);
        return NULL;
    }
    store->root = store->lock_file = -1;
    lock_init(&store->open_partials_lock);
    condition_init(&store->open_partials_changed);
    bool made = make_root(root, error);
    if (made)
        store->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int reason = errno;
    if (!index_init(&store->index, allocation_unit(store))) {
        error_set_errno(error, errno, "get random bytes");
        goto failed;
    }
    if (!made)
        goto failed;
    if (store->root < 0) {
        error_set_errno(error, reason, "open store %s", root);
        goto failed;
    }
    if (!root_check_owner(store, error))
        goto failed;
    if (getrandom(&store->session, sizeof store->session, 0) != sizeof store->session) {
        error_set_errno(error, errno, "get random bytes");
        goto failed;
    }
    quarantine_counter();
    if (take_lock(store, error) && read_boot_id(store, error)) {
        store->ignores_case = ignores_case(store);
        return store;
    }
failed:
    store_close(store);
    return NULL;
}

void store_close(struct store *store) {
    if (!store)
        return;
    if (store->lock_file >= 0)
        close(store->lock_file);
    if (store->root >= 0)
        close(store->root);
    index_finish(&store->index);
    condition_finish(&store->open_partials_changed);
    lock_finish(&store->open_partials_lock);
    free(store->path);
    free(store);
}
