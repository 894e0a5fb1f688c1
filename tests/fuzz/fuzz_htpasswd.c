/* htpasswd files: a file is read whole or refused, and each of its names is found with a hash that
 * fits. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "base/cleanup.h"
#include "fuzz.h"
#include "login/htpasswd.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    char path[64], hash[HTPASSWD_HASH_SIZE];
    struct htpasswd htpasswd;
    struct error error = {0};
    cleanup_close int fd = memfd_create("htpasswd", MFD_CLOEXEC);
    MUST(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!htpasswd_read(path, &htpasswd, NULL, &error)) {
        MUST(error.kind != ERROR_NONE && htpasswd.count == 0 && !htpasswd.bytes);
        return 0;
    }
    for (size_t i = 0; i < htpasswd.count && i < 100; i++) {
        const struct htpasswd_user *user = &htpasswd.users[i];
        MUST(*user->name && strlen(user->name) <= HTPASSWD_NAME_LIMIT);
        MUST(htpasswd_find(&htpasswd, user->name, i, hash) && *hash);
    }
    MUST(!htpasswd_find(&htpasswd, "no:such:user", length, hash));
    htpasswd_finish(&htpasswd);
    return 0;
}
