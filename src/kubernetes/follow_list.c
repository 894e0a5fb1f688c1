/* The list of a follow: page by page, item by item. */
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "kubernetes/follow_private.h"
#include "kubernetes/items.h"

enum {
    PAGE_MS = 60000,
    PAGES_LIMIT = 20000, /* a million objects: no cluster has as many */
};

/* A list that is under way. */
struct listing {
    struct follow *follow;
    char *token;      /* `continue` of the next page; NULL: the first one */
    char *version;    /* of the first page: a watch from it misses nothing */
    unsigned expired; /* how many times the server had forgotten the version of the pages */
};

static void listing_finish(struct listing *listing) {
    free(listing->token);
    free(listing->version);
}
#define cleanup_listing __attribute__((cleanup(listing_finish)))

static bool on_item(void *context, const json_t *item, struct error *error) {
    struct listing *listing = context;
    return follow_set(listing->follow, item, error);
}

/* Bytes of a page, and where they go. */
static bool on_bytes(void *context, const void *bytes, size_t length, struct error *error) {
    return length == 0 || items_take(context, bytes, length, error);
}

static bool write_path(const struct listing *listing, struct buffer *out) {
    const struct follow_settings *settings = &listing->follow->settings;
    buffer_printf(out, "%s?limit=%d", settings->path, FOLLOW_PAGE);
    if (settings->query)
        buffer_printf(out, "&%s", settings->query);
    if (listing->token) {
        buffer_append_string(out, "&continue=");
        buffer_append_percent(out, listing->token, "");
    }
    return !out->failed;
}

/* Takes over a string of the list's metadata. "" counts as absent. False: out of memory. */
static bool take_text(const json_t *meta, const char *name, char **out) {
    const char *text = json_string_value(json_object_get(meta, name));
    free(*out);
    *out = text && *text ? strdup(text) : NULL;
    return *out || !text || !*text;
}

/* Reads what stands around the items of a page. */
static bool read_rest(struct listing *listing, const struct items *items, struct error *error) {
    cleanup_json json_t *rest = items_end(items, error);
    const json_t *meta = json_object_get(rest, "metadata");
    const char *version = json_string_value(json_object_get(meta, "resourceVersion"));
    if (!rest)
        return false;
    const json_t *list = json_object_get(rest, "items");
    bool whole = json_is_null(list) || (json_is_array(list) && json_array_size(list) == 0);
    if (!whole || !version || !*version)
        return error_set(error, ERROR_INVALID, "the response is no list with a resourceVersion");
    return ((listing->version || take_text(meta, "resourceVersion", &listing->version)) &&
            take_text(meta, "continue", &listing->token)) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

/* Asks for a page. *status: why the server refused; the caller's. */
static bool ask_page(struct listing *listing, json_t **status, struct error *error) {
    struct follow *follow = listing->follow;
    cleanup_buffer struct buffer path = {0};
    if (!write_path(listing, &path))
        return error_set(error, ERROR_MEMORY, "out of memory");
    const struct kubernetes_call call = {.verb = "list",
                                         .resource = follow->settings.resource,
                                         .path = path.bytes,
                                         .timeout_ms = PAGE_MS,
                                         .cancel = &follow->cancel};
    struct items items;
    items_init(&items, on_item, listing);
    bool ok = kubernetes_stream(follow->kubernetes, &call, on_bytes, &items, status, error);
    if (ok) {
        ok = read_rest(listing, &items, error) ||
             error_wrap(error, "Kubernetes: list %s", follow->settings.resource);
    }
    follow->broken = follow->broken || (!ok && error->kind == ERROR_INVALID && !error->status);
    items_finish(&items);
    return ok;
}

/* The server has forgotten the version of the pages. The first time the list begins anew. A second
 * time it goes on at another version, with the token that the refusal has. */
static bool go_on(struct listing *listing, const json_t *status) {
    const json_t *meta = json_object_get(status, "metadata");
    if (listing->expired++ > 0 && take_text(meta, "continue", &listing->token) && listing->token)
        return true;
    free(listing->token);
    free(listing->version);
    listing->token = listing->version = NULL;
    listing->follow->lists++;
    return listing->expired == 1;
}

static void remove_unlisted(struct follow *follow) {
    struct follow_known *known, *next;
    HASH_ITER (hh, follow->known, known, next) {
        if (known->list != follow->lists)
            follow_remove(follow, known->uid);
    }
}

bool follow_list(struct follow *follow, struct error *error) {
    cleanup_listing struct listing listing = {.follow = follow};
    follow->broken = false;
    follow->lists++;
    for (unsigned pages = 0; pages < PAGES_LIMIT; pages++) {
        cleanup_json json_t *status = NULL;
        bool continued = listing.token != NULL;
        if (ask_page(&listing, &status, error)) {
            follow_heard(follow);
            if (listing.token)
                continue;
            remove_unlisted(follow);
            free(follow->version);
            follow->version = take(listing.version);
            return true;
        }
        if (!continued || error->status != 410 || !go_on(&listing, status))
            return false;
    }
    follow->broken = true;
    return error_set(error, ERROR_INVALID, "Kubernetes: list %s: it has no end",
                     follow->settings.resource);
}
