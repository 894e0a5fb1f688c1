/* A location's credential, and HTTP Basic made of it (RFC 7617 §2). */
#include "upstream/credential.h"

#include <stdio.h>
#include <string.h>
#include "base/base64.h"
#include "base/buffer.h"
#include "base/secret.h"

/* The repository as the credential's owner knows it: the upstream's own credentials go by the name
 * that clients use, without the prefix that the location has in front. */
static const char *known_as(const struct location *location, const char *repository) {
    size_t length = location->prefix ? strlen(location->prefix) : 0;
    bool is_prefixed = location->has_client_names && length &&
                       strncmp(repository, location->prefix, length) == 0 &&
                       repository[length] == '/';
    return is_prefixed ? repository + length + 1 : repository;
}

bool location_credential(struct location *location, const char *repository, bool renew,
                         int64_t deadline_ms, struct credential *out, struct error *error) {
    char key[ORIGIN_HOST_SIZE + 2 * NAME_LIMIT + 2];
    *out = (struct credential){0};
    if (!location->credentials)
        return true;
    snprintf(key, sizeof key, "%s/%s", location->credential_host, known_as(location, repository));
    if (credential_source_get(location->credentials, key, renew, deadline_ms, out, error))
        return true;
    /* Neither the client's fault nor upstream's verdict: tarn's own source is broken. */
    if (error->kind != ERROR_TIMEOUT && error->kind != ERROR_MEMORY &&
        error->kind != ERROR_RATE_LIMITED && error->kind != ERROR_BUSY)
        error->kind = ERROR_UNAVAILABLE;
    /* The reason is in the log. It names files of this machine, so clients do not get it. */
    const struct error reason = *error;
    const char *what =
        reason.kind == ERROR_TIMEOUT ? "no answer in time" : "not available, as tarn's log says";
    const char *name = credential_source_name(location->credentials);
    bool helper = text_starts(text_of(name), "helper ");
    error_set(error, reason.kind, "credentials for %s (%s%s): %s", location->credential_host,
              helper ? "docker-credential-" : "", helper ? name + strlen("helper ") : name, what);
    error->retry_after_s = reason.retry_after_s;
    error->lasting = error->kind == ERROR_UNAVAILABLE; /* the source has tried again itself */
    return false;
}

enum { AWAITED_S = 2 }; /* pause before a request is tried again for which credentials may come */

enum second_look location_look_again(struct location *location, const char *repository, int status,
                                     int64_t deadline_ms, struct error *error) {
    cleanup_credential struct credential credential = {0};
    if (!location->credentials)
        return LOOK_NOTHING;
    if (!location_credential(location, repository, true, deadline_ms, &credential, error))
        return LOOK_FAILED;
    if (credential.kind != CREDENTIAL_ANONYMOUS)
        return LOOK_FOUND;
    if (!credential.provisional)
        return LOOK_NOTHING;
    error_set(error, ERROR_UNAVAILABLE,
              "%d to a request without credentials, and it cannot be told yet whether this machine "
              "has any for %s (%s): try again",
              status, location->credential_host, credential_source_name(location->credentials));
    error->retry_after_s = AWAITED_S;
    return LOOK_FAILED;
}

char *credential_basic_header(const struct credential *credential) {
    cleanup_secret_buffer struct buffer pair = {0};
    buffer_printf(&pair, "%s:%s", credential->username ? credential->username : "",
                  credential->secret ? credential->secret : "");
    cleanup_secret char *encoded = pair.failed ? NULL : base64_encode(pair.bytes, pair.length);
    char *header = NULL;
    if (encoded && asprintf(&header, "Authorization: Basic %s", encoded) < 0)
        header = NULL;
    return header;
}
