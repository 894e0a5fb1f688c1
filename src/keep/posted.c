/* Machines that are POSTed and DELETEd: a ConfigMap holds them, so that they survive a restart and
 * reach every replica. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "keep/compat.h"
#include "keep/keeper_private.h"

#define CONFIG_MAP "tarn-keep"

enum {
    READ_AGAIN_MS = 30 * 1000, /* what another replica has written */
    RETRY_MS = 2000,           /* until the first read */
    TRIES = 4,                 /* while others write at the same time */
};

/* ---- the ConfigMap ---- */

static void path_of(const struct keeper *keeper, const char *name, char *out, size_t size) {
    snprintf(out, size, "/api/v1/namespaces/%s/configmaps%s", keeper->settings.own_namespace, name);
}

/* *map is NULL when there is none. */
static bool read_map(struct keeper *keeper, json_t **map, struct error *error) {
    char path[300];
    path_of(keeper, "/" CONFIG_MAP, path, sizeof path);
    const struct kubernetes_call call = {.verb = "get", .resource = "configmaps", .path = path};
    *map = NULL;
    return kubernetes_call(keeper->settings.kubernetes, &call, map, error) ||
           error->kind == ERROR_NOT_FOUND;
}

static bool write_map(struct keeper *keeper, const json_t *map, bool is_new, struct error *error) {
    char path[300];
    cleanup_buffer struct buffer body = {0};
    path_of(keeper, is_new ? "" : "/" CONFIG_MAP, path, sizeof path);
    if (!bounded_json_dump(map, JSON_COMPACT, &body))
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct kubernetes_call call = {.verb = is_new ? "create" : "update",
                                         .resource = "configmaps",
                                         .path = path,
                                         .body = {body.bytes, body.length}};
    return kubernetes_call(keeper->settings.kubernetes, &call, NULL, error);
}

static json_t *new_map(const struct keeper *keeper) {
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s, s:s}}, s:{}}", "apiVersion", "v1", "kind",
                     "ConfigMap", "metadata", "name", CONFIG_MAP, "namespace",
                     keeper->settings.own_namespace, "labels", "app.kubernetes.io/name",
                     KEEP_POD_NAME, "app.kubernetes.io/managed-by", KEEP_POD_MANAGED_BY, "data");
}

static size_t bytes_of(const json_t *data) {
    size_t bytes = 0;
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)data, key, value)
        bytes += strlen(key) + json_string_length(value);
    return bytes;
}

/* ---- what is served ---- */

static struct kept *find_posted(struct keeper *keeper, const char *name)
    REQUIRES(keeper->state_lock) {
    for (size_t i = 0; i < keeper->kept_count; i++) {
        if (keeper->kepts[i].origin == KEEP_POSTED &&
            strcmp(keeper->kepts[i].spec->name, name) == 0)
            return &keeper->kepts[i];
    }
    return NULL;
}

/* The lister frees them when it reads neither. Out of memory: they are never freed. */
static void retire(struct keeper *keeper, struct kept *kept) REQUIRES(keeper->state_lock) {
    struct keeper_retired *retired = calloc(1, sizeof *retired);
    if (!retired)
        return;
    *retired = (struct keeper_retired){kept->machine, kept->list, keeper->retired};
    keeper->retired = retired;
}

/* Owns `machine` from now on. */
static bool put_posted(struct keeper *keeper, struct keep_machine *machine)
    REQUIRES(keeper->state_lock) {
    struct kept *kept = find_posted(keeper, machine->spec.name);
    if (kept && json_equal(kept->machine->json, machine->json)) {
        keep_machine_free(machine);
        return true;
    }
    struct kept before = {0};
    if (kept)
        before = *kept;
    else
        kept = keeper_add(keeper);
    if (!kept) {
        keep_machine_free(machine);
        return false;
    }
    *kept = (struct kept){.spec = &machine->spec, .machine = machine, .origin = KEEP_POSTED};
    bool served = keeper_serve_keeps(keeper);
    if (before.machine)
        retire(keeper, &before);
    return served;
}

static bool remove_posted(struct keeper *keeper, struct kept *kept) REQUIRES(keeper->state_lock) {
    struct kept before = *kept;
    size_t index = (size_t)(kept - keeper->kepts);
    memmove(kept, kept + 1, (keeper->kept_count - index - 1) * sizeof *kept);
    keeper->kept_count--;
    bool served = keeper_serve_keeps(keeper);
    retire(keeper, &before);
    return served;
}

/* Takes what the ConfigMap says. */
static void take_map(struct keeper *keeper, const json_t *map) {
    const json_t *data = json_object_get(map, "data");
    const char *key;
    json_t *value;
    lock_acquire(&keeper->state_lock);
    for (size_t i = keeper->kept_count; i-- > 0;) {
        struct kept *kept = &keeper->kepts[i];
        if (kept->origin == KEEP_POSTED && !json_object_get(data, kept->spec->name))
            remove_posted(keeper, kept);
    }
    json_object_foreach ((json_t *)data, key, value) {
        struct error error = {0};
        struct text text = text_of(json_string_value(value));
        struct keep_machine *machine =
            keep_machine_read(text, keeper->settings.machine_secret, &error);
        if (machine && keeper->kept_count < KEEP_LIMIT + KEEP_LIMIT)
            put_posted(keeper, machine);
        else
            log_at(LOG_WARN, "a machine of ConfigMap " CONFIG_MAP " was passed over",
                   LOG_STRING("machine", key), LOG_STRING("error", error.text));
    }
    atomic_store(&keeper->posted_known, true);
    keeper_touch(keeper);
    lock_release(&keeper->state_lock);
}

/* ---- the thread that reads it ---- */

static void read_once(struct keeper *keeper, bool *has_warned) {
    struct error error = {0};
    cleanup_json json_t *map = NULL;
    if (read_map(keeper, &map, &error)) {
        take_map(keeper, map);
        return;
    }
    /* Without the right there are no machines but those of files. */
    if (error.kind == ERROR_DENIED && error.status == 403) {
        atomic_store(&keeper->posted_known, true);
        lock_acquire(&keeper->state_lock);
        keeper_touch(keeper);
        lock_release(&keeper->state_lock);
    }
    if (!*has_warned)
        log_at(LOG_WARN, "machines that were POSTed are not known",
               LOG_STRING("error", error.text));
    *has_warned = true;
}

void keeper_read_posted(void *context) {
    struct keeper *keeper = context;
    bool has_warned = false;
    while (!atomic_load(&keeper->stop)) {
        read_once(keeper, &has_warned);
        bool known = atomic_load(&keeper->posted_known);
        /* Where nobody may POST, nothing changes. */
        if (known && !keeper->settings.keep->operators)
            return;
        int64_t until_ms = clock_ms() + (known ? READ_AGAIN_MS : RETRY_MS);
        lock_acquire(&keeper->state_lock);
        while (!atomic_load(&keeper->stop) && clock_ms() < until_ms)
            condition_wait_until(&keeper->posted_changed, &keeper->state_lock, until_ms);
        lock_release(&keeper->state_lock);
    }
}

/* ---- POST and DELETE ---- */

/* Sets or removes (`text` NULL) one machine of the map, and writes it. *was_there: it was in it. */
static bool change_map(struct keeper *keeper, const char *name, const json_t *text, bool *was_there,
                       struct error *error) {
    for (int i = 0; i < TRIES; i++) {
        cleanup_json json_t *map = NULL;
        *error = (struct error){0};
        if (!read_map(keeper, &map, error))
            return false;
        bool is_new = map == NULL;
        if (is_new)
            map = new_map(keeper);
        if (!json_is_object(json_object_get(map, "data")))
            json_object_set_new(map, "data", json_object());
        json_t *data = json_object_get(map, "data");
        *was_there = json_object_get(data, name) != NULL;
        if (!text && !*was_there)
            return true;
        if (text)
            json_object_set(data, name, (json_t *)text);
        else
            json_object_del(data, name);
        if (bytes_of(data) > KEEPER_POSTED_BYTES || json_object_size(data) > KEEP_LIMIT)
            return error_set(error, ERROR_NO_SPACE,
                             "all machines that were POSTed may have 900 KiB together, and there "
                             "may be 100 of them; DELETE one");
        *error = (struct error){0};
        if (write_map(keeper, map, is_new, error))
            return true;
        if (error->status != 409)
            return false;
    }
    return false;
}

/* Whether one more keep may be served. */
static bool has_place(struct keeper *keeper, const char *name) {
    lock_acquire(&keeper->state_lock);
    size_t others = 0;
    for (size_t i = 0; i < keeper->kept_count; i++)
        others += !keeper->kepts[i].is_hidden && strcmp(keeper->kepts[i].spec->name, name) != 0;
    lock_release(&keeper->state_lock);
    return others < KEEP_LIMIT;
}

bool keeper_post(struct keeper *keeper, struct text json, struct buffer *answer,
                 struct error *error) {
    struct keep_machine *machine = keep_machine_read(json, keeper->settings.machine_secret, error);
    char name[KEEP_NAME_LIMIT + 1];
    cleanup_buffer struct buffer compact = {0};
    bool was_there;
    if (!machine)
        return false;
    snprintf(name, sizeof name, "%s", machine->spec.name);
    bool done = has_place(keeper, name) ||
                error_set(error, ERROR_NO_SPACE, "there are 100 keeps already; DELETE one");
    if (done && !bounded_json_dump(machine->json, JSON_COMPACT, &compact))
        done = error_set(error, ERROR_MEMORY, "out of memory");
    cleanup_json json_t *text = done ? json_stringn(compact.bytes, compact.length) : NULL;
    if (done && !change_map(keeper, name, text, &was_there, error))
        done = error_wrap(error, "the machine was not taken");
    if (!done) {
        keep_machine_free(machine);
        return false;
    }
    /* As cachemachine, which has not looked at any node or registry yet. */
    done = keep_compat_new_machine(&machine->spec, answer);
    lock_acquire(&keeper->state_lock);
    done = put_posted(keeper, machine) && done;
    lock_release(&keeper->state_lock);
    return done || error_set(error, ERROR_MEMORY, "out of memory");
}

bool keeper_delete(struct keeper *keeper, const char *name, struct error *error) {
    lock_acquire(&keeper->state_lock);
    bool is_posted = find_posted(keeper, name) != NULL;
    lock_release(&keeper->state_lock);
    bool was_there;
    if (is_posted && !change_map(keeper, name, NULL, &was_there, error))
        return error_wrap(error, "the machine was not taken away");
    lock_acquire(&keeper->state_lock);
    struct kept *kept = is_posted ? find_posted(keeper, name) : keeper_find(keeper, name);
    bool served = true;
    if (kept && is_posted) {
        served = remove_posted(keeper, kept);
    } else if (kept) {
        kept->is_stopped = true;
        served = keeper_serve_keeps(keeper);
    }
    lock_release(&keeper->state_lock);
    return served || error_set(error, ERROR_MEMORY, "out of memory");
}
