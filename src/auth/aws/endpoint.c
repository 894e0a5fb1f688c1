/* Where AWS's services of credentials are asked. */
#include "auth/aws/endpoint.h"

#include <stdio.h>
#include <string.h>
#include "client/address.h"

/* How many bytes of a URL an error shows: a query may hold a secret, and so may what stands in
 * front of the host. */
static int shown_length(const char *url) {
    size_t length = strchr(url, '@') ? 0 : strcspn(url, "?#");
    return length > 160 ? 160 : (int)length;
}

static bool is_one_of(const char *host, const char *const *hosts) {
    for (; *hosts; hosts++) {
        if (strcmp(host, *hosts) == 0)
            return true;
    }
    return false;
}

bool aws_endpoint_read(const char *url, const char *name, const char *const *hosts,
                       struct origin *origin, bool *is_local, struct error *error) {
    for (const char *c = url; *c; c++) {
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f || *c == '\\')
            return error_set(error, ERROR_INVALID, "%s is no URL", name);
    }
    if (!origin_parse(url, origin))
        return error_set(error, ERROR_INVALID, "%s %.*s is not an http or https URL", name,
                         shown_length(url), url);
    *is_local =
        address_classify_host(origin->host) == ADDRESS_LOOPBACK || is_one_of(origin->host, hosts);
    if (!origin->https && !*is_local)
        return error_set(
            error, ERROR_INVALID,
            "%s %.*s: http is allowed for this machine and the metadata services only; "
            "write https",
            name, shown_length(url), url);
    return true;
}

bool aws_endpoint_base(const char *url, const char *name, const char *const *hosts,
                       char base[static AWS_BASE_SIZE], bool *is_local, struct error *error) {
    struct origin origin;
    char host[ORIGIN_HOST_SIZE];
    if (!aws_endpoint_read(url, name, hosts, &origin, is_local, error))
        return false;
    const char *rest = strstr(url, "://") + 3;
    rest += strcspn(rest, "/?#");
    if (*rest && strcmp(rest, "/") != 0)
        return error_set(error, ERROR_INVALID, "%s %.*s has more than scheme, host and port", name,
                         shown_length(url), url);
    snprintf(base, AWS_BASE_SIZE, "http%s://%s", origin.https ? "s" : "",
             origin_host(&origin, host));
    return true;
}
