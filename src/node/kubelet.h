/*
 * Which flags the kubelet of a node is started with.
 *
 * The kubelet's process says it, if /proc is among the node's files. Else the files do that
 * kubeadm, systemd, k3s, RKE2 and MicroK8s keep the flags in. Nothing is started or restarted.
 */
#ifndef NODE_KUBELET_H
#define NODE_KUBELET_H

#include <limits.h>
#include <stdbool.h>
#include "base/text.h"

enum kubelet_flag_state {
    KUBELET_FLAG_MISSING,
    KUBELET_FLAG_OTHER, /* has another value */
    KUBELET_FLAG_RIGHT,
};

struct kubelet_flag {
    enum kubelet_flag_state state;
    char value[PATH_MAX]; /* OTHER: the value */
};

struct kubelet {
    bool is_running;          /* its process was found, and says what follows */
    bool is_configured;       /* else files were found, and say what follows */
    bool needs_restart;       /* the files have flags that the process lacks */
    char where[2 * PATH_MAX]; /* the process or the file that was looked at */
    struct kubelet_flag bin_dir, config;
};

/* Looks for --image-credential-provider-bin-dir and --image-credential-provider-config on the node
 * whose files are below `folder` (NULL: this machine). They are right when they lead to `bin_dir`
 * and to `config` or its folder. */
void kubelet_look(const char *folder, const char *bin_dir, const char *config, struct kubelet *out);

/* The value behind the last mention of the flag, which is given without dashes, in a file of any
 * form; at NULL: there is none. Lines that begin with '#' do not count. Pure. */
struct text kubelet_find_flag(struct text text, const char *flag);

#endif
