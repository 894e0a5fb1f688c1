/* Docker's config.json: which helper or credential it holds for a host. Pure. */
#ifndef AUTH_DOCKER_CONFIG_H
#define AUTH_DOCKER_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "auth/credential.h"
#include "base/error.h"

enum { DOCKER_CONFIG_LIMIT = 4 << 20, DOCKER_HELPER_NAME_SIZE = 64 };

#define DOCKER_HUB_KEY "https://index.docker.io/v1/" /* Docker Hub's name in every config.json */

struct docker_config_entry {
    char helper[DOCKER_HELPER_NAME_SIZE]; /* ask docker-credential-NAME; "": none */
    bool helper_decides;                  /* from credHelpers: if it has nothing, so has `auths` */
    struct credential credential;         /* from `auths`; ANONYMOUS: none */
};

/*
 * Looks `host` up as Docker does: in credHelpers, then credsStore and auths. Keys of `auths` may be
 * old URLs ("https://HOST/v1/"). A key with a path and without a scheme is for that namespace, and
 * not for the host. Docker Hub is found under any of its names. False (ERROR_INVALID):
 * the config is no JSON object, or the entry of this host is broken; broken entries of other hosts
 * do not matter. The caller calls docker_config_entry_finish() either way.
 */
bool docker_config_find(const void *bytes, size_t length, const char *host,
                        struct docker_config_entry *out, struct error *error);
void docker_config_entry_finish(struct docker_config_entry *entry);

/*
 * Adds the entries of `auths` that are for a part of the host's repositories: keys with a path and
 * without a scheme ("quay.io/org"), as podman writes them. None, if credHelpers names a helper for
 * the host, because that decides for all of the host, or if docker_config_find() fails for every
 * host.
 */
void docker_config_find_namespaces(const void *bytes, size_t length, const char *host,
                                   struct credential_namespaces *out);

#define cleanup_docker_config_entry __attribute__((cleanup(docker_config_entry_finish)))

/* Whether the config names a helper for any host. True also for a config that is no JSON object. */
bool docker_config_has_helpers(const void *bytes, size_t length);

/* Reads what a helper's `get` printed on success: {"Username":…,"Secret":…}. */
bool docker_config_read_helper(const void *bytes, size_t length, struct credential *out,
                               struct error *error);

/* "docker-credential-NAME" may be run: letters, digits, dot, dash and underscore only. */
bool docker_config_is_helper_name(const char *name);

/* Whether `host` is one of Docker Hub's names. */
bool docker_config_is_hub(const char *host);

#endif
