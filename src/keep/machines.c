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

static bool read_file(struct keeper *keeper, const char *folder, const char *name,
                      struct error *error) REQUIRES(keeper->state_lock) {
    char path[4096];
    size_t length;
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
        return true;
    cleanup_free char *bytes =
        file_read_small(path, KEEP_MACHINE_BYTES, FILE_REGULAR, &length, NULL, error);
    struct keep_machine *machine = bytes ? keep_machine_read((struct text){bytes, length},
                                                             keeper->settings.machine_secret, error)
                                         : NULL;
    if (!machine)
        return error_wrap(error, "the machine %s", path);
    for (size_t i = 0; i < keeper->kept_count; i++) {
        if (keeper->kepts[i].origin == KEEP_OF_FILE &&
            strcmp(keeper->kepts[i].spec->name, machine->spec.name) == 0) {
            error_set(error, ERROR_INVALID, "the machine %s: another file has the name %s", path,
                      machine->spec.name);
            keep_machine_free(machine);
            return false;
        }
    }
    struct kept *kept = keeper_add(keeper);
    if (!kept) {
        keep_machine_free(machine);
        return error_set(error, ERROR_MEMORY, "out of memory");
    }
    *kept = (struct kept){.spec = &machine->spec, .machine = machine, .origin = KEEP_OF_FILE};
    return true;
}

static bool read_folder(struct keeper *keeper, struct error *error) REQUIRES(keeper->state_lock) {
    const char *folder = keeper->settings.keep->machines;
    char **names = NULL;
    size_t count = 0;
    struct stat status;
    if (!folder && stat(KEEP_DEFAULT_MACHINES, &status) != 0)
        return true;
    if (!folder)
        folder = KEEP_DEFAULT_MACHINES;
    bool done = list_folder(folder, &names, &count, error);
    for (size_t i = 0; done && i < count; i++)
        done = read_file(keeper, folder, names[i], error);
    free_names(names, count);
    return done;
}

static bool read_all(struct keeper *keeper, struct error *error) REQUIRES(keeper->state_lock) {
    const struct keep_settings *settings = keeper->settings.keep;
    if (!read_folder(keeper, error))
        return false;
    for (size_t i = 0; i < settings->keep_count; i++) {
        struct kept *kept = keeper_add(keeper);
        if (!kept)
            return error_set(error, ERROR_MEMORY, "out of memory");
        *kept = (struct kept){.spec = &settings->keeps[i], .origin = KEEP_CONFIGURED};
    }
    if (keeper->kept_count > KEEP_LIMIT)
        return error_set(error, ERROR_INVALID, "there are %zu keeps and machines; the most is %d",
                         keeper->kept_count, KEEP_LIMIT);
    return keeper_serve_keeps(keeper) || error_set(error, ERROR_MEMORY, "out of memory");
}

bool keeper_read_machines(struct keeper *keeper, struct error *error) {
    lock_acquire(&keeper->state_lock);
    bool done = read_all(keeper, error);
    lock_release(&keeper->state_lock);
    return done;
}
