/* The ring of recent errors. */
#include "registry/page/errors.h"

#include <stdlib.h>
#include <string.h>

void errors_init(struct errors *errors) {
    *errors = (struct errors){0};
    lock_init(&errors->ring_lock);
}

void errors_finish(struct errors *errors) {
    lock_finish(&errors->ring_lock);
}

static bool is_alike(const struct errors_entry *a, const struct errors_entry *b) {
    return a->last_s && a->status == b->status &&
           repository_name_equal(&a->repository, &b->repository) && strcmp(a->text, b->text) == 0;
}

static struct errors_entry *find_or_take(struct errors *errors, const struct errors_entry *entry)
    REQUIRES(errors->ring_lock) {
    for (size_t i = 0; i < ERRORS_KEPT; i++) {
        if (is_alike(&errors->ring[i], entry))
            return &errors->ring[i];
    }
    struct errors_entry *taken = &errors->ring[errors->next];
    errors->next = (errors->next + 1) % ERRORS_KEPT;
    *taken = *entry;
    taken->count = 0;
    return taken;
}

void errors_note(struct errors *errors, const struct errors_entry *entry, int64_t now_s) {
    lock_acquire(&errors->ring_lock);
    struct errors_entry *place = find_or_take(errors, entry);
    place->last_s = now_s;
    place->count++;
    memcpy(place->reference, entry->reference, sizeof place->reference);
    lock_release(&errors->ring_lock);
}

static int compare_times(const void *left, const void *right) {
    const struct errors_entry *a = left, *b = right;
    return (a->last_s < b->last_s) - (a->last_s > b->last_s);
}

size_t errors_read(struct errors *errors, struct errors_entry out[static ERRORS_KEPT]) {
    size_t count = 0;
    lock_acquire(&errors->ring_lock);
    for (size_t i = 0; i < ERRORS_KEPT; i++) {
        /* from the latest place on, so that entries of one second keep their order */
        const struct errors_entry *entry =
            &errors->ring[(errors->next + ERRORS_KEPT - 1 - i) % ERRORS_KEPT];
        if (entry->last_s)
            out[count++] = *entry;
    }
    lock_release(&errors->ring_lock);
    if (count)
        qsort(out, count, sizeof *out, compare_times);
    return count;
}
