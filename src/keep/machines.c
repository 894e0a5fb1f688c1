/* Which keeps are served: those of the configuration, of cachemachine's files, and POSTed ones. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "keep/keeper_private.h"

struct kept *keeper_find(struct keeper *keeper, const char *name) {
    for (size_t i = 0; i < keeper->kept_count; i++) {
        struct kept *kept = &keeper->kepts[i];
        if (!kept->is_hidden && strcmp(kept->spec->name, name) == 0)
            return kept;
    }
    return NULL;
}

struct kept *keeper_add(struct keeper *keeper) {
    if (keeper->kept_count == keeper->kept_capacity) {
        size_t capacity = keeper->kept_capacity ? keeper->kept_capacity * 2 : 8;
        struct kept *kepts = reallocarray(keeper->kepts, capacity, sizeof *kepts);
        if (!kepts)
            return NULL;
        keeper->kepts = kepts;
        keeper->kept_capacity = capacity;
    }
    struct kept *kept = &keeper->kepts[keeper->kept_count++];
    *kept = (struct kept){0};
    return kept;
}

/* POSTed ones come before those of files, and these before those of the configuration. */
bool keeper_serve_keeps(struct keeper *keeper) {
    cleanup_free const struct keep_spec **specs =
        calloc(keeper->kept_count + 1, sizeof(struct keep_spec *));
    size_t count = 0;
    if (!specs)
        return false;
    for (size_t i = 0; i < keeper->kept_count; i++) {
        struct kept *kept = &keeper->kepts[i];
        bool was_hidden = kept->is_hidden;
        kept->is_hidden = kept->is_stopped;
        for (size_t j = 0; j < keeper->kept_count; j++) {
            const struct kept *other = &keeper->kepts[j];
            if (strcmp(other->spec->name, kept->spec->name) == 0 && other->origin > kept->origin)
                kept->is_hidden = true;
        }
        if (was_hidden && !kept->is_hidden)
            kept->list_ms = 0;
        if (!kept->is_hidden)
            specs[count++] = kept->spec;
    }
    bool done = keep_plan_set_keeps(keeper->plan, specs, count, keeper_now());
    condition_signal(&keeper->lists_changed);
    keeper_touch(keeper);
    return done;
}

/* ---- files ---- */

static int by_string(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t count) {
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

/* The names of the folder's files, sorted. A mounted ConfigMap has its files as links and a folder
 * `..data`. False: the folder cannot be read. */
static bool list_folder(const char *folder, char ***names, size_t *count, struct error *error) {
    DIR *opened = opendir(folder);
    if (!opened)
        return error_set_errno(error, errno, "the folder of machines %s", folder);
    const struct dirent *entry;
    bool done = true;
    while (done && (entry = readdir(opened))) {
        if (entry->d_name[0] == '.')
            continue;
        char **more = *count < KEEP_LIMIT ? reallocarray(*names, *count + 1, sizeof(char *)) : NULL;
        done = more != NULL;
        if (!done)
            break;
        *names = more;
        (*names)[*count] = strdup(entry->d_name);
        done = (*names)[*count] != NULL;
        *count += done;
    }
    closedir(opened);
    if (!done)
        return error_set(error, ERROR_INVALID, "%s has more than %d machines", folder, KEEP_LIMIT);
    if (*count)
        qsort(*names, *count, sizeof(char *), by_string);
    return true;
}

/* ---- what a configuration brings ---- */

void keeper_give_up(struct keeper_change *change) {
    if (!change)
        return;
    for (size_t i = 0; i < change->count; i++)
        keep_machine_free(change->kepts[i].machine);
    free(change->kepts);
    free(change);
}

static bool add_kept(struct keeper_change *change, const struct kept *kept, struct error *error) {
    struct kept *kepts = reallocarray(change->kepts, change->count + 1, sizeof *kepts);
    if (!kepts)
        return error_set(error, ERROR_MEMORY, "out of memory");
    change->kepts = kepts;
    kepts[change->count++] = *kept;
    return true;
}

static bool read_file(struct keeper_change *change, const char *secret, const char *folder,
                      const char *name, struct error *error) {
    char path[4096];
    size_t length;
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        return true;
    cleanup_free char *bytes =
        file_read_small(path, KEEP_MACHINE_BYTES, FILE_REGULAR, &length, NULL, error);
    struct keep_machine *machine =
        bytes ? keep_machine_read((struct text){bytes, length}, secret, error) : NULL;
    bool done = machine || error_wrap(error, "%s", path);
    for (size_t i = 0; done && i < change->count; i++) {
        if (strcmp(change->kepts[i].spec->name, machine->spec.name) == 0)
            done = error_set(error, ERROR_INVALID, "%s: name: another file has the name %s", path,
                             machine->spec.name);
    }
    const struct kept kept = {
        .spec = machine ? &machine->spec : NULL, .machine = machine, .origin = KEEP_OF_FILE};
    if (done && add_kept(change, &kept, error))
        return true;
    keep_machine_free(machine);
    return false;
}

static bool read_folder(struct keeper_change *change, const char *folder, const char *secret,
                        struct error *error) {
    char **names = NULL;
    size_t count = 0;
    struct stat status;
    if (!folder && stat(KEEP_DEFAULT_MACHINES, &status) != 0)
        return true;
    if (!folder)
        folder = KEEP_DEFAULT_MACHINES;
    bool done = list_folder(folder, &names, &count, error);
    for (size_t i = 0; done && i < count; i++)
        done = read_file(change, secret, folder, names[i], error);
    free_names(names, count);
    return done;
}

struct keeper_change *keeper_prepare(const struct keeper *keeper, const struct keep_settings *keep,
                                     struct error *error) {
    struct keeper_change *change = calloc(1, sizeof *change);
    bool done = change || error_set(error, ERROR_MEMORY, "out of memory");
    if (done) {
        change->keep = keep;
        done = read_folder(change, keep->machines, keeper->settings.machine_secret, error);
    }
    for (size_t i = 0; done && i < keep->keep_count; i++)
        done = add_kept(change, &(struct kept){.spec = &keep->keeps[i], .origin = KEEP_CONFIGURED},
                        error);
    if (done && change->count > KEEP_LIMIT)
        done = error_set(error, ERROR_INVALID, "there are %zu keeps and machines; the most is %d",
                         change->count, KEEP_LIMIT);
    if (done)
        return change;
    keeper_give_up(change);
    return NULL;
}

/* ---- taking it ---- */

/* A keep that has not changed goes on with what was listed, and lists again at once. */
static void take_over(struct kept *before, size_t count, struct kept *kept) {
    for (size_t i = 0; i < count; i++) {
        if (before[i].origin != kept->origin || !keep_spec_equal(before[i].spec, kept->spec))
            continue;
        kept->list = before[i].list;
        kept->digests_ms = before[i].digests_ms;
        before[i].list = NULL;
    }
}

/* Everything that is to be freed later, one for each keep of before and one for the settings. NULL:
 * out of memory. */
static struct keeper_retired *retire_all(struct keeper *keeper, void (*release)(void *before),
                                         void *before) REQUIRES(keeper->state_lock) {
    struct keeper_retired *all = NULL;
    for (size_t i = 0; i <= keeper->kept_count; i++) {
        struct keeper_retired *retired = calloc(1, sizeof *retired);
        if (!retired) {
            keeper_drop_retired(all);
            return NULL;
        }
        retired->next = all;
        all = retired;
    }
    all->release = release;
    all->before = before;
    return all;
}

/* Makes the table of keeps: those of the change, and behind them those that were POSTed. NULL: out
 * of memory. */
static struct kept *make_table(struct keeper *keeper, const struct keeper_change *change,
                               size_t *count) REQUIRES(keeper->state_lock) {
    struct kept *kepts = calloc(change->count + keeper->kept_count + 1, sizeof *kepts);
    *count = change->count;
    if (!kepts)
        return NULL;
    if (change->count)
        memcpy(kepts, change->kepts, change->count * sizeof *kepts);
    for (size_t i = 0; i < keeper->kept_count; i++) {
        if (keeper->kepts[i].origin == KEEP_POSTED)
            kepts[(*count)++] = keeper->kepts[i];
    }
    return kepts;
}

/* Takes the new keeps, and puts what was before them into `retired`, which is long enough. False:
 * out of memory, and nothing has changed. */
static bool exchange(struct keeper *keeper, struct keeper_change *change,
                     struct keeper_retired *retired) REQUIRES(keeper->state_lock) {
    size_t count, before_count = keeper->kept_count, before_capacity = keeper->kept_capacity;
    struct kept *before = keeper->kepts, *kepts = make_table(keeper, change, &count);
    if (!kepts)
        return false;
    keeper->kepts = kepts;
    keeper->kept_count = count;
    keeper->kept_capacity = change->count + before_count + 1;
    if (!keeper_serve_keeps(keeper)) {
        keeper->kepts = before;
        keeper->kept_count = before_count;
        keeper->kept_capacity = before_capacity;
        free(kepts);
        return false;
    }
    for (size_t i = 0; i < change->count; i++)
        take_over(before, before_count, &kepts[i]);
    for (size_t i = 0; i < before_count; i++) {
        if (before[i].origin == KEEP_POSTED)
            continue;
        retired->machine = before[i].machine;
        retired->list = before[i].list;
        retired = retired->next;
    }
    free(before);
    return true;
}

bool keeper_change(struct keeper *keeper, struct keeper_change *change,
                   void (*release)(void *before), void *before) {
    lock_acquire(&keeper->state_lock);
    struct keeper_retired *retired = retire_all(keeper, release, before), *last = retired;
    bool done = retired && exchange(keeper, change, retired);
    if (done) {
        while (last->next)
            last = last->next;
        last->next = keeper->retired;
        keeper->retired = retired;
        keeper->settings.keep = change->keep;
        keeper->must_clear_stops = true;
        keeper_read_posted_again(keeper);
        change->count = 0; /* the keeper has the machines */
    }
    lock_release(&keeper->state_lock);
    if (!done && retired) {
        retired->release = NULL;
        keeper_drop_retired(retired);
    }
    if (done)
        keeper_give_up(change);
    return done;
}
