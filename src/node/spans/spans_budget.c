/*
 * The disk that the root may take. Layers that no open image has go first, as a whole and the least
 * recently used one first; then single spans of open layers in the same order.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "node/spans/private.h"

enum {
    VICTIMS = 64,           /* spans that leave at once */
    FREE_FIXED = 16 << 20,  /* bytes of indexes and trees that are not counted */
    IMAGES_BYTES = 8 << 20, /* of indexes of images that are not open, at most */
    LEAST_CACHE = 8 << 20,  /* bytes: of a smaller cache_size nothing would remain */
    WAIT_MS = 1000,         /* for spans that are being read */
};

/* ---- counting ---- */

static uint64_t limit_of(const struct spans *spans) {
    uint64_t limit = spans->settings.cache_size;
    return limit < LEAST_CACHE ? LEAST_CACHE : limit;
}

static uint64_t in_use(const struct spans *spans) REQUIRES(spans->lock) {
    uint64_t fixed = spans->fixed > FREE_FIXED ? spans->fixed - FREE_FIXED : 0;
    return spans->held + spans->idle_bytes + spans->pulling + fixed;
}

void spans_budget_show(struct spans *spans) {
    metric_set(spans->cache_bytes, (int64_t)(spans->held + spans->idle_bytes + spans->fixed));
}

void spans_budget_return(struct spans *spans, struct spans_layer *layer, size_t at) {
    uint64_t room = spans_layer_room(layer, at);
    layer->present--;
    layer->held -= room;
    spans->held -= room;
    spans_budget_show(spans);
}

static void count_in(struct spans *spans, struct spans_layer *layer, size_t at)
    REQUIRES(spans->lock) {
    uint64_t room = spans_layer_room(layer, at);
    layer->present++;
    layer->held += room;
    spans->held += room;
    spans_budget_show(spans);
}

bool spans_budget_fits(const struct spans *spans, const struct spans_layer *layer) {
    uint64_t sum = spans->fixed > FREE_FIXED ? spans->fixed - FREE_FIXED : 0;
    for (const struct spans_layer *one = spans->layers; one; one = one->next) {
        sum += one->tar_size + one->count * SPANS_PAGE;
        if (one == layer)
            break;
    }
    return sum <= limit_of(spans);
}

/* ---- layers at rest ---- */

static void add_idle(struct spans *spans, const char *key, uint64_t bytes, int64_t used_s)
    REQUIRES(spans->lock) {
    struct spans_idle *idle = calloc(1, sizeof *idle);
    if (!idle) /* the next process finds it */
        return;
    *idle = (struct spans_idle){.next = spans->idle, .bytes = bytes, .used_s = used_s};
    snprintf(idle->key, sizeof idle->key, "%s", key);
    spans->idle = idle;
    spans->idle_bytes += bytes;
}

void spans_budget_rest(struct spans *spans, const struct spans_layer *layer) {
    add_idle(spans, layer->key, layer->held + layer->fixed, clock_wall_s());
}

void spans_budget_wake(struct spans *spans, const char *key) {
    for (struct spans_idle **at = &spans->idle; *at; at = &(*at)->next) {
        struct spans_idle *idle = *at;
        if (strcmp(idle->key, key) != 0)
            continue;
        *at = idle->next;
        spans->idle_bytes -= idle->bytes;
        free(idle);
        return;
    }
}

/* What the folder's files take. */
static uint64_t measure(int folder_fd, int64_t *used_s) {
    static const char *const names[] = {"index", "spans", "sums", "tree", "whole"};
    uint64_t bytes = 0;
    struct stat status;
    *used_s = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (fstatat(folder_fd, names[i], &status, AT_SYMLINK_NOFOLLOW) == 0) {
            bytes += (uint64_t)status.st_blocks * 512;
            *used_s = status.st_mtime > *used_s ? status.st_mtime : *used_s;
        }
    return bytes;
}

bool spans_budget_scan(struct spans *spans, struct error *error) {
    int copy = openat(spans->layers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_directory DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    if (!folder)
        return error_set_errno(error, errno, "read the folder of layers");
    for (const struct dirent *entry; (entry = readdir(folder));) {
        struct digest digest;
        int64_t used_s;
        if (!spans_key_parse(entry->d_name, &digest))
            continue;
        cleanup_close int fd = spans_folder_open(spans->layers_fd, entry->d_name, false, NULL);
        if (fd < 0)
            continue;
        uint64_t bytes = measure(fd, &used_s);
        lock_acquire(&spans->lock);
        add_idle(spans, entry->d_name, bytes, used_s);
        lock_release(&spans->lock);
    }
    lock_acquire(&spans->lock);
    spans_budget_show(spans);
    lock_release(&spans->lock);
    return true;
}

/* ---- indexes of images ---- */

static bool is_open(struct spans *spans, const struct digest *digest) {
    bool found = false;
    lock_acquire(&spans->lock);
    for (const struct spans_image *image = spans->images; image && !found; image = image->next)
        found = digest_equal(&image->digest, digest);
    lock_release(&spans->lock);
    return found;
}

/* Counts the images, and finds the oldest one that is not open; *oldest "": there is none. */
static uint64_t look_at_images(struct spans *spans, char oldest[static SPANS_KEY_SIZE]) {
    uint64_t bytes = 0;
    int64_t least_s = INT64_MAX;
    int copy = openat(spans->images_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cleanup_directory DIR *folder = copy < 0 ? NULL : fdopendir(copy);
    *oldest = '\0';
    for (const struct dirent *entry; folder && (entry = readdir(folder));) {
        struct digest digest;
        int64_t used_s;
        cleanup_close int fd = spans_key_parse(entry->d_name, &digest)
                                   ? spans_folder_open(spans->images_fd, entry->d_name, false, NULL)
                                   : -1;
        if (fd < 0)
            continue;
        bytes += measure(fd, &used_s);
        if (used_s >= least_s || is_open(spans, &digest))
            continue;
        least_s = used_s;
        text_copy(text_of(entry->d_name), oldest, SPANS_KEY_SIZE);
    }
    return bytes;
}

void spans_budget_prune(struct spans *spans) {
    char oldest[SPANS_KEY_SIZE];
    while (look_at_images(spans, oldest) > IMAGES_BYTES && *oldest)
        spans_folder_delete(spans->images_fd, oldest);
}

/* Takes the layer out that has rested for longest. NULL: there is none. */
static struct spans_idle *take_idle(struct spans *spans) REQUIRES(spans->lock) {
    struct spans_idle **least = &spans->idle;
    for (struct spans_idle **at = &spans->idle; *at; at = &(*at)->next)
        if ((*at)->used_s < (*least)->used_s)
            least = at;
    struct spans_idle *idle = *least;
    if (idle) {
        *least = idle->next;
        spans->idle_bytes -= idle->bytes;
    }
    return idle;
}

/* ---- spans ---- */

struct victim {
    struct spans_layer *layer;
    size_t at;
};

static bool may_leave(const struct spans_layer *layer, const struct spans_slot *slot) {
    return (slot->place == SPAN_PRESENT || slot->place == SPAN_KEPT) && !slot->pins &&
           !slot->flight && !layer->is_whole && !layer->is_verifying;
}

/* The age of the oldest span that may leave, in uses. False: none may. */
static bool find_oldest(const struct spans *spans, struct victim *out) REQUIRES(spans->lock) {
    uint32_t most = 0;
    bool found = false;
    for (struct spans_layer *layer = spans->layers; layer; layer = layer->next)
        for (size_t i = 0; layer->held && i < layer->count; i++) {
            uint32_t age = spans->uses - layer->slots[i].used;
            if (!may_leave(layer, &layer->slots[i]) || (found && age <= most))
                continue;
            *out = (struct victim){layer, i};
            most = age;
            found = true;
        }
    return found;
}

/* Chooses spans of so many bytes together, which no reader finds from now on. */
static unsigned choose_victims(struct spans *spans, uint64_t bytes, struct victim *out)
    REQUIRES(spans->lock) {
    unsigned count = 0;
    for (uint64_t sum = 0; count < VICTIMS && sum < bytes; count++) {
        struct victim *victim = &out[count];
        if (!find_oldest(spans, victim))
            break;
        struct spans_slot *slot = &victim->layer->slots[victim->at];
        slot->place = SPAN_LEAVING;
        victim->layer->references++;
        sum += spans_layer_room(victim->layer, victim->at);
        if (victim->at < victim->layer->next_absent)
            victim->layer->next_absent = victim->at;
    }
    return count;
}

static void remove_victims(struct spans *spans, const struct victim *victims, unsigned count)
    REQUIRES(spans->lock) {
    bool unmark[VICTIMS];
    for (unsigned i = 0; i < count; i++) {
        unmark[i] = victims[i].layer->is_verified;
        victims[i].layer->is_verified = false;
    }
    lock_release(&spans->lock);
    for (unsigned i = 0; i < count; i++) {
        if (unmark[i])
            spans_layer_mark(victims[i].layer, false, NULL);
        spans_layer_punch(victims[i].layer, victims[i].at);
    }
    lock_acquire(&spans->lock);
    for (unsigned i = 0; i < count; i++) {
        victims[i].layer->slots[victims[i].at].place = SPAN_ABSENT;
        spans_budget_return(spans, victims[i].layer, victims[i].at);
        spans_layer_leave(spans, victims[i].layer);
    }
    condition_broadcast(&spans->changed);
}

/* Makes some space. False: nothing may leave now. */
static bool evict(struct spans *spans, uint64_t bytes) REQUIRES(spans->lock) {
    struct victim victims[VICTIMS];
    struct spans_idle *idle = take_idle(spans);
    if (idle) {
        lock_release(&spans->lock);
        spans_folder_delete(spans->layers_fd, idle->key);
        free(idle);
        lock_acquire(&spans->lock);
        return true;
    }
    unsigned count = choose_victims(spans, bytes, victims);
    if (count)
        remove_victims(spans, victims, count);
    return count > 0;
}

/* Makes space for so many bytes. */
static bool make_space(struct spans *spans, uint64_t bytes) REQUIRES(spans->lock) {
    const uint64_t limit = limit_of(spans);
    const int64_t until_ms = clock_ms() + WAIT_MS;
    while (in_use(spans) + bytes > limit) {
        if (evict(spans, in_use(spans) + bytes - limit))
            continue;
        if (clock_ms() >= until_ms ||
            !condition_wait_until(&spans->changed, &spans->lock, until_ms))
            return false;
    }
    return true;
}

bool spans_budget_reserve(struct spans *spans, struct spans_layer *layer, size_t at) {
    lock_acquire(&spans->lock);
    bool fits = make_space(spans, spans_layer_room(layer, at));
    if (fits)
        count_in(spans, layer, at);
    lock_release(&spans->lock);
    return fits;
}

bool spans_budget_pull(struct spans *spans, uint64_t bytes) {
    lock_acquire(&spans->lock);
    bool fits = make_space(spans, bytes);
    if (fits)
        spans->pulling += bytes;
    lock_release(&spans->lock);
    return fits;
}
