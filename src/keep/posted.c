/*
 * Machines that are POSTed and DELETEd: a ConfigMap holds them, so that they survive a restart and
 * reach every replica. It also holds the names of configured keeps that are stopped by DELETE; each
 * start or reload of a process takes these out.
 *
 * Nobody asks for the ConfigMap again and again. Who has written it leaves its version as a mark on
 * the lease, which every process looks at anyway, and who sees another mark reads it. So does who
 * begins to lead, in case somebody died between the two.
 */
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

/* The names of the keeps that are stopped, as a list. No keep can have this name. */
#define STOPPED ".stopped"

enum {
    RETRY_MS = 2000, /* after a failed read; doubling */
    RETRY_LAST_MS = 30 * 1000,
    TRIES = 10, /* while others write at the same time */
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

static const char *version_of(const json_t *map) {
    const char *version =
        json_string_value(json_object_get(json_object_get(map, "metadata"), "resourceVersion"));
    return version ? version : "";
}

/* Afterwards the map has the version that it got. */
static bool write_map(struct keeper *keeper, json_t *map, bool is_new, struct error *error) {
    char path[300];
    cleanup_buffer struct buffer body = {0};
    cleanup_json json_t *answer = NULL;
    path_of(keeper, is_new ? "" : "/" CONFIG_MAP, path, sizeof path);
    if (!bounded_json_dump(map, JSON_COMPACT, &body))
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct kubernetes_call call = {.verb = is_new ? "create" : "update",
                                         .resource = "configmaps",
                                         .path = path,
                                         .body = {body.bytes, body.length}};
    if (!kubernetes_call(keeper->settings.kubernetes, &call, &answer, error))
        return false;
    json_object_set_new(json_object_get(map, "metadata"), "resourceVersion",
                        json_string(version_of(answer)));
    return true;
}

static json_t *new_map(const struct keeper *keeper) {
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:{s:s, s:s}}, s:{}}", "apiVersion", "v1", "kind",
                     "ConfigMap", "metadata", "name", CONFIG_MAP, "namespace",
                     keeper->settings.own_namespace, "labels", "app.kubernetes.io/name",
                     KEEP_POD_NAME, "app.kubernetes.io/managed-by", KEEP_POD_MANAGED_BY, "data");
}

/* Whether the machines of a map are within the limits. */
static bool fits(const json_t *data) {
    size_t bytes = 0, count = 0;
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)data, key, value) {
        if (strcmp(key, STOPPED) == 0)
            continue;
        bytes += strlen(key) + json_string_length(value);
        count++;
    }
    return bytes <= KEEPER_POSTED_BYTES && count <= KEEP_LIMIT;
}

/* New. What is not a list of names is no list. */
static json_t *stopped_of(const json_t *map) {
    struct text text =
        text_of(json_string_value(json_object_get(json_object_get(map, "data"), STOPPED)));
    json_t *names = text.at ? bounded_json_load(text.at, text.length, NULL) : NULL;
    if (json_is_array(names))
        return names;
    json_decref(names);
    return json_array();
}

static bool has_name(const json_t *names, const char *name) {
    size_t index;
    const json_t *value;
    json_array_foreach (names, index, value) {
        if (json_is_string(value) && strcmp(json_string_value(value), name) == 0)
            return true;
    }
    return false;
}

/* Of several processes, those that keep running look at what is stopped. */
static bool shares_stops(const struct keeper *keeper) {
    return keeper->lease && !keeper->settings.once;
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
    *retired = (struct keeper_retired){
        .machine = kept->machine, .list = kept->list, .next = keeper->retired};
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

static void take_machines(struct keeper *keeper, const json_t *data) REQUIRES(keeper->state_lock) {
    const char *key;
    json_t *value;
    for (size_t i = keeper->kept_count; i-- > 0;) {
        struct kept *kept = &keeper->kepts[i];
        if (kept->origin == KEEP_POSTED && !json_object_get(data, kept->spec->name))
            remove_posted(keeper, kept);
    }
    json_object_foreach ((json_t *)data, key, value) {
        struct error error = {0};
        if (strcmp(key, STOPPED) == 0)
            continue;
        struct keep_machine *machine = keep_machine_read(text_of(json_string_value(value)),
                                                         keeper->settings.machine_secret, &error);
        if (machine && keeper->kept_count < KEEP_LIMIT + KEEP_LIMIT) {
            put_posted(keeper, machine);
            continue;
        }
        log_at(LOG_WARN, "a machine of ConfigMap " CONFIG_MAP " was passed over",
               LOG_STRING("machine", key), LOG_STRING("error", error.text));
        keep_machine_free(machine);
    }
}

static void take_stops(struct keeper *keeper, const json_t *map) REQUIRES(keeper->state_lock) {
    cleanup_json json_t *names = stopped_of(map);
    bool changes = false;
    for (size_t i = 0; i < keeper->kept_count; i++) {
        struct kept *kept = &keeper->kepts[i];
        bool is_stopped = kept->origin != KEEP_POSTED && !keeper->must_clear_stops &&
                          has_name(names, kept->spec->name);
        changes |= kept->is_stopped != is_stopped;
        kept->is_stopped = is_stopped;
    }
    if (changes)
        keeper_serve_keeps(keeper);
}

/* Takes what the ConfigMap says. NULL: there is none. */
static void take_map(struct keeper *keeper, const json_t *map) {
    lock_acquire(&keeper->state_lock);
    snprintf(keeper->posted_version, sizeof keeper->posted_version, "%s", version_of(map));
    take_machines(keeper, json_object_get(map, "data"));
    if (shares_stops(keeper))
        take_stops(keeper, map);
    atomic_store(&keeper->posted_known, true);
    keeper_touch(keeper);
    lock_release(&keeper->state_lock);
}

/* ---- changes ---- */

enum edit_kind { EDIT_PUT, EDIT_DELETE, EDIT_CLEAR_STOPS };

struct edit {
    enum edit_kind kind;
    const char *name;
    const json_t *text; /* PUT */
    bool stops;         /* DELETE: a configured keep has the name, and is stopped for all */
};

static bool set_stops(json_t *data, const json_t *names) {
    cleanup_buffer struct buffer text = {0};
    return bounded_json_dump(names, JSON_COMPACT, &text) &&
           json_object_set_new(data, STOPPED, json_stringn(text.bytes, text.length)) == 0;
}

/* *changes: the map is another one now. */
static bool edit_data(json_t *map, const struct edit *edit, bool *changes, struct error *error) {
    if (!json_is_object(json_object_get(map, "data")))
        json_object_set_new(map, "data", json_object());
    json_t *data = json_object_get(map, "data");
    cleanup_json json_t *names = stopped_of(map);
    bool done = true;
    *changes = true;
    if (edit->kind == EDIT_PUT) {
        done = json_object_set(data, edit->name, (json_t *)edit->text) == 0;
    } else if (edit->kind == EDIT_CLEAR_STOPS) {
        *changes = json_object_get(data, STOPPED) != NULL;
        json_object_del(data, STOPPED);
    } else if (json_object_get(data, edit->name)) {
        json_object_del(data, edit->name);
    } else if (edit->stops && !has_name(names, edit->name) && json_array_size(names) < KEEP_LIMIT) {
        done = json_array_append_new(names, json_string(edit->name)) == 0 && set_stops(data, names);
    } else {
        *changes = false;
    }
    if (!done)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return edit->kind != EDIT_PUT || fits(data) ||
           error_set(error, ERROR_NO_SPACE,
                     "all machines that were POSTed may have 900 KiB together, and there may be "
                     "100 of them; DELETE one");
}

/* Changes the map in the cluster. *map is as it is then, and NULL when there is none. */
static bool change_map(struct keeper *keeper, const struct edit *edit, json_t **map, bool *changes,
                       struct error *error) {
    for (int i = 0; i < TRIES; i++) {
        json_decref(*map);
        *error = (struct error){0};
        *changes = false;
        if (!read_map(keeper, map, error))
            return false;
        bool is_new = *map == NULL;
        *error = (struct error){0};
        if (is_new && edit->kind == EDIT_CLEAR_STOPS)
            return true;
        if (is_new)
            *map = new_map(keeper);
        if (!edit_data(*map, edit, changes, error))
            return false;
        if (!*changes || write_map(keeper, *map, is_new, error))
            return true;
        if (error->status != 409)
            return false;
        /* Another process writes at the same time. */
        const struct cancel cancel = {.stop = &keeper->stop};
        cancel_sleep(&cancel, clock_ms() + clock_jitter(20U << (i < 4 ? i : 4)), NULL);
    }
    return false;
}

/* One thread at a time asks for the map, so that what it says is taken in the order in which it was
 * said. False: the keeper ends. */
static bool begin_turn(struct keeper *keeper) {
    lock_acquire(&keeper->state_lock);
    while (keeper->posted_busy && !atomic_load(&keeper->stop))
        condition_wait(&keeper->posted_changed, &keeper->state_lock);
    bool goes_on = !atomic_load(&keeper->stop);
    keeper->posted_busy |= goes_on;
    lock_release(&keeper->state_lock);
    return goes_on;
}

static void end_turn(struct keeper *keeper) {
    lock_acquire(&keeper->state_lock);
    keeper->posted_busy = false;
    condition_broadcast(&keeper->posted_changed);
    lock_release(&keeper->state_lock);
}

/* Changes the map, takes it, and tells the other processes. In the thread's turn. */
static bool change(struct keeper *keeper, const struct edit *edit, struct error *error) {
    cleanup_json json_t *map = NULL;
    bool changes = false;
    struct error unheard = {0};
    if (!change_map(keeper, edit, &map, &changes, error))
        return false;
    take_map(keeper, map);
    if (changes && !lease_mark(keeper->lease, version_of(map), &unheard))
        log_at(LOG_WARN, "the other processes learn of a change when one begins to lead",
               LOG_STRING("error", unheard.text));
    return true;
}

/* ---- the thread that reads it ---- */

void keeper_read_posted_again(struct keeper *keeper) {
    keeper->must_read_posted = true;
    condition_broadcast(&keeper->posted_changed);
}

void keeper_posted_marked(void *context, const char *mark) {
    struct keeper *keeper = context;
    lock_acquire(&keeper->state_lock);
    if (strcmp(mark, keeper->posted_version) != 0)
        keeper_read_posted_again(keeper);
    lock_release(&keeper->state_lock);
}

/* Takes the names out that are stopped: this process has started or was reloaded. Who may not write
 * the map lets them be, and stops none of them. */
static bool clear_stops(struct keeper *keeper, struct error *error) {
    const struct edit edit = {.kind = EDIT_CLEAR_STOPS};
    if (!change(keeper, &edit, error) && error->status != 403)
        return false;
    bool is_clear = error->kind == ERROR_NONE;
    lock_acquire(&keeper->state_lock);
    keeper->must_clear_stops = !is_clear;
    lock_release(&keeper->state_lock);
    return true;
}

static bool read_once(struct keeper *keeper, struct error *error) {
    cleanup_json json_t *map = NULL;
    lock_acquire(&keeper->state_lock);
    bool clears = keeper->must_clear_stops && shares_stops(keeper);
    lock_release(&keeper->state_lock);
    if (clears && !clear_stops(keeper, error))
        return false;
    if (clears && error->kind == ERROR_NONE)
        return true;
    *error = (struct error){0};
    if (!read_map(keeper, &map, error))
        return false;
    take_map(keeper, map);
    return true;
}

/* Reads the map in the thread's turn. Returns when to try again; INT64_MAX: when something changes.
 */
static int64_t read_in_turn(struct keeper *keeper, unsigned *failures) {
    struct error error = {0};
    if (!begin_turn(keeper))
        return INT64_MAX;
    bool done = read_once(keeper, &error);
    end_turn(keeper);
    if (!done && *failures == 0)
        log_at(LOG_WARN, "machines that were POSTed are not known",
               LOG_STRING("error", error.text));
    *failures = done ? 0 : *failures + (*failures < 10);
    if (done)
        return INT64_MAX;
    /* Without the right there are no machines but those of files. */
    if (error.status == 403) {
        atomic_store(&keeper->posted_known, true);
        return INT64_MAX;
    }
    int64_t pause_ms = RETRY_MS << (*failures - 1);
    return clock_ms() + (pause_ms < RETRY_LAST_MS ? pause_ms : RETRY_LAST_MS);
}

void keeper_read_posted(void *context) {
    struct keeper *keeper = context;
    unsigned failures = 0;
    int64_t next_ms = 0;
    lock_acquire(&keeper->state_lock);
    while (!atomic_load(&keeper->stop)) {
        if (!keeper->must_read_posted && clock_ms() < next_ms) {
            condition_wait_until(&keeper->posted_changed, &keeper->state_lock, next_ms);
            continue;
        }
        keeper->must_read_posted = false;
        lock_release(&keeper->state_lock);
        next_ms = read_in_turn(keeper, &failures);
        lock_acquire(&keeper->state_lock);
        keeper_touch(keeper);
    }
    lock_release(&keeper->state_lock);
}

/* ---- POST and DELETE ---- */

/* Whether one more keep may be served. */
static bool has_place(struct keeper *keeper, const char *name) {
    lock_acquire(&keeper->state_lock);
    size_t others = 0;
    for (size_t i = 0; i < keeper->kept_count; i++)
        others += !keeper->kepts[i].is_hidden && strcmp(keeper->kepts[i].spec->name, name) != 0;
    lock_release(&keeper->state_lock);
    return others < KEEP_LIMIT;
}

static bool change_in_turn(struct keeper *keeper, const struct edit *edit, struct error *error) {
    if (!begin_turn(keeper))
        return error_set(error, ERROR_CLOSED, "tarn keep is stopping");
    bool done = change(keeper, edit, error);
    end_turn(keeper);
    return done;
}

bool keeper_post(struct keeper *keeper, struct text json, struct buffer *answer,
                 struct error *error) {
    struct keep_machine *machine = keep_machine_read(json, keeper->settings.machine_secret, error);
    cleanup_buffer struct buffer compact = {0};
    if (!machine)
        return false;
    bool done = has_place(keeper, machine->spec.name) ||
                error_set(error, ERROR_NO_SPACE, "there are 100 keeps already; DELETE one");
    if (done && !bounded_json_dump(machine->json, JSON_COMPACT, &compact))
        done = error_set(error, ERROR_MEMORY, "out of memory");
    cleanup_json json_t *text = done ? json_stringn(compact.bytes, compact.length) : NULL;
    const struct edit edit = {.kind = EDIT_PUT, .name = machine->spec.name, .text = text};
    if (done && !change_in_turn(keeper, &edit, error))
        done = error_wrap(error, "the machine was not taken");
    /* As cachemachine, which has not looked at any node or registry yet. */
    if (done && !keep_compat_new_machine(&machine->spec, answer))
        done = error_set(error, ERROR_MEMORY, "out of memory");
    keep_machine_free(machine);
    return done;
}

/* Stops a configured keep in this process, which is the only one. */
static bool stop_here(struct keeper *keeper, const char *name) {
    lock_acquire(&keeper->state_lock);
    struct kept *kept = keeper_find(keeper, name);
    bool served = true;
    if (kept && kept->origin != KEEP_POSTED) {
        kept->is_stopped = true;
        served = keeper_serve_keeps(keeper);
    }
    lock_release(&keeper->state_lock);
    return served;
}

bool keeper_delete(struct keeper *keeper, const char *name, struct error *error) {
    if (!keep_name_is_valid(name))
        return true;
    lock_acquire(&keeper->state_lock);
    bool is_posted = find_posted(keeper, name) != NULL, is_known = keeper_find(keeper, name);
    lock_release(&keeper->state_lock);
    /* Another process may have got a machine that this one does not know yet. */
    const struct edit edit = {
        .kind = EDIT_DELETE, .name = name, .stops = is_known && shares_stops(keeper)};
    if (is_posted || shares_stops(keeper)) {
        if (change_in_turn(keeper, &edit, error))
            return true;
        /* Where nobody can have POSTed, a name that is not known is nobody's. */
        return (error->status == 403 && !is_posted && !is_known) ||
               error_wrap(error, is_posted ? "the machine was not taken away"
                                           : "the keep was not stopped");
    }
    return stop_here(keeper, name) || error_set(error, ERROR_MEMORY, "out of memory");
}
