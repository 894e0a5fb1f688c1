/* Lists: tags, referrers, and the catalog of what is cached. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "oci/manifest.h"
#include "oci/referrers.h"
#include "registry/call.h"
#include "store/records.h"

enum {
    CATALOG_PAGE = 1000,
    CATALOG_MOST = 10000,
    LAST_SIZE = HOST_LIMIT + NAME_LIMIT + 2,
    SHORT_LIST = 4 << 10, /* bytes of a list that an event loop may compute */
};

struct page {
    bool has_n;
    uint64_t n;
    char last[LAST_SIZE]; /* "" when not given */
};

/* Reads n and last. False: 400 was sent. */
static bool read_page(struct call *call, struct page *page) {
    char number[24];
    bool found;
    *page = (struct page){0};
    page->has_n = http_query(call->request, "n", number, sizeof number, &found);
    if (found && !(page->has_n && text_to_u64(text_of(number), &page->n))) {
        call_fail(call, 400, "PAGINATION_NUMBER_INVALID", "n must be a whole number");
        return false;
    }
    if (!http_query(call->request, "last", page->last, sizeof page->last, &found) && found) {
        call_fail(call, 400, "UNSUPPORTED", "last is given twice or is too long");
        return false;
    }
    return true;
}

static void add_next_link(struct call *call, const char *path, uint64_t n, const char *last) {
    const char *host = call->route.host;
    http_add_field(call->exchange, "Link", "<%s%s%s/v2/%s?n=%" PRIu64 "&last=%s%s%s>; rel=\"next\"",
                   call->prefix, host[0] ? "/" : "", host, path, n, last, call->ns[0] ? "&ns=" : "",
                   call->ns);
}

/* Sends `json` and releases it. */
static void respond_json(struct call *call, const char *media_type, json_t *json) {
    cleanup_json json_t *owned = json;
    cleanup_buffer struct buffer text = {0};
    if (!bounded_json_dump(owned, JSON_COMPACT, &text)) {
        call_fail(call, 500, "UNKNOWN", "out of memory");
        return;
    }
    call_add_content_fields(call, NULL);
    http_respond(call->exchange, 200, media_type, text.bytes, text.length);
}

/* The tags of `all` (in byte order) that make up the page. *next is the name of the last one when
 * more follow, else NULL. */
static json_t *tags_page(json_t *all, const struct page *page, const char **next) {
    json_t *tags = json_array(), *tag;
    size_t index;
    *next = NULL;
    json_array_foreach (all, index, tag) {
        const char *name = json_string_value(tag);
        if (!name || (page->last[0] && strcmp(name, page->last) <= 0))
            continue;
        if (page->has_n && json_array_size(tags) >= page->n) {
            *next = json_string_value(json_array_get(tags, json_array_size(tags) - 1));
            break;
        }
        if (json_array_append(tags, tag) != 0) { /* no memory: an incomplete list would be wrong */
            json_decref(tags);
            return NULL;
        }
    }
    return tags;
}

/* A list is computed in place only if that takes some microseconds. */
static enum cache_held only_short(enum cache_held held, struct cache_result *result) {
    if (held != CACHE_HELD || result->document->length <= SHORT_LIST)
        return held;
    document_release(result->document);
    return CACHE_NOT_HELD;
}

/* CACHE_HELD_ABSENT stands for every failure, here and below. */
static enum cache_held find_tags(struct call *call, struct cache_result *result,
                                 struct error *error) {
    struct cache *cache = call->registry->settings.cache;
    if (call->must_not_wait)
        return only_short(cache_tags_held(cache, &call->repository, result, error), result);
    const struct cache_caller caller = call_caller(call);
    return cache_tags(cache, &caller, result, error) ? CACHE_HELD : CACHE_HELD_ABSENT;
}

static enum cache_held find_referrers(struct call *call, struct cache_result *result,
                                      struct error *error) {
    struct cache *cache = call->registry->settings.cache;
    const struct digest *subject = &call->route.reference.digest;
    if (call->must_not_wait)
        return only_short(cache_referrers_held(cache, &call->repository, subject, result, error),
                          result);
    const struct cache_caller caller = call_caller(call);
    return cache_referrers(cache, &caller, subject, result, error) ? CACHE_HELD : CACHE_HELD_ABSENT;
}

/* Adds to the first page what Google's registries say beside the tags. False: no memory. */
static bool add_more(json_t *list, const json_t *all) {
    static const char *const members[] = {"manifest", "child"};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        json_t *value = json_object_get(all, members[i]);
        if (value && json_object_set(list, members[i], value) != 0)
            return false;
    }
    return true;
}

static void fail_for_memory(struct call *call) {
    call_fail(call, 500, "UNKNOWN", "out of memory");
}

static void respond_tags(struct call *call, const struct page *page,
                         const struct cache_result *result) {
    cleanup_json json_t *json = json_load_own(result->document->bytes, result->document->length);
    const char *next;
    if (!json) { /* no list is better than an empty one */
        fail_for_memory(call);
        return;
    }
    json_t *tags = tags_page(json_object_get(json, "tags"), page, &next);
    if (next) {
        char path[sizeof call->route.name + 16];
        snprintf(path, sizeof path, "%s/tags/list", call->route.name);
        add_next_link(call, path, page->n, next);
    }
    json_t *list = json_pack("{s:s,s:o}", "name", call->route.name, "tags", tags);
    if (!list || (!page->last[0] && !add_more(list, json))) {
        json_decref(list);
        fail_for_memory(call);
        return;
    }
    respond_json(call, "application/json", list);
}

bool call_handle_tags(struct call *call) {
    struct page page;
    struct cache_result result = {0};
    struct error error = {0};
    if (!read_page(call, &page))
        return true;
    enum cache_held held = find_tags(call, &result, &error);
    if (held != CACHE_NOT_HELD)
        call_set_life(call, result.age_ms, result.max_age_ms);
    if (held == CACHE_HELD_ABSENT)
        call_fail_error(call, &error);
    if (held == CACHE_HELD) {
        call_record_outcome(call, result.outcome);
        call_set_answer(call, REPLICA_ANSWER_HELD);
        respond_tags(call, &page, &result);
        document_release(result.document);
    }
    return held != CACHE_NOT_HELD;
}

/* Responds with the referrers of one artifact type; NULL: of all. */
static void respond_referrers(struct call *call, const char *artifact_type,
                              const struct cache_result *result) {
    bool filtered;
    struct error error = {0};
    cleanup_buffer struct buffer body = {0};
    if (!referrers_filter(result->document->bytes, result->document->length, artifact_type, &body,
                          &filtered, &error)) {
        call_fail_error(call, &error);
        return;
    }
    if (filtered)
        http_add_field(call->exchange, "OCI-Filters-Applied", "artifactType");
    call_add_content_fields(call, NULL);
    http_respond(call->exchange, 200, MEDIA_OCI_INDEX, body.bytes, body.length);
}

bool call_handle_referrers(struct call *call) {
    char artifact_type[256];
    bool found;
    struct cache_result result = {0};
    struct error error = {0};
    bool has_type =
        http_query(call->request, "artifactType", artifact_type, sizeof artifact_type, &found);
    if (found && !has_type) {
        call_fail(call, 400, "UNSUPPORTED", "artifactType is given twice or is too long");
        return true;
    }
    enum cache_held held = find_referrers(call, &result, &error);
    if (held != CACHE_NOT_HELD)
        call_set_life(call, result.age_ms, result.max_age_ms);
    if (held == CACHE_HELD_ABSENT)
        call_fail_error(call, &error);
    if (held == CACHE_HELD) {
        call_record_outcome(call, result.outcome);
        call_set_answer(call, REPLICA_ANSWER_HELD);
        respond_referrers(call, has_type ? artifact_type : NULL, &result);
        document_release(result.document);
    }
    return held != CACHE_NOT_HELD;
}

/* ---- the catalog of what is cached ---- */

struct catalog {
    const struct call *call;
    const struct page *page;
    const char *host; /* the client named the host, so names are sent without it; else NULL */
    json_t *names;
    bool more, failed; /* failed: no memory, so that the list would be cut */
};

static bool add_repository(void *context, const struct repository_name *repository) {
    struct catalog *catalog = context;
    char name[LAST_SIZE];
    if (!call_may_read(catalog->call, repository))
        return true;
    snprintf(name, sizeof name, "%s%s%s", catalog->host ? "" : repository->host,
             catalog->host ? "" : "/", repository->path);
    catalog->more = json_array_size(catalog->names) >= catalog->page->n;
    if (catalog->more)
        return false;
    catalog->failed = json_array_append_new(catalog->names, json_string(name)) != 0;
    return !catalog->failed;
}

/* The host whose repositories are listed, without the host in their names; "": all upstreams. If
 * `ns` is ignored, there is one upstream for clients that name no host. */
static const char *catalog_host(const struct call *call) {
    const struct registry_view *view = call->view;
    const struct upstream *only =
        view->settings.ignore_ns ? upstreams_default(view->upstreams) : NULL;
    if (call->route.host[0])
        return call->route.host;
    return only ? upstream_name(only) : call->ns;
}

static void respond_catalog(struct call *call) {
    struct page page;
    struct error error = {0};
    if (!read_page(call, &page))
        return;
    if (!page.has_n)
        page.n = CATALOG_PAGE;
    if (page.n > CATALOG_MOST)
        page.n = CATALOG_MOST;
    const char *host = catalog_host(call);
    char canonical[HOST_LIMIT + 1];
    if (host[0] && !upstreams_find(call->view->upstreams, text_of(host), canonical)) {
        call_fail(call, 404, "NAME_UNKNOWN", "no upstream is configured for %s", host);
        return;
    }
    cache_settle(call->registry->settings.cache);
    struct catalog catalog = {
        .call = call, .page = &page, .host = host[0] ? canonical : NULL, .names = json_array()};
    if (!store_repositories(call->registry->settings.store, catalog.host,
                            page.last[0] ? page.last : NULL, add_repository, &catalog, &error)) {
        json_decref(catalog.names);
        call_fail_error(call, &error);
        return;
    }
    if (catalog.failed || !catalog.names) {
        json_decref(catalog.names);
        fail_for_memory(call);
        return;
    }
    size_t count = json_array_size(catalog.names);
    if (catalog.more && count > 0)
        add_next_link(call, "_catalog", page.n,
                      json_string_value(json_array_get(catalog.names, count - 1)));
    respond_json(call, "application/json", json_pack("{s:o}", "repositories", catalog.names));
}

bool call_handle_catalog(struct call *call) {
    if (call->must_not_wait)
        return false;
    respond_catalog(call);
    return true;
}
