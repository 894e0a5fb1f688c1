/* The metadata server: whether there is one, its token, and its account's address. */
#include "auth/google/metadata.h"

#include <stdio.h>
#include <string.h>
#include "auth/google/request.h"
#include "auth/google/token_response.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/secret.h"

enum { PROBES = 2, PROBE_MS = 1000, TIMEOUT_MS = 5000, ACCOUNT_TIMEOUT_MS = 2000 };

#define ACCOUNT_PATH "/computeMetadata/v1/instance/service-accounts/default/"

static const char *const ask_flavor[] = {"Metadata-Flavor: Google", NULL};

/* A server that is not a metadata server of Google does not send this field. */
enum { FLAVOR_SIZE = 16 };
#define WANT_FLAVOR(out)                                                                           \
    {                                                                                              \
        .fields = (const struct client_field[]){{"Metadata-Flavor", (out), FLAVOR_SIZE}},          \
        .count = 1,                                                                                \
    }

static bool is_google(const char flavor[static FLAVOR_SIZE]) {
    return strcmp(flavor, "Google") == 0;
}

/* Where the firmware names the machine's maker, no request is needed. */
static bool firmware_is_google(void) {
    cleanup_free char *name =
        file_read_small("/sys/class/dmi/id/product_name", 255, FILE_REGULAR, NULL, NULL, NULL);
    return name && text_starts(text_of(name), "Google");
}

enum metadata_presence metadata_look(struct client *client) {
    if (firmware_is_google())
        return METADATA_THERE;
    char flavor[FLAVOR_SIZE] = "";
    struct client_request probe = {
        .method = "GET",
        .url = "http://" METADATA_DEFAULT_HOST "/",
        .headers = ask_flavor,
        .wanted = WANT_FLAVOR(flavor),
        .no_proxy = true,
        .connect_timeout_ms = PROBE_MS,
        .total_timeout_ms = PROBE_MS,
        .body_limit = 65536,
    };
    enum metadata_presence found = METADATA_SILENT;
    for (unsigned i = 0; i < PROBES && found == METADATA_SILENT; i++) {
        struct client_response response = {0};
        if (client_request(client, &probe, &response, NULL))
            found = is_google(flavor) ? METADATA_THERE
                    /* A proxy in front of a server that is not there yet says so with 5xx. */
                    : response.status >= 500 ? METADATA_SILENT
                                             : METADATA_ABSENT;
        client_response_wipe(&response);
    }
    return found;
}

/* A failure is not reported, because `whoami` can say everything else without the address. */
static void read_account(struct client *client, const char *host, char *out, size_t size) {
    char url[METADATA_HOST_SIZE + 128], flavor[FLAVOR_SIZE] = "";
    snprintf(url, sizeof url, "http://%s" ACCOUNT_PATH "email", host);
    struct client_request http = {.method = "GET",
                                  .url = url,
                                  .headers = ask_flavor,
                                  .wanted = WANT_FLAVOR(flavor),
                                  .no_proxy = true,
                                  .connect_timeout_ms = ACCOUNT_TIMEOUT_MS,
                                  .total_timeout_ms = ACCOUNT_TIMEOUT_MS,
                                  .body_limit = 4096};
    struct client_response response = {0};
    if (client_request(client, &http, &response, NULL) && response.status == 200 &&
        is_google(flavor)) {
        struct text rest;
        struct text line =
            text_cut((struct text){response.body.bytes, response.body.length}, '\n', &rest);
        bool printable = line.length > 0;
        for (size_t i = 0; i < line.length; i++)
            printable = printable && line.at[i] > ' ' && line.at[i] < 0x7f;
        if (printable)
            text_copy(line, out, size);
    }
    client_response_wipe(&response);
}

bool metadata_token(struct client *client, const char *host, const char *scope, bool account,
                    struct google_token *out, struct error *error) {
    char flavor[FLAVOR_SIZE] = "";
    cleanup_buffer struct buffer url = {0};
    buffer_printf(&url, "http://%s" ACCOUNT_PATH "token", host);
    if (scope) {
        /* GKE and Cloud Run use it; on a virtual machine the instance's own scopes apply. */
        cleanup_buffer struct buffer list = {0}, query = {0};
        buffer_append_string(&list, scope);
        for (char *c = list.bytes; !list.failed && *c; c++)
            *c = *c == ' ' ? ',' : *c;
        google_form_append(&query, "scopes", list.failed ? "" : list.bytes);
        buffer_printf(&url, "?%s", query.failed ? "" : query.bytes);
    }
    if (url.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    struct google_request request = {
        .client = client,
        .http = {.method = "GET",
                 .url = url.bytes,
                 .headers = ask_flavor,
                 .wanted = WANT_FLAVOR(flavor),
                 .no_proxy = true,
                 .connect_timeout_ms = TIMEOUT_MS,
                 .total_timeout_ms = TIMEOUT_MS},
        .attempts = GOOGLE_METADATA_ATTEMPTS,
    };
    struct client_response response = {0};
    int64_t asked_ms = clock_ms();
    bool ok = google_request_perform(&request, &response, error);
    /* A 404 counts only if a metadata server sent it. */
    bool answered = ok || error->kind == ERROR_NOT_FOUND;
    if (answered && !is_google(flavor))
        ok = error_set(error, ERROR_INVALID,
                       "the server at %s is not a metadata server of Google (its response has no "
                       "Metadata-Flavor: Google)",
                       host);
    if (ok && !token_response_read(&response.body, asked_ms, out, error))
        ok = error_wrap(error, "token from %s", host);
    client_response_wipe(&response);
    if (ok && account)
        read_account(client, host, out->account, sizeof out->account);
    return ok;
}
