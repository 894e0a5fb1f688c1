/* Finds the kubelet's flags for credential providers in its command line, or in the files of a
 * node. */
#include "node/kubelet.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "node/tree.h"

enum { ENTRIES_LIMIT = 100000 };

#define BIN_DIR "image-credential-provider-bin-dir"
#define CONFIG  "image-credential-provider-config"

struct wanted {
    const char *bin_dir, *config;
    char config_folder[PATH_MAX];
};

/* ---- a flag in a text ---- */

static bool is_end(char c) {
    return strchr(" \t\r\n\"'\\,;]", c) != NULL; /* also of a NUL */
}

struct text kubelet_find_flag(struct text text, const char *flag) {
    struct text found = {0};
    while (text.at) {
        struct text line = text_cut(text, '\n', &text);
        const char *at = memmem(line.at, line.length, flag, strlen(flag));
        if (!at || text_starts(text_trim(line), "#"))
            continue;
        struct text value = text_from(line, (size_t)(at - line.at) + strlen(flag));
        while (value.length && strchr("= \t\"'", *value.at))
            value = text_from(value, 1);
        size_t length = 0;
        while (length < value.length && !is_end(value.at[length]))
            length++;
        found = (struct text){value.at, length};
    }
    return found;
}

static bool is_same_path(struct text value, const char *path) {
    struct text wanted = text_of(path);
    while (value.length > 1 && text_ends(value, "/"))
        value.length--;
    while (wanted.length > 1 && text_ends(wanted, "/"))
        wanted.length--;
    return value.length == wanted.length && memcmp(value.at, wanted.at, value.length) == 0;
}

/* Sets what the text says about the flag. Returns whether it is there. */
static bool judge(struct text text, const char *flag, const char *wanted, const char * or,
                  struct kubelet_flag *out) {
    struct text value = kubelet_find_flag(text, flag);
    if (!value.at || !value.length)
        return false;
    bool is_right = is_same_path(value, wanted) || (or &&is_same_path(value, or));
    out->state = is_right ? KUBELET_FLAG_RIGHT : KUBELET_FLAG_OTHER;
    if (!is_right)
        text_copy(value, out->value, sizeof out->value);
    return true;
}

/* Sets what the text says about both flags. Returns whether one is there. */
static bool judge_both(struct text text, const struct wanted *wanted, struct kubelet *out) {
    bool bin_dir = judge(text, BIN_DIR, wanted->bin_dir, NULL, &out->bin_dir);
    /* From Kubernetes 1.34 on the configuration may be a folder. */
    bool config = judge(text, CONFIG, wanted->config, wanted->config_folder, &out->config);
    return bin_dir || config;
}

/* ---- the process ---- */

/* Whether the arguments, which have a NUL behind each, are those of a kubelet. k3s and RKE2 run it
 * inside their own process. */
static bool is_kubelet(struct text arguments) {
    struct text rest;
    struct text program = text_cut(arguments, '\0', &rest);
    const char *slash = memrchr(program.at, '/', program.length);
    struct text name = slash ? text_from(program, (size_t)(slash + 1 - program.at)) : program;
    if (text_is(name, "hyperkube"))
        return text_is(text_cut(rest, '\0', &rest), "kubelet");
    return text_is(name, "kubelet");
}

static bool look_at_process(const struct tree *tree, const char *name, const struct wanted *wanted,
                            struct kubelet *out) {
    char path[NAME_MAX + 20];
    size_t length = 0;
    snprintf(path, sizeof path, "/proc/%s/cmdline", name);
    cleanup_free char *bytes = tree_read(tree, path, TREE_NO_FOLLOW, &length, NULL, NULL);
    if (!bytes || !length || !is_kubelet((struct text){bytes, length}))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] == '\0')
            bytes[i] = '\n';
    }
    /* "--flag" and its value may be two arguments. */
    for (char *at = bytes; (at = strstr(at, "\n")); at++) {
        if (at - bytes >= (ptrdiff_t)strlen(BIN_DIR) &&
            (memcmp(at - strlen(BIN_DIR), BIN_DIR, strlen(BIN_DIR)) == 0 ||
             memcmp(at - strlen(CONFIG), CONFIG, strlen(CONFIG)) == 0))
            *at = ' ';
    }
    out->is_running = true;
    snprintf(out->where, sizeof out->where, "process %s", name);
    judge_both((struct text){bytes, length}, wanted, out);
    return true;
}

static void look_at_processes(const struct tree *tree, const struct wanted *wanted,
                              struct kubelet *out) {
    cleanup_directory DIR *entries = tree_open_entries(tree, "/proc", NULL);
    size_t seen = 0;
    for (struct dirent *entry; entries && (entry = readdir(entries)) && seen < ENTRIES_LIMIT;
         seen++) {
        if (strspn(entry->d_name, "0123456789") == strlen(entry->d_name) &&
            look_at_process(tree, entry->d_name, wanted, out))
            break;
    }
}

/* ---- the files ---- */

static void look_at_file(const struct tree *tree, const char *path, const struct wanted *wanted,
                         struct kubelet *out) {
    size_t length = 0;
    cleanup_free char *bytes = tree_read(tree, path, TREE_FOLLOW, &length, NULL, NULL);
    if (!bytes)
        return;
    bool has_flags = judge_both((struct text){bytes, length}, wanted, out);
    if (has_flags || !out->is_configured)
        snprintf(out->where, sizeof out->where, "%s%s", tree->folder, path);
    out->is_configured = true;
}

/* Each file of the folder whose name ends with `suffix`. */
static void look_at_folder(const struct tree *tree, const char *folder, const char *suffix,
                           const struct wanted *wanted, struct kubelet *out) {
    char path[PATH_MAX];
    cleanup_directory DIR *entries = tree_open_entries(tree, folder, NULL);
    size_t seen = 0;
    for (struct dirent *entry; entries && (entry = readdir(entries)) && seen < ENTRIES_LIMIT;
         seen++) {
        if (text_ends(text_of(entry->d_name), suffix) &&
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name) < (int)sizeof path)
            look_at_file(tree, path, wanted, out);
    }
}

static void look_at_files(const struct tree *tree, const struct wanted *wanted,
                          struct kubelet *out) {
    static const char *const folders[] = {
        "/lib/systemd/system/kubelet.service.d", "/usr/lib/systemd/system/kubelet.service.d",
        "/etc/systemd/system/kubelet.service.d", "/etc/rancher/k3s/config.yaml.d",
        "/etc/rancher/rke2/config.yaml.d"};
    static const char *const files[] = {
        "/lib/systemd/system/kubelet.service",
        "/usr/lib/systemd/system/kubelet.service",
        "/etc/systemd/system/kubelet.service",
        "/var/lib/kubelet/kubeadm-flags.env",
        "/etc/default/kubelet",
        "/etc/sysconfig/kubelet",
        "/etc/kubernetes/kubelet.env",
        "/etc/rancher/k3s/config.yaml",
        "/etc/rancher/rke2/config.yaml",
        "/var/snap/microk8s/current/args/kubelet",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        look_at_file(tree, files[i], wanted, out);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        look_at_folder(tree, folders[i], i < 3 ? ".conf" : ".yaml", wanted, out);
}

/* ---- both ---- */

void kubelet_look(const char *folder, const char *bin_dir, const char *config,
                  struct kubelet *out) {
    cleanup_tree struct tree tree = {.fd = -1};
    struct wanted wanted = {.bin_dir = bin_dir, .config = config};
    struct kubelet files = {0};
    const char *slash = strrchr(config, '/');
    *out = (struct kubelet){0};
    text_copy((struct text){config, slash ? (size_t)(slash - config) : 0}, wanted.config_folder,
              sizeof wanted.config_folder);
    if (!tree_open(&tree, folder, NULL))
        return;
    look_at_files(&tree, &wanted, &files);
    look_at_processes(&tree, &wanted, out);
    if (!out->is_running) {
        *out = files;
        return;
    }
    out->needs_restart =
        (files.bin_dir.state == KUBELET_FLAG_RIGHT && out->bin_dir.state != KUBELET_FLAG_RIGHT) ||
        (files.config.state == KUBELET_FLAG_RIGHT && out->config.state != KUBELET_FLAG_RIGHT);
}
