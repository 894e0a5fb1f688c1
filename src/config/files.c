/* Looks at the files that a configuration names. */
#include "config/files.h"

#include <pthread.h>
#include "base/cleanup.h"
#include "base/text.h"

static struct file_reader *files;
static pthread_once_t files_once = PTHREAD_ONCE_INIT;

static void make_files(void) {
    files = file_reader_new();
}

struct file_reader *config_files(void) {
    pthread_once(&files_once, make_files);
    return files;
}

bool config_look(const char *path, struct stat *status, struct error *error) {
    if (!config_files())
        return error_set(error, ERROR_MEMORY, "out of memory");
    return file_reader_look(files, path, CONFIG_FILE_PATIENCE_MS, status, error);
}

bool config_measure(const char *path, struct statvfs *space, struct error *error) {
    if (!config_files())
        return error_set(error, ERROR_MEMORY, "out of memory");
    return file_reader_space(files, path, CONFIG_FILE_PATIENCE_MS, space, error);
}

char *config_read(const char *path, size_t limit, size_t *length, struct error *error) {
    if (!config_files()) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    return file_reader_read(files, path, limit, CONFIG_FILE_PATIENCE_MS, length, NULL, error);
}

bool config_read_htpasswd(const char *path, struct htpasswd *out, struct error *error) {
    size_t length;
    *out = (struct htpasswd){0};
    char *bytes = config_read(path, HTPASSWD_SIZE_LIMIT, &length, error);
    if (!bytes)
        return error_wrap(error, "htpasswd file %s", path);
    return htpasswd_parse(bytes, length, path, out, error);
}

bool config_read_jwks(const char *path, struct jwks *out, struct error *error) {
    struct text bytes = {0};
    *out = (struct jwks){0};
    cleanup_free char *text = config_read(path, JWKS_SIZE_LIMIT, &bytes.length, error);
    bytes.at = text;
    return (text && jwks_parse(bytes, out, error)) || error_wrap(error, "JWK set %s", path);
}
