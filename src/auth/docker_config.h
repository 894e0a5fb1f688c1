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

struct docker_entry {
    char helper[DOCKER_HELPER_NAME_SIZE]; /* ask docker-credential-NAME; "": none */
    bool helper_decides;                  /* from credHelpers: no `auths` when it has nothing */
    struct credential credential;         /* from `auths`; ANONYMOUS: none */
};

/*
 * What the config says about `host`, as Docker looks it up: credHelpers, then credsStore, and
 * auths. Keys of `auths` may be URLs of old ("https://HOST/v1/"). Docker Hub is found under any of
 * its names. False (ERROR_INVALID): no JSON object, or an entry that is broken; an entry of another
 * host may be as broken as it likes. docker_entry_finish() is owed either way.
 */
bool docker_config_find(const void *bytes, size_t length, const char *host,
                        struct docker_entry *out, struct error *error);
void docker_entry_finish(struct docker_entry *entry);

/* Whether it names a helper for any host; a config that cannot be read may. */
bool docker_config_has_helpers(const void *bytes, size_t length);

/* What a helper's `get` printed on success: {"Username":…,"Secret":…}. */
bool docker_helper_read(const void *bytes, size_t length, struct credential *out,
                        struct error *error);

/* "docker-credential-NAME" may be run: letters, digits, dot, dash and underscore only. */
bool docker_helper_name_ok(const char *name);

bool docker_host_is_hub(const char *host);

#endif
