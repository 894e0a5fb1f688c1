/* Compares the files on a node with those that are wanted, and makes them so. */
#include "node/plan.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"

enum { SCAN_LIMIT = 10000 }; /* entries of a folder */

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "out of memory");
}

void plan_report(struct plan *plan, enum mirror_engine engine, enum mirror_action action,
                 const char *path, struct text content_or_why) {
    char full[2 * PATH_MAX], why[200] = "";
    snprintf(full, sizeof full, "%s%s", plan->tree.folder, path);
    struct mirror_change change = {.engine = engine, .action = action, .path = full};
    if (action == MIRROR_REFUSE) {
        text_copy(content_or_why, why, sizeof why);
        change.why = why;
        plan->was_refused = true;
    } else {
        change.content = content_or_why;
    }
    if (plan->settings->on_change)
        plan->settings->on_change(plan->settings->context, &change);
}

/* ---- the folders that tarn made ---- */

/* Cuts the last part off. False: there is none left. */
static bool go_up(char *path) {
    char *slash = strrchr(path, '/');
    if (!slash || slash == path)
        return false;
    *slash = '\0';
    return true;
}

static bool is_made(const struct plan *plan, const char *folder) {
    for (size_t i = 0; i < plan->folder_count; i++) {
        if (strcmp(plan->folders[i], folder) == 0)
            return true;
    }
    return false;
}

static bool add_folder(struct plan *plan, const char *folder, struct error *error) {
    if (is_made(plan, folder))
        return true;
    char **more = realloc(plan->folders, (plan->folder_count + 1) * sizeof *more);
    if (!more)
        return no_memory(error);
    plan->folders = more;
    plan->folders[plan->folder_count] = strdup(folder);
    if (!plan->folders[plan->folder_count])
        return no_memory(error);
    plan->folder_count++;
    return true;
}

bool plan_add_folders(struct plan *plan, const json_t *folders, struct error *error) {
    size_t index;
    json_t *folder;
    json_array_foreach (folders, index, folder) {
        const char *path = json_string_value(folder);
        if (path && *path == '/' && strlen(path) < PATH_MAX && plan->folder_count < SCAN_LIMIT &&
            !add_folder(plan, path, error))
            return false;
    }
    return true;
}

bool plan_add_missing(struct plan *plan, const char *path, struct error *error) {
    char folder[PATH_MAX];
    unsigned missing = 0;
    if (!tree_count_missing(&plan->tree, path, &missing, error))
        return false;
    if (!text_copy(text_of(path), folder, sizeof folder))
        return no_memory(error);
    for (; missing > 0 && go_up(folder); missing--) {
        if (!add_folder(plan, folder, error))
            return false;
    }
    return true;
}

static bool is_in(const char *path, const char *folder) {
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && path[length] == '/';
}

/* Whether a file of tarn's will be in the folder. */
static bool is_needed(const struct plan *plan, const char *folder) {
    bool needed = is_in(MIRROR_DOCKER_FILE, folder);
    for (size_t i = 0; i < plan->count && !needed; i++)
        needed = !plan->files[i].is_unwanted && is_in(plan->files[i].path, folder);
    return needed;
}

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

json_t *plan_list_folders(const struct plan *plan) {
    json_t *list = json_array();
    if (plan->folder_count > 1)
        qsort(plan->folders, plan->folder_count, sizeof *plan->folders, compare_strings);
    for (size_t i = 0; i < plan->folder_count; i++) {
        if (is_needed(plan, plan->folders[i]) &&
            json_array_append_new(list, json_string(plan->folders[i])) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static int compare_lengths(const void *a, const void *b) {
    size_t first = strlen(*(char *const *)a), second = strlen(*(char *const *)b);
    return first < second ? 1 : -(first > second);
}

void plan_delete_folders(const struct plan *plan) {
    if (plan->settings->dry_run || plan->folder_count == 0)
        return;
    qsort(plan->folders, plan->folder_count, sizeof *plan->folders, compare_lengths);
    for (size_t i = 0; i < plan->folder_count; i++)
        tree_delete_folder(&plan->tree, plan->folders[i]);
}

/* ---- the files that are there ---- */

static struct plan_file *find_file(const struct plan *plan, const char *path) {
    for (size_t i = 0; i < plan->count; i++) {
        if (strcmp(plan->files[i].path, path) == 0)
            return &plan->files[i];
    }
    return NULL;
}

static struct plan_file *add_file(struct plan *plan, enum mirror_engine engine, const char *path,
                                  struct error *error) {
    struct plan_file *more = realloc(plan->files, (plan->count + 1) * sizeof *more);
    char *copy = strdup(path);
    if (more)
        plan->files = more;
    if (!more || !copy) {
        free(copy);
        no_memory(error);
        return NULL;
    }
    plan->files[plan->count] = (struct plan_file){.engine = engine, .path = copy};
    return &plan->files[plan->count++];
}

static void file_finish(struct plan_file *file) {
    free(file->path);
    free(file->bytes);
    mark_finish(&file->mark);
    buffer_finish(&file->body);
}

/* Whether a file that is not as tarn wrote it is tarn's all the same. */
static bool may_restore(const struct plan *plan, const struct plan_file *file,
                        enum mark_found found) {
    const struct mirror_settings *settings = plan->settings;
    char full[2 * PATH_MAX];
    if (found == MARK_EDITED)
        return settings->restore_edited;
    snprintf(full, sizeof full, "%s%s", plan->tree.folder, file->path);
    return settings->is_own && settings->is_own(settings->context, full);
}

/* Reads the file, and finds out whose it is. False: it cannot be known. */
static bool examine(const struct plan *plan, struct plan_file *file, struct error *error) {
    struct error why;
    file->bytes = tree_read(&plan->tree, file->path, TREE_NO_FOLLOW, &file->length, NULL, &why);
    if (!file->bytes && why.kind == ERROR_NOT_FOUND)
        return true;
    file->state = PLAN_FOREIGN;
    if (!file->bytes) {
        *error = why;
        snprintf(file->why, sizeof file->why, "it is no regular file of tarn's");
        return why.kind == ERROR_INVALID;
    }
    enum mark_found found = mark_read((struct text){file->bytes, file->length}, &file->mark);
    file->is_edited = found != MARK_FOUND;
    if (found == MARK_FOUND || may_restore(plan, file, found))
        file->state = PLAN_OURS;
    else
        snprintf(file->why, sizeof file->why, "%s",
                 found == MARK_MISSING ? "tarn did not write it"
                                       : "it was edited since tarn wrote it");
    return true;
}

/* Adds the file if tarn wrote it, and the folders that were made for it. */
static bool discover(struct plan *plan, enum mirror_engine engine, const char *path,
                     struct error *error) {
    struct plan_file *file = add_file(plan, engine, path, error);
    if (!file || !examine(plan, file, error))
        return false;
    if (file->state == PLAN_OURS || *file->mark.url)
        return plan_add_folders(plan, file->mark.folders, error);
    file_finish(file);
    plan->count--;
    return true;
}

/* Deletes what an interrupted run left. */
static void clean(const struct plan *plan, const char *path) {
    if (!plan->settings->dry_run)
        tree_clean(&plan->tree, path);
}

/* Discovers the files `name` in the folders of `folder`. */
static bool scan(struct plan *plan, enum mirror_engine engine, const char *folder, const char *name,
                 struct error *error) {
    struct error why;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/_default/%s", folder, name);
    clean(plan, path);
    cleanup_directory DIR *entries = tree_open_entries(&plan->tree, folder, &why);
    if (!entries) {
        *error = why;
        return why.kind == ERROR_NOT_FOUND;
    }
    bool ok = true;
    size_t count = 0;
    for (struct dirent *entry; ok && (entry = readdir(entries)) && count < SCAN_LIMIT; count++) {
        if (entry->d_name[0] == '.' || entry->d_type == DT_REG ||
            snprintf(path, sizeof path, "%s/%s/%s", folder, entry->d_name, name) >=
                (int)sizeof path)
            continue;
        clean(plan, path);
        ok = discover(plan, engine, path, error);
    }
    return ok;
}

bool plan_open(struct plan *plan, const struct mirror_settings *settings, struct error *error) {
    static const char *const others[] = {MIRROR_CONTAINERS_FILE, MIRROR_DOCKER_FILE,
                                         MIRROR_DOCKER_RECORD};
    *plan = (struct plan){.settings = settings, .tree.fd = -1};
    if (!tree_open(&plan->tree, settings->folder, error) || !tree_lock(&plan->tree, error))
        return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        clean(plan, others[i]);
    return scan(plan, MIRROR_CONTAINERD, settings->certs_dir, "hosts.toml", error) &&
           scan(plan, MIRROR_DOCKER, "/etc/docker/certs.d", "ca.crt", error) &&
           scan(plan, MIRROR_CONTAINERS, "/etc/containers/certs.d", "ca.crt", error) &&
           discover(plan, MIRROR_CONTAINERS, MIRROR_CONTAINERS_FILE, error);
}

void plan_close(struct plan *plan) {
    for (size_t i = 0; i < plan->count; i++)
        file_finish(&plan->files[i]);
    for (size_t i = 0; i < plan->folder_count; i++)
        free(plan->folders[i]);
    free(plan->files);
    free(plan->folders);
    tree_close(&plan->tree);
}

/* ---- what is wanted ---- */

bool plan_want(struct plan *plan, enum mirror_engine engine, const char *path, struct buffer *body,
               struct error *error) {
    struct plan_file *file = find_file(plan, path);
    if (body->failed)
        return no_memory(error);
    if (!file) {
        file = add_file(plan, engine, path, error);
        if (!file || !examine(plan, file, error))
            return false;
    }
    buffer_finish(&file->body);
    file->body = *body;
    *body = (struct buffer){0};
    file->is_wanted = true;
    return plan_add_missing(plan, path, error);
}

void plan_forbid(struct plan *plan, const char *path, const char *why) {
    struct plan_file *file = find_file(plan, path);
    if (!file || file->state != PLAN_ABSENT)
        return;
    file->state = PLAN_FOREIGN;
    snprintf(file->why, sizeof file->why, "%s", why);
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(((const struct plan_file *)a)->path, ((const struct plan_file *)b)->path);
}

void plan_check(struct plan *plan) {
    if (plan->count > 1)
        qsort(plan->files, plan->count, sizeof *plan->files, compare_paths);
    for (size_t i = 0; i < plan->count; i++) {
        struct plan_file *file = &plan->files[i];
        if (file->state == PLAN_FOREIGN && (file->is_wanted || file->is_unwanted))
            plan_report(plan, file->engine, MIRROR_REFUSE, file->path, text_of(file->why));
    }
}

/* ---- doing it ---- */

static bool write_file(struct plan *plan, const struct plan_file *file, struct error *error) {
    cleanup_json json_t *folders = plan_list_folders(plan);
    cleanup_buffer struct buffer content = {0};
    const char *url = plan->settings->url ? plan->settings->url : file->mark.url;
    if (!folders ||
        !mark_write(url, folders, (struct text){file->body.bytes, file->body.length}, &content))
        return no_memory(error);
    struct text text = {content.bytes, content.length};
    bool is_right = file->bytes && file->length == content.length &&
                    memcmp(file->bytes, content.bytes, content.length) == 0;
    if (!is_right && !plan->settings->dry_run &&
        !tree_write(&plan->tree, file->path, TREE_NO_FOLLOW, text, NULL, error))
        return false;
    enum mirror_action action = file->is_edited ? MIRROR_RESTORE : MIRROR_WRITE;
    plan_report(plan, file->engine, is_right ? MIRROR_KEEP : action, file->path, text);
    return true;
}

static bool delete_file(struct plan *plan, const struct plan_file *file, struct error *error) {
    if (!plan->settings->dry_run && !tree_delete(&plan->tree, file->path, TREE_NO_FOLLOW, error))
        return false;
    plan_report(plan, file->engine, MIRROR_DELETE, file->path, (struct text){0});
    return true;
}

bool plan_apply(struct plan *plan, struct error *error) {
    for (size_t i = 0; i < plan->count; i++) {
        const struct plan_file *file = &plan->files[i];
        if (file->state == PLAN_FOREIGN)
            continue;
        if (file->is_wanted && !write_file(plan, file, error))
            return false;
        if (!file->is_wanted && file->is_unwanted && !delete_file(plan, file, error))
            return false;
    }
    return true;
}
