/* Reads containerd's configuration, and says what it lacks for the folder of hosts.toml files. */
#include "node/containerd.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "node/mirror.h"
#include "node/toml.h"
#include "node/tree.h"

/* The plugin's name in each version of the file. */
#define SHORT_PLUGIN "cri"
#define OLD_PLUGIN   "io.containerd.grpc.v1.cri"
#define NEW_PLUGIN   "io.containerd.cri.v1.images"

enum {
    FILES_LIMIT = 64,          /* files of one configuration */
    ENTRIES_LIMIT = 10000,     /* of a folder with imports */
    IMPORTS_LIMIT = 64 * 1024, /* bytes of the list of a file */
};

/* ---- one file ---- */

void containerd_file_finish(struct containerd_file *file) {
    buffer_finish(&file->imports);
}

static bool is_plugin(const struct containerd_file *file, struct text name) {
    if (text_is(name, SHORT_PLUGIN))
        return file->version <= 1;
    if (text_is(name, OLD_PLUGIN))
        return file->version <= 2;
    return text_is(name, NEW_PLUGIN) && file->version != 1;
}

static void visit(void *context, const struct toml_entry *entry) {
    struct containerd_file *file = context;
    static const char *const version[] = {"version"}, *const imports[] = {"imports"};
    if (toml_is_at(entry, version, 1))
        text_to_u64(entry->value, &file->version);
    if (toml_is_at(entry, imports, 1) && entry->is_string) {
        buffer_append(&file->imports, entry->value.at, entry->value.length);
        buffer_append(&file->imports, "", 1);
    }
    if (entry->depth < 3 || !text_is(entry->path[0], "plugins") || !is_plugin(file, entry->path[1]))
        return;
    file->has_section = true;
    if (entry->depth < 4 || !text_is(entry->path[2], "registry"))
        return;
    file->has_mirrors |= text_is(entry->path[3], "mirrors");
    if (entry->depth == 4 && entry->is_string && text_is(entry->path[3], "config_path"))
        file->has_config_path =
            text_copy(entry->value, file->config_path, sizeof file->config_path);
}

/* Appends a line of a template without what stands in {{ }}: a line with nothing else is left
 * empty, and elsewhere a 0 takes its place, so that a value is there. */
static void append_without_actions(struct buffer *out, struct text line) {
    struct text trimmed = text_trim(line);
    if (text_ends(trimmed, "\r"))
        trimmed = text_trim((struct text){trimmed.at, trimmed.length - 1});
    bool is_alone = text_starts(trimmed, "{{") && text_ends(trimmed, "}}");
    while (!is_alone && line.length) {
        const char *start = memmem(line.at, line.length, "{{", 2);
        const char *end =
            start ? memmem(start, line.length - (size_t)(start - line.at), "}}", 2) : NULL;
        if (!end)
            break;
        buffer_append(out, line.at, (size_t)(start - line.at));
        buffer_append_string(out, "0");
        line = text_from(line, (size_t)(end + 2 - line.at));
    }
    if (!is_alone && line.length)
        buffer_append(out, line.at, line.length);
    buffer_append_string(out, "\n");
}

bool containerd_read_file(struct text config, bool is_template, struct containerd_file *out,
                          struct error *error) {
    cleanup_buffer struct buffer plain = {0};
    *out = (struct containerd_file){.imports.limit = IMPORTS_LIMIT};
    for (struct text rest = config; is_template && rest.at;)
        append_without_actions(&plain, text_cut(rest, '\n', &rest));
    if (is_template)
        config = (struct text){plain.bytes, plain.length};
    if (plain.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    /* The version may stand behind the tables that it decides about. */
    if (!toml_read(config, visit, out, error))
        return false;
    uint64_t version = out->version;
    containerd_file_finish(out);
    *out = (struct containerd_file){.version = version, .imports.limit = IMPORTS_LIMIT};
    return toml_read(config, visit, out, error) &&
           (!out->imports.failed || error_set(error, ERROR_INVALID,
                                              "the list of imports is too "
                                              "long"));
}

bool containerd_names_folder(struct text config_path, const char *folder) {
    struct text wanted = text_of(folder);
    while (wanted.length > 1 && text_ends(wanted, "/"))
        wanted.length--;
    while (config_path.at) {
        struct text item = text_cut(config_path, ':', &config_path);
        while (item.length > 1 && text_ends(item, "/"))
            item.length--;
        if (item.length == wanted.length && memcmp(item.at, wanted.at, item.length) == 0)
            return true;
    }
    return false;
}

/* ---- a file and its imports ---- */

struct configuration {
    const struct tree *tree;
    char *paths[FILES_LIMIT]; /* owned; in the order in which containerd reads them */
    size_t count;
    bool is_template;           /* the first one is of k3s */
    bool has_base;              /* it adds lines to those that k3s knows itself */
    uint64_t version;           /* of the first one */
    char config_path[PATH_MAX]; /* what holds in the end; "": none */
    bool has_mirrors;
};

static void configuration_finish(struct configuration *all) {
    for (size_t i = 0; i < all->count; i++)
        free(all->paths[i]);
}
#define cleanup_configuration __attribute__((cleanup(configuration_finish)))

/* Adds a file that is to be read. containerd reads no file twice. */
static bool add_path(struct configuration *all, const char *path, struct error *error) {
    for (size_t i = 0; i < all->count; i++) {
        if (strcmp(all->paths[i], path) == 0)
            return true;
    }
    if (all->count == FILES_LIMIT)
        return error_set(error, ERROR_INVALID, "containerd's configuration has more than %d files",
                         FILES_LIMIT);
    all->paths[all->count] = strdup(path);
    if (!all->paths[all->count])
        return error_set(error, ERROR_MEMORY, "out of memory");
    all->count++;
    return true;
}

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds the files of the folder whose names match, in the order of their names. */
static bool add_matches(struct configuration *all, const char *folder, const char *glob,
                        struct error *error) {
    char *names[FILES_LIMIT];
    size_t count = 0;
    bool ok = true;
    cleanup_directory DIR *entries = tree_open_entries(all->tree, folder, NULL);
    size_t seen = 0;
    for (struct dirent *entry; entries && (entry = readdir(entries)) && seen < ENTRIES_LIMIT;
         seen++) {
        if (count < FILES_LIMIT && text_matches_glob(glob, text_of(entry->d_name)) &&
            (names[count] = strdup(entry->d_name)))
            count++;
    }
    if (count > 1)
        qsort(names, count, sizeof *names, compare_strings);
    for (size_t i = 0; i < count; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s", folder, names[i]) < (int)sizeof path)
            ok = ok && add_path(all, path, error);
        free(names[i]);
    }
    return ok;
}

/* Adds the files of an import, which is relative to the file that has it. Only its last part may be
 * a pattern. */
static bool add_import(struct configuration *all, const char *parent, const char *import,
                       struct error *error) {
    char path[2 * PATH_MAX];
    int folder = (int)(strrchr(parent, '/') - parent);
    if (*import == '/')
        snprintf(path, sizeof path, "%s", import);
    else
        snprintf(path, sizeof path, "%.*s/%s", folder, parent, import);
    char *name = strrchr(path, '/');
    if (strlen(path) >= PATH_MAX || !strpbrk(name, "*?"))
        return add_path(all, path, error);
    *name = '\0';
    return add_matches(all, path, name + 1, error);
}

static bool add_imports(struct configuration *all, const char *parent,
                        const struct containerd_file *file, struct error *error) {
    for (size_t at = 0; at < file->imports.length;) {
        const char *import = file->imports.bytes + at;
        if (!add_import(all, parent, import, error))
            return false;
        at += strlen(import) + 1;
    }
    return true;
}

/* Lets a file count over those before it. containerd 1.x, whose files have the versions 1 and 2,
 * replaces all settings of a plugin with those of a later file. */
static void merge(struct configuration *all, const struct containerd_file *file) {
    bool replaces = (file->version ? file->version : all->version) <= 2;
    if (file->has_config_path || (file->has_section && replaces))
        snprintf(all->config_path, sizeof all->config_path, "%s", file->config_path);
    all->has_mirrors = file->has_mirrors || (all->has_mirrors && !replaces);
}

static bool read_one(struct configuration *all, size_t index, struct error *error) {
    cleanup_containerd_file struct containerd_file file = {0};
    const char *path = all->paths[index];
    size_t length = 0;
    struct error why;
    cleanup_free char *bytes = tree_read(all->tree, path, TREE_FOLLOW, &length, NULL, &why);
    if (!bytes && why.kind == ERROR_NOT_FOUND && index > 0)
        return true;
    if (!bytes) {
        *error = why;
        return false;
    }
    if (!containerd_read_file((struct text){bytes, length}, all->is_template && index == 0, &file,
                              error))
        return error_wrap(error, "%s%s", all->tree->folder, path);
    if (index == 0) {
        all->version = file.version;
        all->has_base = all->is_template && memmem(bytes, length, "template \"base\"", 15);
    }
    merge(all, &file);
    return add_imports(all, path, &file, error);
}

static bool read_all(struct configuration *all, struct error *error) {
    for (size_t i = 0; i < all->count; i++) {
        if (!read_one(all, i, error))
            return false;
    }
    return true;
}

/* ---- where it is ---- */

static bool exists(const struct tree *tree, const char *path) {
    struct error error;
    size_t length;
    cleanup_free char *bytes = tree_read(tree, path, TREE_FOLLOW, &length, NULL, &error);
    return bytes || error.kind != ERROR_NOT_FOUND;
}

/* Adds the first file of the folder that is there. k3s and RKE2 write config.toml at each start;
 * before the first one, their template says what it will be. */
static bool add_first_of(struct configuration *all, const char *folder, struct error *error) {
    static const char *const names[] = {"config.toml", "config-v3.toml.tmpl", "config.toml.tmpl"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof *names && !all->count; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        all->is_template = i > 0;
        if (exists(all->tree, path) && !add_path(all, path, error))
            return false;
    }
    return true;
}

/* Finds the file that containerd is started with: beside the folder of hosts.toml files, else where
 * each kind of node has it. None: there is none. */
static bool find_first(struct configuration *all, const struct mirror_settings *settings,
                       struct error *error) {
    static const char *const folders[] = {
        "/etc/containerd",
        "/var/lib/rancher/k3s/agent/etc/containerd",
        "/var/lib/rancher/rke2/agent/etc/containerd",
    };
    char beside[PATH_MAX];
    if (settings->containerd_config)
        return !exists(all->tree, settings->containerd_config) ||
               add_path(all, settings->containerd_config, error);
    snprintf(beside, sizeof beside, "%s", settings->certs_dir);
    while (strlen(beside) > 1 && beside[strlen(beside) - 1] == '/')
        beside[strlen(beside) - 1] = '\0';
    *strrchr(beside, '/') = '\0';
    if (!add_first_of(all, beside, error))
        return false;
    for (size_t i = 0; i < sizeof folders / sizeof *folders && !all->count; i++) {
        if (!add_first_of(all, folders[i], error))
            return false;
    }
    /* containerd 2.2 and newer read these when there is no config.toml. */
    return all->count > 0 || add_matches(all, "/etc/containerd/conf.d", "*.toml", error);
}

/* ---- what it lacks ---- */

/* The file to change: k3s and RKE2 write config.toml anew from their template. */
static const char *file_to_change(const struct configuration *all, char out[static PATH_MAX]) {
    const char *first = all->count ? all->paths[0] : "/etc/containerd/config.toml";
    snprintf(out, PATH_MAX, "%s", first);
    char *name = strrchr(out, '/');
    if (strstr(first, "/rancher/") && strcmp(name, "/config.toml") == 0)
        snprintf(name, (size_t)(out + PATH_MAX - name), "/%s",
                 all->version >= 3 ? "config-v3.toml.tmpl" : "config.toml.tmpl");
    return out;
}

static void append_lines(struct buffer *out, const char *file, const char *version,
                         const char *plugin, const char *folder) {
    buffer_printf(out,
                  "# in %s%s; if this table is there already, only the key is missing:\n"
                  "[plugins.\"%s\".registry]\n  config_path = \"",
                  file, version, plugin);
    buffer_append_json(out, text_of(folder));
    buffer_append_string(out, "\"\n");
}

static void advise(const struct configuration *all, const char *folder,
                   struct mirror_containerd *out) {
    cleanup_buffer struct buffer lines = {.limit = MIRROR_ADVICE_SIZE - 1};
    char file[PATH_MAX];
    bool knows = all->version >= 2;
    file_to_change(all, file);
    if (!knows || all->version == 2)
        append_lines(&lines, file, knows ? "" : " with version = 2 (containerd 1.x)", OLD_PLUGIN,
                     folder);
    if (!knows || all->version >= 3)
        append_lines(&lines, file, knows ? "" : " with version = 3 (containerd 2.x)", NEW_PLUGIN,
                     folder);
    snprintf(out->advice, sizeof out->advice, "%s", lines.failed ? "" : lines.bytes);
}

static void judge(const struct configuration *all, const char *folder,
                  struct mirror_containerd *out) {
    const char *tree = all->tree->folder;
    if (containerd_names_folder(text_of(all->config_path), folder)) {
        out->state = MIRROR_READ;
        /* containerd issue 12808, seen in the sources of 2.1 to 2.4. */
        if (strchr(all->config_path, ':') && all->version >= 3)
            snprintf(
                out->why, sizeof out->why,
                "config_path in %s%s has several folders, which containerd 2.1 to 2.4 take for "
                "the name of one: name %.200s alone",
                tree, all->paths[0], folder);
        return;
    }
    if (all->has_base && !*all->config_path) {
        snprintf(out->why, sizeof out->why,
                 "%s%s leaves config_path to k3s or RKE2, which have not written config.toml yet",
                 tree, all->paths[0]);
        return;
    }
    if (all->count == 0) {
        snprintf(out->why, sizeof out->why,
                 "containerd's configuration is not in %s/etc/containerd; containerd before 2.2 "
                 "then reads no folder",
                 tree);
        advise(all, folder, out);
        return;
    }
    out->state = MIRROR_NOT_READ;
    if (*all->config_path)
        snprintf(out->why, sizeof out->why,
                 "config_path in %s%s is %.200s: choose that folder by --certs-dir, or change it",
                 tree, all->paths[0], all->config_path);
    else
        snprintf(out->why, sizeof out->why, "config_path is not set in %s%s%s", tree, all->paths[0],
                 all->has_mirrors
                     ? ", which has registry.mirrors: remove these, because containerd "
                       "does not start with both"
                     : "");
    advise(all, folder, out);
}

void mirror_check_containerd(const struct mirror_settings *settings,
                             struct mirror_containerd *out) {
    cleanup_tree struct tree tree = {.fd = -1};
    cleanup_configuration struct configuration all = {.tree = &tree};
    struct error error;
    *out = (struct mirror_containerd){.state = MIRROR_READ_UNKNOWN};
    if (tree_open(&tree, settings->folder, &error) && find_first(&all, settings, &error) &&
        read_all(&all, &error))
        judge(&all, settings->certs_dir, out);
    else
        snprintf(out->why, sizeof out->why, "containerd's configuration is not known: %s",
                 error.text);
}
