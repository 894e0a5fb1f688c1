/* The content of the files that tarn alone writes on a node, without the mark. Pure. Private to
 * node/. A false result means that memory is out. */
#ifndef NODE_RENDER_H
#define NODE_RENDER_H

#include "base/buffer.h"
#include "node/mirror.h"

/* containerd's hosts.toml for the registry; NULL: of _default, which names no server, so that
 * containerd goes on with the registry that the image names. */
bool render_hosts_toml(const struct mirror_settings *settings,
                       const struct mirror_registry *registry, struct buffer *out);

/* The file for registries.conf.d. */
bool render_registries_conf(const struct mirror_settings *settings, struct buffer *out);

/* Appends the body of such a file, which tarn wrote (with the mark in front or not), without the
 * registries of the settings; nothing if no other is left. */
bool render_without_listed(const struct mirror_settings *settings, struct text file,
                           struct buffer *out);

#endif
