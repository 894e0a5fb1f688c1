/*
 * Makes tarn the mirror of a node's container engines, and takes it away again.
 *
 * For each engine there are files of its own:
 *
 *   containerd   CERTS_DIR/HOST/hosts.toml for each registry, and CERTS_DIR/_default/hosts.toml
 *   containers   /etc/containers/registries.conf.d/tarn.conf (Podman, CRI-O, skopeo, Buildah)
 *   Docker       entries in /etc/docker/daemon.json, and /etc/docker/tarn-mirror.json, which
 * records what the file held before
 *
 * In each of them the registry itself stays the place to ask when the mirror does not serve. Files
 * of containerd and containers carry a mark (node/mark.h). A file without it, or one that somebody
 * edited, is never changed: installing is refused, and nothing at all is written. Of daemon.json
 * only tarn's own entries are added and removed. The latest mirror_install() decides: it replaces
 * the files of an earlier one, also one with another URL. A file that is right already is not
 * written again. mirror_remove() leaves the files and folders as they were before.
 *
 * Each file is replaced as a whole. After a crash between two files either function, called again,
 * ends what was begun. Several processes may call them: one waits for the other.
 */
#ifndef NODE_MIRROR_H
#define NODE_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"

enum mirror_engine {
    MIRROR_CONTAINERD = 1,
    MIRROR_DOCKER = 2,
    MIRROR_CONTAINERS = 4,
};

#define MIRROR_CERTS_DIR       "/etc/containerd/certs.d"
#define MIRROR_CONTAINERS_FILE "/etc/containers/registries.conf.d/tarn.conf"
#define MIRROR_DOCKER_FILE     "/etc/docker/daemon.json"
#define MIRROR_DOCKER_RECORD   "/etc/docker/tarn-mirror.json"

struct mirror_registry {
    const char *host;    /* by which images name it: "docker.io", "registry.example:5000" */
    const char *url;     /* where it really is: "https://registry-1.docker.io" */
    const char *prefix;  /* in front of each repository there; NULL: none */
    const char *ca_file; /* PEM file with the authorities of `url`; NULL: the system's */
};

enum mirror_action {
    MIRROR_WRITE,   /* made or replaced */
    MIRROR_RESTORE, /* replaced, because somebody had edited it */
    MIRROR_DELETE,  /* deleted */
    MIRROR_KEEP,    /* right already */
    MIRROR_REFUSE,  /* somebody else's: not touched */
};

/* What was done to one file, or in a dry run would be. */
struct mirror_change {
    enum mirror_engine engine;
    enum mirror_action action;
    const char *path;    /* with the folder of the tree in front */
    struct text content; /* WRITE: what it holds then */
    const char *why;     /* REFUSE: a clause */
};

struct mirror_settings {
    const char *url;    /* tarn's, as mirror_url() writes it. mirror_remove(): NULL means any */
    unsigned engines;   /* of enum mirror_engine, joined by | */
    const char *folder; /* of the tree; NULL: the root of the file system */
    const char *certs_dir;
    const char *containerd_config; /* containerd's own configuration; NULL: where it usually is */
    const struct mirror_registry *registries;
    size_t registry_count;
    bool has_default;        /* containerd's _default, for all other registries */
    bool has_docker;         /* tarn serves Docker Hub to clients that name no registry */
    const char *ca_file;     /* PEM file with the authorities of tarn's own certificate; or NULL */
    int64_t dial_timeout_ms; /* containerd's; 0: its own */
    bool only_listed;        /* mirror_remove(): other registries keep their mirror */
    bool dry_run;
    bool skip_refused; /* what is somebody else's stops only its own file */
    bool
        restore_edited; /* a file that somebody edited since tarn wrote it is tarn's all the same */
    /* Whether this process wrote the file `path`, which has the folder of the tree in front. Then
     * it is restored also when it has no mark any more. NULL: never. */
    bool (*is_own)(void *context, const char *path);
    void (*on_change)(void *context, const struct mirror_change *change);
    void *context;
};

/* Writes "http://HOST[:PORT]" or "https://…" without a final slash. False: `url` is no http or
 * https URL, or has a user, a path, a query or a fragment (ERROR_INVALID, a clause). */
bool mirror_url(const char *url, char *out, size_t size, struct error *error);

/* False: ERROR_INVALID when a file was refused and skip_refused is not set; nothing was changed
 * then. After any other error the files that were reported are changed. */
bool mirror_install(const struct mirror_settings *settings, struct error *error);

/* Removes what mirror_install() wrote for `url`: for every registry, or with `only_listed` for
 * those of the settings. False: as above, but all that is tarn's own was removed. */
bool mirror_remove(const struct mirror_settings *settings, struct error *error);

/* Whether containerd reads the folder of hosts.toml files for the kubelet's pulls. */
enum mirror_read {
    MIRROR_READ_UNKNOWN, /* containerd's configuration is not there, or cannot be read */
    MIRROR_READ,
    MIRROR_NOT_READ,
};
enum { MIRROR_ADVICE_SIZE = 4096, MIRROR_WHY_SIZE = 8192 };
struct mirror_containerd {
    enum mirror_read state;
    char why[MIRROR_WHY_SIZE];       /* a clause; READ: "", or what may still go wrong */
    char advice[MIRROR_ADVICE_SIZE]; /* lines that containerd's configuration lacks; "": none */
};

/* Looks at containerd's configuration, with all that it imports: the file of the settings, else
 * config.toml beside the folder, in /etc/containerd, or where k3s and RKE2 have it. */
void mirror_check_containerd(const struct mirror_settings *settings, struct mirror_containerd *out);

#endif
