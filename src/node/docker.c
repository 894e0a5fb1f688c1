/* Adds tarn to Docker's daemon.json, and takes it out again. */
#include "node/docker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "client/address.h"
#include "client/origin.h"
#include "node/daemon_json.h"

#define MIRRORS  "registry-mirrors"
#define INSECURE "insecure-registries"
#define ABOUT                                                                                      \
    "What daemon.json held before tarn mirror changed it. tarn mirror remove needs this file."

enum { DAEMON_JSON_LIMIT = 512 << 10, WRITTEN_LIMIT = 2 };

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

/* The item of insecure-registries that the URL needs; "": none, because Docker uses http on this
 * machine without it. */
static void find_insecure(const char *url, char out[static ORIGIN_HOST_SIZE]) {
    struct origin origin;
    *out = '\0';
    if (origin_parse(url, &origin) && !origin.https &&
        address_classify_host(origin.host) != ADDRESS_LOOPBACK)
        origin_host(&origin, out);
}

/* ---- what is there ---- */

static bool read_record(struct docker *docker, struct plan *plan, struct error *error) {
    struct error why;
    size_t length = 0;
    cleanup_free char *bytes =
        tree_read(&plan->tree, MIRROR_DOCKER_RECORD, TREE_NO_FOLLOW, &length, NULL, &why);
    if (!bytes) {
        *error = why;
        return why.kind == ERROR_NOT_FOUND;
    }
    docker->record = bounded_json_load(bytes, length, NULL);
    docker->record_url = json_string_value(json_object_get(docker->record, "url"));
    if (!docker->record_url)
        return error_set(error, ERROR_INVALID,
                         "%s" MIRROR_DOCKER_RECORD
                         " is no record of tarn mirror; take tarn out of daemon.json by hand, and "
                         "delete this file",
                         plan->tree.folder);
    return plan_add_folders(plan, json_object_get(docker->record, "folders"), error);
}

bool docker_open(struct docker *docker, struct plan *plan, struct error *error) {
    struct error why;
    *docker = (struct docker){0};
    if (!read_record(docker, plan, error))
        return false;
    docker->now = tree_read(&plan->tree, MIRROR_DOCKER_FILE, TREE_FOLLOW, &docker->now_length,
                            &docker->now_status, &why);
    if (docker->now || why.kind == ERROR_NOT_FOUND)
        return true;
    *error = why;
    return false;
}

void docker_close(struct docker *docker) {
    json_decref(docker->record);
    free(docker->now);
    buffer_finish(&docker->before);
    buffer_finish(&docker->after);
}

static struct text text_now(const struct docker *docker) {
    return (struct text){docker->now, docker->now_length};
}

/* Whether daemon.json is as tarn wrote it. */
static bool is_as_written(const struct docker *docker) {
    size_t index;
    json_t *text;
    json_array_foreach (json_object_get(docker->record, "written"), index, text) {
        if (docker->now && json_string_length(text) == docker->now_length &&
            memcmp(json_string_value(text), docker->now, docker->now_length) == 0)
            return true;
    }
    return false;
}

/* ---- the text before ---- */

/* Whether the list `key` of the text before had the value, so that it is not tarn's. */
static bool had(const struct docker *docker, const char *key, const char *value) {
    const char *before = json_string_value(json_object_get(docker->record, "before"));
    cleanup_json json_t *object = before ? daemon_json_load(text_of(before), NULL) : NULL;
    return *value == '\0' || daemon_json_has(object, key, value);
}

static bool had_key(const struct docker *docker, const char *key) {
    const char *before = json_string_value(json_object_get(docker->record, "before"));
    cleanup_json json_t *object = before ? daemon_json_load(text_of(before), NULL) : NULL;
    return json_object_get(object, key) != NULL;
}

static bool take_out(const struct docker *docker, struct text text, const char *key,
                     const char *value, struct buffer *out, struct error *error) {
    if (had(docker, key, value))
        return buffer_append(out, text.at, text.length) || no_memory(error);
    return daemon_json_remove(text, key, value, !had_key(docker, key), out, error);
}

/* Takes the entries out of a text that somebody has changed since. If the rest has the same values
 * as the text before, the text before is right to the byte. */
static bool find_rest(struct docker *docker, struct error *error) {
    char insecure[ORIGIN_HOST_SIZE];
    cleanup_buffer struct buffer text = {0};
    find_insecure(docker->record_url, insecure);
    if (!take_out(docker, text_now(docker), MIRRORS, docker->record_url, &text, error) ||
        !take_out(docker, (struct text){text.bytes, text.length}, INSECURE, insecure,
                  &docker->before, error))
        return false;
    const char *before = json_string_value(json_object_get(docker->record, "before"));
    cleanup_json json_t *old = before ? daemon_json_load(text_of(before), NULL) : NULL;
    cleanup_json json_t *rest =
        daemon_json_load((struct text){docker->before.bytes, docker->before.length}, error);
    docker->existed = old || json_object_size(rest) > 0;
    if (!old || !json_equal(old, rest))
        return rest != NULL;
    buffer_clear(&docker->before);
    return buffer_append_string(&docker->before, before) || no_memory(error);
}

/* Finds what daemon.json would be without tarn. */
static bool find_before(struct docker *docker, struct error *error) {
    docker->existed = docker->now != NULL;
    if (!docker->now)
        return true;
    if (docker->record && !is_as_written(docker))
        return find_rest(docker, error);
    const char *before = docker->now;
    if (docker->record)
        before = json_string_value(json_object_get(docker->record, "before"));
    docker->existed = before != NULL;
    return !before || buffer_append_string(&docker->before, before) || no_memory(error);
}

/* ---- what is to be done ---- */

/* Reports an error that is about the content of the file. False: it is about something else. */
static bool refuse(struct plan *plan, const struct error *error) {
    if (error->kind != ERROR_INVALID)
        return false;
    plan_report(plan, MIRROR_DOCKER, MIRROR_REFUSE, MIRROR_DOCKER_FILE, text_of(error->text));
    return true;
}

/* Whether the file has all entries already. */
static bool has_entries(const struct docker *docker, const char *url, const char *insecure) {
    cleanup_json json_t *now = docker->now ? daemon_json_load(text_now(docker), NULL) : NULL;
    return daemon_json_has(now, MIRRORS, url) &&
           (*insecure == '\0' || daemon_json_has(now, INSECURE, insecure));
}

bool docker_plan_install(struct docker *docker, struct plan *plan, struct error *error) {
    const char *url = plan->settings->url;
    char insecure[ORIGIN_HOST_SIZE];
    cleanup_buffer struct buffer text = {0};
    find_insecure(url, insecure);
    if (docker->now_length > DAEMON_JSON_LIMIT) {
        error_set(error, ERROR_INVALID, "is longer than %d bytes", DAEMON_JSON_LIMIT);
        return refuse(plan, error);
    }
    bool is_other = docker->record && strcmp(docker->record_url, url) != 0;
    if (!is_other && has_entries(docker, url, insecure)) {
        docker->exists_after = true;
        return true;
    }
    if (!find_before(docker, error))
        return refuse(plan, error);
    struct text before = text_of(docker->existed ? docker->before.bytes : "{}\n");
    if (!before.at)
        before = text_of("");
    if (*insecure && !daemon_json_add(before, INSECURE, insecure, &text, error))
        return refuse(plan, error);
    if (*insecure)
        before = (struct text){text.bytes, text.length};
    if (!daemon_json_add(before, MIRRORS, url, &docker->after, error))
        return refuse(plan, error);
    docker->is_change = docker->exists_after = true;
    return plan_add_missing(plan, MIRROR_DOCKER_FILE, error);
}

bool docker_plan_remove(struct docker *docker, struct plan *plan, struct error *error) {
    const char *url = plan->settings->url;
    if (!docker->record || (url && strcmp(docker->record_url, url) != 0))
        return true;
    if (!find_before(docker, error))
        return refuse(plan, error);
    docker->is_removal = true;
    docker->exists_after = docker->existed;
    docker->is_change =
        docker->now && (!docker->existed || docker->before.length != docker->now_length ||
                        memcmp(docker->before.bytes, docker->now, docker->now_length) != 0);
    return !docker->is_change || !docker->existed ||
           buffer_append(&docker->after, docker->before.bytes, docker->before.length) ||
           no_memory(error);
}

/* ---- doing it ---- */

/* The texts that daemon.json may hold from now on until the next change: also the one that it has
 * now, because a crash may come before the new one is written. */
static json_t *list_written(const struct docker *docker) {
    json_t *written = json_array();
    json_array_append_new(written, json_stringn(docker->after.bytes, docker->after.length));
    if (is_as_written(docker))
        json_array_append_new(written, json_stringn(docker->now, docker->now_length));
    return written;
}

static bool write_record(const struct docker *docker, struct plan *plan, struct error *error) {
    cleanup_buffer struct buffer text = {0};
    static const struct stat mode = {.st_mode = 0600}; /* as secret as daemon.json may be */
    struct stat status = mode;
    status.st_uid = geteuid();
    status.st_gid = getegid();
    cleanup_json json_t *record = json_pack(
        "{s:s, s:s, s:o, s:o, s:o}", "about", ABOUT, "url", plan->settings->url, "folders",
        plan_list_folders(plan), "before",
        docker->existed ? json_stringn(docker->before.bytes, docker->before.length) : json_null(),
        "written", list_written(docker));
    if (!bounded_json_dump(record, JSON_INDENT(2) | JSON_PRESERVE_ORDER, &text) ||
        !buffer_append_string(&text, "\n"))
        return no_memory(error);
    struct text bytes = {text.bytes, text.length};
    if (!plan->settings->dry_run &&
        !tree_write(&plan->tree, MIRROR_DOCKER_RECORD, TREE_NO_FOLLOW, bytes, &status, error))
        return false;
    plan_report(plan, MIRROR_DOCKER, MIRROR_WRITE, MIRROR_DOCKER_RECORD, bytes);
    return true;
}

static bool change_file(const struct docker *docker, struct plan *plan, struct error *error) {
    struct text after = {docker->after.bytes, docker->after.length};
    const struct stat *old = docker->now ? &docker->now_status : NULL;
    bool dry_run = plan->settings->dry_run;
    if (!docker->exists_after) {
        if (!dry_run && !tree_delete(&plan->tree, MIRROR_DOCKER_FILE, TREE_FOLLOW, error))
            return false;
        plan_report(plan, MIRROR_DOCKER, MIRROR_DELETE, MIRROR_DOCKER_FILE, (struct text){0});
        return true;
    }
    if (!dry_run && !tree_write(&plan->tree, MIRROR_DOCKER_FILE, TREE_FOLLOW, after, old, error))
        return false;
    plan_report(plan, MIRROR_DOCKER, MIRROR_WRITE, MIRROR_DOCKER_FILE, after);
    return true;
}

bool docker_apply(struct docker *docker, struct plan *plan, struct error *error) {
    if (!docker->is_change && !docker->is_removal) {
        if (docker->exists_after)
            plan_report(plan, MIRROR_DOCKER, MIRROR_KEEP, MIRROR_DOCKER_FILE, (struct text){0});
        return true;
    }
    if (!docker->is_removal && !write_record(docker, plan, error))
        return false;
    if (docker->is_change && !change_file(docker, plan, error))
        return false;
    if (!docker->is_removal)
        return true;
    if (!plan->settings->dry_run &&
        !tree_delete(&plan->tree, MIRROR_DOCKER_RECORD, TREE_NO_FOLLOW, error))
        return false;
    plan_report(plan, MIRROR_DOCKER, MIRROR_DELETE, MIRROR_DOCKER_RECORD, (struct text){0});
    return true;
}
