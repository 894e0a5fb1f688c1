/* Reads credential files and their members. */
#include "auth/google/document.h"

#include <string.h>
#include "auth/google/endpoint.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/secret.h"

enum { DOCUMENT_LIMIT = 256 * 1024 };

json_t *document_read(const char *path, bool *others_read, struct error *error) {
    struct stat status;
    cleanup_secret char *bytes =
        file_read_small(path, DOCUMENT_LIMIT, FILE_REGULAR | FILE_TEXT, NULL, &status, error);
    if (!bytes)
        return NULL;
    if (others_read)
        *others_read = status.st_mode & S_IROTH;
    cleanup_secret_json json_t *json = bounded_json_load(bytes, strlen(bytes), NULL);
    /* Without the parser's text, because it quotes the file. */
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
    error_set(error, ERROR_INVALID, "%s is missing or not a string", key);
    return NULL;
}

bool document_optional(const json_t *document, const char *key, const char *otherwise,
                       const char **out, struct error *error) {
    const json_t *value = json_object_get(document, key);
    *out = otherwise;
    if (!value || json_is_null(value))
        return true;
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return error_set(error, ERROR_INVALID, "%s is not a string", key);
    if (json_string_length(value))
        *out = json_string_value(value);
    return true;
}

bool document_quota_project(const json_t *document, struct google_token *out, struct error *error) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyz0123456789.:-"; /* the name is sent in a header */
    const char *environment = getenv("GOOGLE_CLOUD_QUOTA_PROJECT"), *project;
    if (!document_optional(document, "quota_project_id", NULL, &project, error))
        return false;
    if (environment && *environment)
        project = environment;
    if (!project)
        return true;
    if (strspn(project, allowed) != strlen(project) ||
        !text_copy(text_of(project), out->quota_project, sizeof out->quota_project))
        return error_set(error, ERROR_INVALID, "the quota project is not the name of a project");
    return true;
}

bool document_universe(const json_t *document, const char **out, struct error *error) {
    if (!document_optional(document, "universe_domain", GOOGLE_UNIVERSE, out, error))
        return false;
    return endpoint_universe_ok(*out) ||
           error_set(error, ERROR_INVALID, "universe_domain is no domain name");
}
