/* Asks the REST API of Artifact Registry for the images of a repository. */
#include "catalog/artifact_registry.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/google/google.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/secret.h"
#include "catalog/artifact_page.h"
#include "client/origin.h"
#include "client/request.h"
#include "client/retry.h"

enum {
    CONNECT_MS = 10000,
    PAGE_MS = 60000,  /* for a whole page */
    STALL_MS = 20000, /* silence in its middle */
    ERROR_BYTES = 64 << 10,
    BACKOFF_STEPS = 3,   /* the first wait is of about a second: the API's 503s last for seconds */
    JITTER_FIRST_S = 15, /* after a 429 that names no time: at most this, and then twice as long */
};

struct artifact_registry {
    struct client *client;
    char *endpoint; /* without a slash at its end; NULL: Google's own */
    /* The API has refused the filter by name, which not every version of it knows. */
    atomic_bool refuses_filter;
};

/* ---- life ---- */

struct artifact_registry *artifact_registry_new(struct client *client, const char *endpoint) {
    struct artifact_registry *registry = calloc(1, sizeof *registry);
    struct text base = text_of(endpoint);
    if (!registry)
        return NULL;
    registry->client = client;
    while (text_ends(base, "/"))
        base.length--;
    if (base.length && !(registry->endpoint = text_dup(base))) {
        free(registry);
        return NULL;
    }
    return registry;
}

void artifact_registry_free(struct artifact_registry *registry) {
    if (registry)
        free(registry->endpoint);
    free(registry);
}

/* ---- what is asked ---- */

/* What follows /v2/ in a URL. */
static struct text prefix_in(const char *url) {
    const char *at = url ? strstr(url, "/v2/") : NULL;
    struct text prefix = text_of(at ? at + strlen("/v2/") : NULL);
    while (text_ends(prefix, "/"))
        prefix.length--;
    return prefix;
}

bool artifact_registry_name(const struct repository *repository, struct artifact_name *out) {
    const struct upstream_settings *settings = upstream_settings(repository->upstream);
    struct text prefix = settings->prefix ? text_of(settings->prefix) : prefix_in(settings->url);
    struct text host = text_of(repository->name.host);
    struct origin origin;
    char path[2 * NAME_LIMIT + 2];
    if (!artifact_name_is_host(host)) {
        if (!settings->url || !origin_parse(settings->url, &origin) || !origin.https)
            return false;
        host = text_of(origin.host);
    }
    int length = snprintf(path, sizeof path, "%.*s%s%s", TEXT_PRINT(prefix),
                          prefix.length ? "/" : "", repository->name.path);
    return length < (int)sizeof path && artifact_name_parse(host, text_of(path), out);
}

bool artifact_registry_accepts(const struct credential *credential) {
    static const char *const users[] = {GOOGLE_USERNAME, "_token", "_dcgcloud_token"};
    if (credential->kind != CREDENTIAL_BASIC || !credential->username)
        return false;
    for (size_t i = 0; i < sizeof users / sizeof *users; i++) {
        if (strcmp(credential->username, users[i]) == 0)
            return true;
    }
    const struct text user = text_of(credential->username);
    return text_starts(user, "_dcgcr_") && text_ends(user, "_token");
}

/* ---- one list ---- */

struct listing {
    struct artifact_registry *registry;
    const struct catalog_question *question;
    const struct artifact_name *name;
    const struct credential *credential;
    struct catalog_list *list;
    bool filtered;    /* the requests carry the filter */
    const char *base; /* the API's URL, without a slash at its end */
    struct address_rule addresses;
    const char *headers[4]; /* NULL-terminated */
    struct buffer body;     /* of the response to the last request */
    int status, retry_after_s;
    char *tokens[ARTIFACT_REGISTRY_PAGES_LIMIT]; /* of the pages after the first; owned */
    size_t token_count;
};

static bool refuse_lasting(struct error *error, const char *why) {
    error_set(error, ERROR_UNAVAILABLE, "%s", why);
    error->lasting = true;
    return false;
}

/* ---- one attempt ---- */

static enum client_verdict on_head(void *context, const struct client_response *response,
                                   struct error *error) {
    struct listing *listing = context;
    (void)error;
    listing->status = response->status;
    listing->body.limit =
        response->status == 200 ? (size_t)ARTIFACT_REGISTRY_PAGE_BYTES : (size_t)ERROR_BYTES;
    return CLIENT_STREAM;
}

static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    struct listing *listing = context;
    if (buffer_append(&listing->body, bytes, length))
        return true;
    if (listing->body.length + length <= listing->body.limit)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (listing->status != 200) /* what has come of it is enough */
        return true;
    error_set(error, ERROR_UNAVAILABLE, "a page is longer than %d MiB",
              ARTIFACT_REGISTRY_PAGE_BYTES >> 20);
    error->lasting = true;
    return false;
}

/* True: a whole response is here, whatever its status. */
static bool attempt(struct listing *listing, const char *url, struct error *error) {
    const struct client_sink sink = {.context = listing, .on_head = on_head, .on_bytes = on_bytes};
    const struct client_request request = {
        .method = "GET",
        .url = url,
        .headers = listing->headers,
        .addresses = &listing->addresses,
        .connect_timeout_ms = CONNECT_MS,
        .total_timeout_ms = PAGE_MS,
        .stall_timeout_ms = STALL_MS,
        .bounds_body = true,
        .cancel = listing->question->cancel,
    };
    cleanup_client_response struct client_response response = {0};
    buffer_clear(&listing->body);
    listing->status = 0;
    bool ok = client_stream(listing->registry->client, &request, &sink, &response, error);
    listing->retry_after_s = ok ? response.retry_after_s : 0;
    return ok;
}

/* ---- trying again ---- */

static bool is_passing(const struct listing *listing, bool answered, const struct error *error) {
    static const int statuses[] = {408, 429, 500, 502, 503, 504};
    if (!answered)
        return retry_decide(retry_classify(error), PHASE_REQUEST, 0) == RETRY_LATER;
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        if (listing->status == statuses[i])
            return true;
    }
    return false;
}

/* How long to wait before the next attempt, in milliseconds. The quota is one of each minute, so
 * that a 429 may take as long to pass. */
static int64_t wait_ms(const struct listing *listing, unsigned failures) {
    if (listing->retry_after_s)
        return (int64_t)listing->retry_after_s * 1000;
    if (listing->status != 429)
        return retry_backoff_ms(failures + BACKOFF_STEPS);
    unsigned most_s = (unsigned)JITTER_FIRST_S << (failures - 1);
    if (most_s > ARTIFACT_REGISTRY_PATIENCE_S)
        most_s = ARTIFACT_REGISTRY_PATIENCE_S;
    return clock_jitter(most_s * 1000);
}

/* Waits before the next attempt, if there is to be one. */
static bool may_try_again(const struct listing *listing, unsigned failures) {
    const struct catalog_question *question = listing->question;
    if (failures >= ARTIFACT_REGISTRY_ATTEMPTS ||
        listing->retry_after_s > ARTIFACT_REGISTRY_PATIENCE_S)
        return false;
    int64_t until_ms = clock_ms() + wait_ms(listing, failures);
    return (!question->deadline_ms || until_ms < question->deadline_ms) &&
           cancel_sleep(question->cancel, until_ms, NULL);
}

/* ---- refusals ---- */

/* Overwrites what looks like the secret: each run that begins as the secret does. */
static void hide_secret(char *text, const char *secret) {
    enum { BEGINNING = 8 };
    char beginning[BEGINNING + 1];
    snprintf(beginning, sizeof beginning, "%s", secret);
    for (char *at = text; *beginning && (at = strstr(at, beginning));) {
        size_t length = strcspn(at, " \"'<>,;");
        memset(at, '*', length);
        at += length;
    }
}

/* What to do about a refusal; "": that is not known. */
static void write_hint(const struct listing *listing, const struct artifact_failure *failure,
                       char *out, size_t size) {
    const char *quota = listing->credential->quota_project;
    out[0] = '\0';
    if (strcmp(failure->reason, "SERVICE_DISABLED") == 0)
        snprintf(out, size,
                 "enable the API: gcloud services enable artifactregistry.googleapis.com "
                 "--project=%s",
                 failure->consumer[0] ? failure->consumer
                 : quota[0]           ? quota
                                      : listing->name->project);
    else if (strcmp(failure->reason, "USER_PROJECT_DENIED") == 0)
        snprintf(out, size, "grant roles/serviceusage.serviceUsageConsumer on the quota project %s",
                 quota[0] ? quota : "of the credentials");
    else if (strcmp(failure->reason, "ACCESS_TOKEN_SCOPE_INSUFFICIENT") == 0)
        snprintf(out, size, "the token lacks the scope cloud-platform");
    else if (listing->status == 401)
        snprintf(out, size, "see which credentials are used: tarn whoami");
    else if (listing->status == 403)
        snprintf(out, size, "grant roles/artifactregistry.reader on the repository to the account");
    else if (listing->status == 404)
        snprintf(out, size, "see that project, location and repository exist");
    else if (listing->status == 429)
        snprintf(out, size, "ask again in a minute");
    else if (listing->status >= 500 || listing->status == 408)
        snprintf(out, size, "ask again later, or the registry itself: source docker");
    else if (listing->status < 400)
        snprintf(out, size, "see what answers at %.150s", listing->base);
}

/* Turns the response into an error: "403 PERMISSION_DENIED: message (REASON): hint". */
static bool refuse(const struct listing *listing, struct error *error) {
    struct artifact_failure failure;
    char hint[400];
    artifact_page_read_failure(listing->body.bytes, listing->body.length, &failure);
    hide_secret(failure.message, listing->credential->secret);
    write_hint(listing, &failure, hint, sizeof hint);
    error_set(error, client_response_error_kind(listing->status), "%d%s%s%s%.200s%s%s%s%s%.200s",
              listing->status, failure.status[0] ? " " : "", failure.status,
              failure.message[0] ? ": " : "", failure.message, failure.reason[0] ? " (" : "",
              failure.reason, failure.reason[0] ? ")" : "", hint[0] ? "; " : "", hint);
    error->status = listing->status;
    error->retry_after_s = listing->retry_after_s;
    return false;
}

/* No response came. Says what to do about that behind the reason. */
static bool give_up(struct error *error) {
    char reason[400];
    if (error->kind != ERROR_UNAVAILABLE && error->kind != ERROR_TIMEOUT)
        return false;
    snprintf(reason, sizeof reason, "%.399s", error->text);
    snprintf(error->text, sizeof error->text,
             "%s; see that this machine reaches the API, or ask the registry itself: source docker",
             reason);
    return false;
}

/* ---- a page ---- */

static bool write_url(const struct listing *listing, struct buffer *url, struct error *error) {
    cleanup_buffer struct buffer filter = {0};
    buffer_printf(url, "%s/v1/", listing->base);
    artifact_name_append_parent(listing->name, url);
    buffer_printf(url, "/dockerImages?pageSize=%d", ARTIFACT_REGISTRY_PAGE_SIZE);
    if (listing->filtered && artifact_name_append_filter(listing->name, &filter)) {
        buffer_append_string(url, "&filter=");
        buffer_append_percent(url, filter.bytes, "");
    }
    if (listing->token_count) {
        buffer_append_string(url, "&pageToken=");
        buffer_append_percent(url, listing->tokens[listing->token_count - 1], "");
    }
    if (url->failed || filter.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    return url->length <= URL_LIMIT ||
           refuse_lasting(error, "the token of the next page is too long for a URL");
}

/* Asks for the next page. True: its body is here, of status 200. */
static bool ask(struct listing *listing, struct error *error) {
    cleanup_buffer struct buffer url = {0};
    if (!write_url(listing, &url, error))
        return false;
    for (unsigned failures = 1;; failures++) {
        bool answered = attempt(listing, url.bytes, error);
        if (answered && listing->status == 200)
            return true;
        if (!is_passing(listing, answered, error) || !may_try_again(listing, failures))
            return answered ? refuse(listing, error) : give_up(error);
    }
}

/* Remembers the token of the next page. */
static bool add_token(struct listing *listing, struct buffer *token, struct error *error) {
    for (size_t i = 0; i < listing->token_count; i++) {
        if (strcmp(listing->tokens[i], token->bytes) == 0)
            return refuse_lasting(error, "a page leads back to an earlier one (its nextPageToken "
                                         "repeats), so that the list has no end");
    }
    if (listing->token_count + 1 >= ARTIFACT_REGISTRY_PAGES_LIMIT) {
        error_set(error, ERROR_UNAVAILABLE, "the list has more than %d pages",
                  ARTIFACT_REGISTRY_PAGES_LIMIT);
        error->lasting = true;
        return false;
    }
    listing->tokens[listing->token_count++] = take(token->bytes);
    *token = (struct buffer){0};
    return true;
}

/* `repositories:` may allow a part of the repository only. */
static bool may_list(void *context, const char *shown) {
    const struct catalog_question *question = context;
    const char *path = shown + strlen(question->repository.name.host) + 1;
    return upstream_for(question->upstreams, question->repository.upstream, path) != NULL;
}

/* Takes the page that was asked for. *done: it is the last one. */
static bool take_page(struct listing *listing, bool *done, struct error *error) {
    const struct repository_name *name = &listing->question->repository.name;
    char shown[HOST_LIMIT + NAME_LIMIT + 2];
    cleanup_buffer struct buffer token = {0};
    snprintf(shown, sizeof shown, "%s/%s", name->host, name->path);
    const struct artifact_wanted wanted = {
        .name = listing->name,
        .shown = shown,
        .may_list = may_list,
        .context = (void *)listing->question,
    };
    if (!artifact_page_read(listing->body.bytes, listing->body.length, &wanted, listing->list,
                            &token, error))
        return error_wrap(error,
                          "page %zu of %.150s is no list of images (a proxy may answer there)",
                          listing->token_count + 1, listing->base);
    *done = token.length == 0;
    return *done || add_token(listing, &token, error);
}

/* Asks for the first page. Where the API refuses the filter, it is asked once more without it. */
static bool ask_first(struct listing *listing, struct error *error) {
    listing->filtered = listing->name->image[0] && !atomic_load(&listing->registry->refuses_filter);
    if (ask(listing, error))
        return true;
    if (!listing->filtered || error->status != 400)
        return false;
    listing->filtered = false;
    if (!ask(listing, error))
        return false;
    atomic_store(&listing->registry->refuses_filter, true);
    return true;
}

static bool list_pages(struct listing *listing, struct error *error) {
    bool done = false;
    if (!ask_first(listing, error) || !take_page(listing, &done, error))
        return false;
    while (!done) {
        if (!cancel_check(listing->question->cancel, error) || !ask(listing, error) ||
            !take_page(listing, &done, error))
            return false;
    }
    return true;
}

/* ---- where it is asked ---- */

/* The API's URL, and which addresses it may be at. Google's own name may lead into a private
 * network, where it is reached by a private endpoint. */
static bool choose_base(struct listing *listing, char *own, size_t size, struct error *error) {
    struct origin origin;
    const char *universe = listing->credential->universe, *endpoint = listing->registry->endpoint;
    snprintf(own, size, "https://artifactregistry.%s", *universe ? universe : "googleapis.com");
    listing->base = endpoint ? endpoint : own;
    bool sound = origin_parse(listing->base, &origin) && !strpbrk(listing->base, "?#");
    bool is_loopback = sound && address_classify_host(origin.host) == ADDRESS_LOOPBACK;
    if (!sound || (!origin.https && !is_loopback))
        return error_set(error, ERROR_UNAVAILABLE,
                         "CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY is no https URL without "
                         "user, query and fragment; http is for this machine only");
    listing->addresses = (struct address_rule){
        .allow_private = true,
        .allow_loopback = is_loopback,
        .allow_link_local = address_classify_host(origin.host) == ADDRESS_LINK_LOCAL,
    };
    return true;
}

static bool list_all(struct listing *listing, struct error *error) {
    cleanup_secret_buffer struct buffer authorization = {0};
    char base[96], quota[100];
    const struct credential *credential = listing->credential;
    size_t at = 0;
    if (!choose_base(listing, base, sizeof base, error))
        return false;
    buffer_reserve(&authorization, strlen(credential->secret) + 32);
    if (!buffer_printf(&authorization, "Authorization: Bearer %s", credential->secret))
        return error_set(error, ERROR_MEMORY, "out of memory");
    snprintf(quota, sizeof quota, "x-goog-user-project: %s", credential->quota_project);
    listing->headers[at++] = authorization.bytes;
    listing->headers[at++] = "Accept: application/json";
    if (credential->quota_project[0])
        listing->headers[at] = quota;
    return list_pages(listing, error);
}

bool artifact_registry_list_images(struct artifact_registry *registry,
                                   const struct catalog_question *question,
                                   const struct artifact_name *name,
                                   const struct credential *credential, struct catalog_list *list,
                                   struct error *error) {
    struct listing *listing = calloc(1, sizeof *listing);
    if (!listing)
        return error_set(error, ERROR_MEMORY, "out of memory");
    listing->registry = registry;
    listing->question = question;
    listing->name = name;
    listing->credential = credential;
    listing->list = list;
    bool ok = list_all(listing, error);
    for (size_t i = 0; i < listing->token_count; i++)
        free(listing->tokens[i]);
    buffer_finish(&listing->body);
    free(listing);
    return ok || error_wrap(error, "upstream %s: the Artifact Registry API",
                            question->repository.name.host);
}
