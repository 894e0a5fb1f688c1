/* Gets the pages of a list, one after the other. */
#include "upstream/pages.h"

#include <stdlib.h>
#include "base/json.h"
#include "oci/referrers.h"

enum { SEEN_LIMIT = 2 * PAGES_LIMIT };

struct pages *pages_new(const struct repository *repository, enum upstream_what what,
                        const char *reference) {
    struct pages *pages = calloc(1, sizeof *pages);
    if (!pages)
        return NULL;
    bool is_tags = what == UPSTREAM_TAGS;
    *pages = (struct pages){
        .asking = {.request = {.what = what,
                               .reference = reference,
                               .page_size = is_tags ? PAGES_TAGS : 0},
                   .limit = PAGES_SIZE_LIMIT},
        .repository = repository,
        .member = is_tags ? "tags" : "manifests",
        .seen = calloc(SEEN_LIMIT, sizeof *pages->seen),
    };
    siphash_key_fill(&pages->key);
    if (pages->seen)
        return pages;
    free(pages);
    return NULL;
}

void pages_free(struct pages *pages) {
    if (!pages)
        return;
    json_decref(pages->page);
    asking_finish(&pages->asking);
    free(pages->seen);
    free(pages);
}

bool pages_fail(const struct pages *pages, struct error *error, const char *why) {
    const struct repository_name *name = &pages->repository->name;
    return error_set(error, ERROR_UNAVAILABLE, "upstream %s: the list of %s of %s %s", name->host,
                     pages->member, name->path, why);
}

/* ---- one page ---- */

static bool is_of_tags(const struct pages *pages) {
    return pages->asking.request.what == UPSTREAM_TAGS;
}

/* A page of a captive portal or a proxy is no list, even with status 200. */
static bool is_tags_page(const json_t *json) {
    const json_t *tags = json_object_get(json, "tags");
    return json_is_array(tags) || json_is_null(tags) ||
           (!tags && json_is_string(json_object_get(json, "name")));
}

static bool accept_page(struct asking *asking, struct error *error) {
    struct pages *pages = asking->context;
    json_decref(pages->page);
    pages->page = bounded_json_load_by(0, asking->body.bytes, asking->body.length, error);
    if (!pages->page && error->kind == ERROR_MEMORY)
        return false;
    if (is_of_tags(pages) ? is_tags_page(pages->page) : referrers_is_index(pages->page))
        return true;
    pages_fail(pages, error, "is malformed");
    if (!is_of_tags(pages) && pages->count == 0)
        error->kind = ERROR_UNSUPPORTED; /* whatever responded is no referrers API */
    return false;
}

bool pages_is_about_request(int status) {
    return status / 100 == 4 && status != 401 && status != 403 && status != 407 && status != 408 &&
           status != 425 && status != 429;
}

bool pages_get(struct pages *pages, struct error *error) {
    struct upstream_request *request = &pages->asking.request;
    bool is_first = pages->count == 0;
    pages->asking.accept = accept_page;
    pages->asking.context = pages;
    bool got = asking_get(pages->repository, &pages->asking, error);
    if (!got && is_first && request->page_size && pages_is_about_request(error->status) &&
        error->kind != ERROR_NOT_FOUND) { /* some registries refuse that many entries */
        request->page_size = 0;
        request->location = 0;
        got = asking_get(pages->repository, &pages->asking, error);
    }
    if (!got && !is_first) { /* the list exists, but not all of it can be had */
        error->status = 0;
        if (error->kind == ERROR_NOT_FOUND || error->kind == ERROR_UNSUPPORTED)
            error->kind = ERROR_UNAVAILABLE;
    }
    pages->count++;
    return got;
}

/* ---- the next page ---- */

/* Whether the text was noted before; notes it. */
static bool is_seen(struct pages *pages, const void *bytes, size_t length) {
    uint64_t hash = siphash_of(&pages->key, bytes, length);
    for (size_t i = 0; i < pages->seen_count; i++) {
        if (pages->seen[i] == hash)
            return true;
    }
    if (pages->seen_count < SEEN_LIMIT)
        pages->seen[pages->seen_count++] = hash;
    return false;
}

/* Follows the link to the next page. A registry that sends the same link or the same entries again
 * would send them for ever. */
static bool follow(struct pages *pages, bool *more, struct error *error) {
    const struct asking *asking = &pages->asking;
    bool has_entries = json_array_size(json_object_get(pages->page, pages->member)) > 0;
    if (is_seen(pages, asking->head.next, strlen(asking->head.next)) ||
        (has_entries && is_seen(pages, asking->body.bytes, asking->body.length)))
        return pages_fail(pages, error, "has a page that repeats");
    memcpy(pages->next, asking->head.next, sizeof pages->next);
    *more = true;
    return true;
}

/* Whether the page may be cut: then asks for what is behind its last tag. */
static bool ask_behind_last(struct pages *pages) {
    const json_t *tags = json_object_get(pages->page, pages->member);
    size_t count = json_array_size(tags);
    struct upstream_request *request = &pages->asking.request;
    if (request->page_size == 0 || count != request->page_size)
        return false;
    const json_t *last = json_array_get(tags, count - 1);
    struct text name = {json_string_value(last), json_string_length(last)};
    if (!name.at || !reference_is_tag(name) || text_is(name, pages->last) ||
        !text_copy(name, pages->last, sizeof pages->last))
        return false;
    request->last = pages->last;
    return true;
}

bool pages_find_next(struct pages *pages, bool *more, struct error *error) {
    *more = false;
    pages->next[0] = '\0';
    pages->asking.request.page = NULL;
    if (pages->asking.head.next[0]) {
        if (!follow(pages, more, error))
            return false;
        pages->asking.request.page = pages->next;
    } else {
        *more = ask_behind_last(pages);
    }
    if (*more && pages->count == PAGES_LIMIT)
        return pages_fail(pages, error, "has more pages than tarn's limit of 1000");
    return true;
}
