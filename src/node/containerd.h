/*
 * What containerd's own configuration says about the folder of hosts.toml files.
 *
 * The configuration is one file and those that it imports (containerd-config.toml(5)). Private to
 * node/, except for what node/mirror.h shows of it.
 */
#ifndef NODE_CONTAINERD_H
#define NODE_CONTAINERD_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

/* What one file says. Zeroed: nothing. */
struct containerd_file {
    uint64_t version;           /* of the file's form; 0: it does not say */
    bool has_section;           /* of the plugin that pulls images for the kubelet */
    bool has_config_path;       /* config_path is there */
    bool has_mirrors;           /* the older way, which excludes config_path */
    char config_path[PATH_MAX]; /* a folder, or several with ':' between */
    struct buffer imports;      /* each with a NUL behind it */
};
void containerd_file_finish(struct containerd_file *file);
#define cleanup_containerd_file __attribute__((cleanup(containerd_file_finish)))

/* Reads the text of a file. With `is_template`, it is one of k3s: what stands in {{ }} is passed
 * over. False: it is no TOML (ERROR_INVALID, a clause with the line), or memory is out. */
bool containerd_read_file(struct text config, bool is_template, struct containerd_file *out,
                          struct error *error);

/* Whether one of the folders of a config_path is `folder`. */
bool containerd_names_folder(struct text config_path, const char *folder);

#endif
