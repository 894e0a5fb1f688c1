/* A kubeconfig of two files, and what a credential program prints: whatever is accepted is whole.
 */
#include <string.h>
#include "fuzz.h"
#include "kubernetes/exec_credential.h"
#include "kubernetes/kubeconfig.h"

static void read_config(struct text one, struct text other) {
    const struct kubeconfig_file files[] = {{"/a/one", one}, {"other", other}};
    struct kubeconfig config;
    if (!kubeconfig_read(files, 2, &config, NULL))
        return;
    MUST(config.context && config.user && kubeconfig_check_server(config.server, NULL));
    MUST((config.certificate_file || config.certificate_data) ==
         (config.key_file || config.key_data));
    MUST(!config.username == !config.password);
    MUST(!config.exec.command || (config.exec.arguments[0] && config.exec.variables));
    kubeconfig_wipe(&config);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct exec_credential credential;
    struct text all = {(const char *)bytes, length};
    const char *middle = memmem(bytes, length, "\n---\n", 5);
    size_t first = middle ? (size_t)(middle - all.at) : length;
    read_config((struct text){all.at, first}, text_from(all, middle ? first + 5 : length));
    if (exec_credential_read(all, "client.authentication.k8s.io/v1", &credential, NULL)) {
        MUST(credential.token || credential.certificate);
        MUST(!credential.certificate == !credential.key);
        exec_credential_wipe(&credential);
    }
    return 0;
}
