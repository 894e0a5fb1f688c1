/*
 * Installs this program on a node as a credential provider of the kubelet.
 *
 *   BIN_DIR/tarn                   the launcher, which the kubelet starts (node/launcher.c)
 *   BIN_DIR/tarn-0123456789abcdef  program, libraries, loader and authorities (node/program.h)
 *   CONFIG                         a CredentialProviderConfig with this one provider
 *
 * The folder needs nothing of the node. A new version gets a new folder, and replacing the launcher
 * makes it the one that counts, all at once. The folder before stays for calls that have just
 * begun, older ones are deleted. A launcher or a configuration that tarn did not write, or that
 * somebody edited, is never changed. Nothing is restarted: the kubelet reads the configuration when
 * it starts, and starts the launcher anew for each request.
 */
#ifndef NODE_PROVIDER_H
#define NODE_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

#define PROVIDER_BIN_DIR "/usr/local/lib/kubelet-credential-providers"
#define PROVIDER_CONFIG  "/etc/kubernetes/credential-provider.yaml"

struct provider_settings {
    const char *folder;  /* where the node's files are; NULL: this machine */
    const char *bin_dir; /* both are paths on the node */
    const char *config;
    const char *credentials;   /* path on the node of Google's credentials; NULL: none */
    const char *pod_audience;  /* of the tokens of pods that opted in; NULL: pods have none */
    const char *const *images; /* patterns of images, as in matchImages */
    size_t image_count;        /* 0: Google's registries */
};

struct provider_result {
    bool wrote_program; /* false: it was right already */
    bool wrote_config;
};

/* False: ERROR_INVALID when the launcher or the configuration is somebody else's; nothing was
 * changed then. After any other error, what counted before still counts. */
bool provider_install(const struct provider_settings *settings, struct provider_result *result,
                      struct error *error);

#endif
