/* The hosts of Google's registries: recognising them, and the list of them. */
#include <ctype.h>
#include <string.h>
#include "auth/google/endpoint.h"
#include "auth/google/google.h"

bool google_host_is_registry(struct text host) {
    return text_is(host, "gcr.io") || endpoint_label_between(host, "", ".gcr.io") ||
           endpoint_label_between(host, "", "-docker.pkg.dev") ||
           endpoint_label_between(host, "docker.", ".rep.pkg.dev");
}

bool google_host_of(struct text server_url, char *out, size_t size) {
    struct text host = server_url, rest;
    for (size_t i = 0; i + 2 < host.length; i++) {
        if (memcmp(host.at + i, "://", 3) == 0) {
            host = text_from(host, i + 3);
            break;
        }
    }
    host = text_cut(host, '/', &rest);
    if (text_ends(host, ":443"))
        host.length -= strlen(":443");
    if (host.length == 0 || !text_copy(host, out, size))
        return false;
    for (char *c = out; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return true;
}

/* A region that has both the plain host and a regional endpoint. */
#define REGION(name) name "-docker.pkg.dev", "docker." name ".rep.pkg.dev"

const char *const *google_registry_hosts(void) {
    static const char *const hosts[] = {
        "gcr.io",
        "us.gcr.io",
        "eu.gcr.io",
        "asia.gcr.io",
        "marketplace.gcr.io",
        "asia-docker.pkg.dev",
        "europe-docker.pkg.dev",
        "us-docker.pkg.dev",
        REGION("africa-south1"),
        REGION("asia-east1"),
        REGION("asia-east2"),
        REGION("asia-northeast1"),
        REGION("asia-northeast2"),
        REGION("asia-northeast3"),
        REGION("asia-south1"),
        REGION("asia-south2"),
        REGION("asia-southeast1"),
        REGION("asia-southeast2"),
        "asia-southeast3-docker.pkg.dev",
        REGION("australia-southeast1"),
        REGION("australia-southeast2"),
        REGION("europe-central2"),
        REGION("europe-north1"),
        "europe-north2-docker.pkg.dev",
        REGION("europe-southwest1"),
        REGION("europe-west1"),
        REGION("europe-west2"),
        REGION("europe-west3"),
        REGION("europe-west4"),
        REGION("europe-west6"),
        REGION("europe-west8"),
        REGION("europe-west9"),
        REGION("europe-west10"),
        REGION("europe-west12"),
        REGION("me-central1"),
        REGION("me-central2"),
        REGION("me-west1"),
        REGION("northamerica-northeast1"),
        REGION("northamerica-northeast2"),
        "northamerica-south1-docker.pkg.dev",
        REGION("southamerica-east1"),
        REGION("southamerica-west1"),
        REGION("us-central1"),
        REGION("us-east1"),
        REGION("us-east4"),
        REGION("us-east5"),
        REGION("us-south1"),
        REGION("us-west1"),
        REGION("us-west2"),
        REGION("us-west3"),
        REGION("us-west4"),
        REGION("us-west8"),
        NULL,
    };
    return hosts;
}

#undef REGION
