/* Docker's config.json, and a helper's output: credentials are complete, and the name of a helper
 * program is a plain file name. */
#include <string.h>
#include "auth/docker_config.h"
#include "fuzz.h"

static void check_credential(const struct credential *credential) {
    MUST((credential->kind == CREDENTIAL_BASIC) == (credential->username != NULL));
    MUST((credential->kind == CREDENTIAL_ANONYMOUS) == (credential->secret == NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static const char *const hosts[] = {"docker.io", "ghcr.io", "localhost:5000"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct docker_config_entry entry;
        if (docker_config_find(bytes, length, hosts[i], &entry, NULL)) {
            MUST(entry.helper[0] == '\0' || docker_config_is_helper_name(entry.helper));
            check_credential(&entry.credential);
        }
        docker_config_entry_finish(&entry);
        struct credential_namespaces namespaces = {0};
        docker_config_find_namespaces(bytes, length, hosts[i], &namespaces);
        for (size_t at = 0; at < namespaces.count; at++) {
            MUST(namespaces.at[at].path[0] != '\0');
            MUST(credential_namespaces_find(&namespaces, namespaces.at[at].path) != NULL);
            if (namespaces.at[at].problem.kind == ERROR_NONE)
                check_credential(&namespaces.at[at].credential);
        }
        credential_namespaces_wipe(&namespaces);
    }
    docker_config_has_helpers(bytes, length);
    struct credential credential = {0};
    if (docker_config_read_helper(bytes, length, &credential, NULL))
        check_credential(&credential);
    credential_wipe(&credential);
    return 0;
}
