/* Credential files: reading them, their members, and which kind they are. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include "auth/google/endpoint.h"
#include "auth/google/kinds.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/secret.h"

enum { DOCUMENT_LIMIT = 256 * 1024, DEPTH_LIMIT = 3 };

char *file_read(const char *path, size_t limit, bool *others_read, struct error *error) {
    /* Not blocking: a pipe in the file's place must not hold us. */
    cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0) {
        error_set_errno(error, errno, "cannot be read");
        return NULL;
    }
    if (!S_ISREG(status.st_mode)) {
        error_set(error, ERROR_INVALID, "is no regular file");
        return NULL;
    }
    if (others_read)
        *others_read = status.st_mode & S_IROTH;
    cleanup_secret char *bytes = calloc(1, limit + 2);
    size_t length = 0;
    ssize_t got = bytes ? 1 : -1;
    while (got > 0 && length <= limit) {
        got = read(fd, bytes + length, limit + 1 - length);
        length += got > 0 ? (size_t)got : 0;
    }
    if (got < 0)
        error_set_errno(error, errno, "cannot be read");
    else if (length > limit)
        error_set(error, ERROR_INVALID, "is longer than %zu bytes", limit);
    else if (strlen(bytes) != length)
        error_set(error, ERROR_INVALID, "holds a NUL byte");
    else
        return take(bytes);
    return NULL;
}

json_t *document_read(const char *path, bool *others_read, struct error *error) {
    cleanup_secret char *bytes = file_read(path, DOCUMENT_LIMIT, others_read, error);
    if (!bytes)
        return NULL;
    cleanup_secret_json json_t *json = bounded_json_load(bytes, strlen(bytes), NULL);
    /* Without the parser's words: they quote the file. */
    if (!json)
        error_set(error, ERROR_INVALID, "is no JSON");
    else if (!json_is_object(json))
        error_set(error, ERROR_INVALID, "is no JSON object");
    else
        return take(json);
    return NULL;
}

const char *document_string(const json_t *document, const char *key, struct error *error) {
    const json_t *member = json_object_get(document, key);
    const char *value = json_string_value(member);
    if (value && *value && strlen(value) == json_string_length(member))
        return value;
    error_set(error, ERROR_INVALID, "%s is missing or no text", key);
    return NULL;
}

bool document_optional(const json_t *document, const char *key, const char *otherwise,
                       const char **out, struct error *error) {
    const json_t *value = json_object_get(document, key);
    *out = otherwise;
    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return error_set(error, ERROR_INVALID, "%s is no text", key);
    if (json_string_length(value))
        *out = json_string_value(value);
    return true;
}

bool document_quota_project(const json_t *document, struct google_token *out, struct error *error) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyz0123456789.:-"; /* it is for a header */
    const char *environment = getenv("GOOGLE_CLOUD_QUOTA_PROJECT"), *project;
    if (!document_optional(document, "quota_project_id", NULL, &project, error))
        return false;
    if (environment && *environment)
        project = environment;
    if (!project)
        return true;
    if (strspn(project, allowed) != strlen(project) ||
        !text_copy(text_of(project), out->quota_project, sizeof out->quota_project))
        return error_set(error, ERROR_INVALID, "the quota project is no project's name");
    return true;
}

bool document_universe(const json_t *document, const char **out, struct error *error) {
    if (!document_optional(document, "universe_domain", GOOGLE_UNIVERSE, out, error))
        return false;
    return endpoint_universe_ok(*out) ||
           error_set(error, ERROR_INVALID, "universe_domain is no domain name");
}

bool document_token(const json_t *document, const struct ask *ask, struct google_token *out,
                    struct error *error) {
    static const struct {
        const char *type;
        bool (*token)(const json_t *document, const struct ask *ask, struct google_token *out,
                      struct error *error);
    } kinds[] = {
        {"service_account", service_account_token},
        {"authorized_user", authorized_user_token},
        {"external_account", external_account_token},
        {"impersonated_service_account", impersonated_account_token},
    };
    const char *type = document_string(document, "type", error);
    if (!type)
        return error_wrap(error, "no credential file of Google's");
    if (ask->depth >= DEPTH_LIMIT)
        return error_set(error, ERROR_INVALID, "source_credentials are nested too deeply");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(type, kinds[i].type) != 0)
            continue;
        if (ask->depth == 0)
            text_copy(text_of(type), out->kind, sizeof out->kind);
        return kinds[i].token(document, ask, out, error);
    }
    return error_set(error, ERROR_UNSUPPORTED,
                     "type \"%.60s\" is not supported; service_account, authorized_user, "
                     "external_account and impersonated_service_account are",
                     type);
}
