/* The list of a repository's images: GET /tarn/v1/images/HOST/NAME. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/base64.h"
#include "base/cleanup.h"
#include "catalog/select.h"
#include "registry/call.h"
#include "registry/image_lists.h"

enum {
    IMAGES_MOST = 10000, /* of one answer */
    POSITION_SIZE = 32 + TAG_LIMIT + HOST_LIMIT + NAME_LIMIT + DIGEST_STRING_SIZE,
    LAST_SIZE = POSITION_SIZE * 2,
    GLOB_SIZE = 256,
};

/* What is asked for. */
struct images_query {
    enum catalog_source source;
    bool all; /* untagged ones, too */
    bool has_glob;
    char glob[GLOB_SIZE]; /* of tags */
    uint64_t most;        /* images of the answer */
    bool has_last;
    struct catalog_image last; /* the last image of the answer before; points to what follows */
    const char *last_tag;
    char position[POSITION_SIZE];
};

/* ---- which repository ---- */

/* False: an error was sent. */
static bool name_images(struct call *call, struct catalog_question *question) {
    const struct route *route = &call->route;
    struct error error = {0};
    if (route->fault != ROUTE_FINE) {
        call_fail(call, 400, "NAME_INVALID",
                  "the path holds no repository; write /tarn/v1/images/HOST/NAME");
        return false;
    }
    if (!catalog_resolve(call->view->upstreams, text_of(route->name), question, &error)) {
        call_fail_name(call, &error);
        return false;
    }
    call->repository = question->repository;
    return true;
}

/* ---- parameters ---- */

static bool refuse(struct call *call, const char *name, const char *rule) {
    call_fail(call, 400, "UNSUPPORTED", "%s %s", name, rule);
    return false;
}

/* Decodes one parameter. False: it is malformed, and 400 was sent. */
static bool read_parameter(struct call *call, const char *name, char *out, size_t size,
                           bool *found) {
    if (http_query(call->request, name, out, size, found) || !*found)
        return true;
    return refuse(call, name, "is given twice, malformed or too long");
}

static bool read_source(struct call *call, struct images_query *query) {
    char text[32];
    bool found;
    if (!read_parameter(call, "source", text, sizeof text, &found))
        return false;
    query->source = CATALOG_AUTO;
    return !found || catalog_source_parse(text_of(text), &query->source) ||
           refuse(call, "source", "must be auto, artifact-registry or docker");
}

static bool read_all(struct call *call, struct images_query *query) {
    char text[8];
    bool found;
    if (!read_parameter(call, "all", text, sizeof text, &found))
        return false;
    query->all = found && strcmp(text, "true") == 0;
    return !found || query->all || strcmp(text, "false") == 0 ||
           refuse(call, "all", "must be true or false");
}

static bool read_most(struct call *call, struct images_query *query) {
    char text[24];
    bool found;
    query->most = IMAGES_MOST;
    if (!read_parameter(call, "n", text, sizeof text, &found))
        return false;
    if (found && (!text_to_u64(text_of(text), &query->most) || query->most == 0)) {
        call_fail(call, 400, "PAGINATION_NUMBER_INVALID", "n must be a whole number of at least 1");
        return false;
    }
    if (query->most > IMAGES_MOST)
        query->most = IMAGES_MOST;
    return true;
}

/* ---- where an answer ended ---- */

/* "UPLOADED TAG REPOSITORY DIGEST": by what the order of images compares. A tag begins with no "-",
 * which stands for none. */
static char *encode_position(const struct catalog_image *image) {
    char text[POSITION_SIZE], digest[DIGEST_STRING_SIZE];
    int length = snprintf(text, sizeof text, "%" PRId64 " %s %s %s", image->uploaded_us,
                          image->tag_count ? image->tags[image->tag_count - 1] : "-",
                          image->repository, digest_format(&image->digest, digest));
    return base64_encode_url(text, (size_t)length);
}

static bool parse_position(char *text, struct images_query *query) {
    char *parts[4] = {text};
    char *end;
    for (int i = 1; i < 4; i++) {
        char *space = strchr(parts[i - 1], ' ');
        if (!space)
            return false;
        *space = '\0';
        parts[i] = space + 1;
    }
    query->last =
        (struct catalog_image){.uploaded_us = strtoll(parts[0], &end, 10), .repository = parts[2]};
    if (end == parts[0] || *end || !digest_parse(text_of(parts[3]), &query->last.digest))
        return false;
    query->last_tag = parts[1];
    query->last.tags = &query->last_tag;
    query->last.tag_count = strcmp(parts[1], "-") != 0;
    return query->last.tag_count == 0 || reference_is_tag(text_of(parts[1]));
}

static bool read_last(struct call *call, struct images_query *query) {
    char text[LAST_SIZE];
    size_t length = 0;
    if (!read_parameter(call, "last", text, sizeof text, &query->has_last))
        return false;
    if (!query->has_last)
        return true;
    cleanup_free char *position = base64_decode_url(text_of(text), &length);
    if (position &&
        text_copy((struct text){position, length}, query->position, sizeof query->position) &&
        parse_position(query->position, query))
        return true;
    return refuse(call, "last", "must be the member `next` of an earlier answer");
}

static bool read_query(struct call *call, struct images_query *query) {
    return read_source(call, query) && read_all(call, query) && read_most(call, query) &&
           read_parameter(call, "tags", query->glob, sizeof query->glob, &query->has_glob) &&
           read_last(call, query);
}

/* ---- which images the client may see ---- */

bool call_may_see_image(struct images_visible *visible, const struct catalog_image *image) {
    struct repository_name name;
    struct text path;
    if (call_sees_all(visible->call))
        return true;
    if (visible->repository != image->repository) {
        struct text host = text_cut(text_of(image->repository), '/', &path);
        visible->repository = image->repository;
        visible->may_read = path.at && repository_name_parse(host, path, &name) &&
                            call_may_read(visible->call, &name);
    }
    return visible->may_read;
}

/* Whether the client may know of the list at all. False: a refusal was sent. Whoever may read no
 * image of a whole repository gets the same answer as for an image that he may not read. */
static bool check_rules(struct call *call, bool whole, const struct image_list *list) {
    struct images_visible visible = {.call = call};
    if (!whole || call_sees_all(call))
        return true;
    for (size_t i = 0; i < list->images.count; i++) {
        if (call_may_see_image(&visible, &list->images.images[i]))
            return true;
    }
    return call_check_rules_of_list(call);
}

/* ---- the answer ---- */

static void append_json_string(struct buffer *out, const char *string) {
    buffer_append_string(out, "\"");
    buffer_append_json(out, text_of(string));
    buffer_append_string(out, "\"");
}

static void append_head(const struct call *call, const struct image_lists_result *result,
                        struct buffer *out) {
    char name[HOST_LIMIT + NAME_LIMIT + 2];
    const struct image_list *list = result->list;
    snprintf(name, sizeof name, "%s/%s", call->repository.name.host, call->repository.name.path);
    buffer_append_string(out, "{\"repository\":");
    append_json_string(out, name);
    buffer_printf(
        out, ",\"source\":\"%s\",\"listed_at\":\"%s\",\"stale\":%s,\"listed\":%s,\"images\":[",
        catalog_source_name(list->source), list->listed_at,
        result->outcome == CACHE_STALE ? "true" : "false", list->is_whole ? "true" : "false");
}

/* Appends the images that are asked for. Returns the last one if further ones follow, else NULL. */
static const struct catalog_image *append_images(const struct call *call,
                                                 const struct images_query *query,
                                                 const struct catalog_list *list,
                                                 struct buffer *out) {
    const char *const globs[] = {query->glob, NULL};
    const struct catalog_selection selection = {.all = query->all,
                                                .tags = query->has_glob ? globs : NULL};
    struct images_visible visible = {.call = call};
    const struct catalog_image *last = NULL;
    uint64_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        const struct catalog_image *image = &list->images[i];
        if ((query->has_last &&
             catalog_image_compare(&query->last, image, CATALOG_BY_UPLOAD) >= 0) ||
            !catalog_selects(&selection, image) || !call_may_see_image(&visible, image))
            continue;
        if (count == query->most)
            return last;
        buffer_append_string(out, count ? "," : "");
        catalog_image_append_json(image, out);
        last = image;
        count++;
    }
    return NULL;
}

static void append_next(const struct catalog_image *last, struct buffer *out) {
    cleanup_free char *position = last ? encode_position(last) : NULL;
    if (last && !position)
        out->failed = true;
    buffer_append_string(out, "],\"next\":");
    if (position)
        append_json_string(out, position);
    else
        buffer_append_string(out, "null");
    buffer_append_string(out, "}\n");
}

static void respond(struct call *call, const struct images_query *query,
                    const struct image_lists_result *result) {
    cleanup_buffer struct buffer body = {0};
    struct digest digest;
    char tag[DIGEST_STRING_SIZE];
    append_head(call, result, &body);
    append_next(append_images(call, query, &result->list->images, &body), &body);
    if (body.failed || !digest_of(DIGEST_SHA256, body.bytes, body.length, &digest)) {
        call_fail(call, 500, "UNKNOWN", "out of memory");
        return;
    }
    http_add_field(call->exchange, "Cache-Control", "private");
    http_add_field(call->exchange, "Cache-Status", "%s", call_cache_status(result->outcome));
    http_add_field(call->exchange, "ETag", "\"%s\"", digest_format(&digest, tag));
    if (call_would_be_304(call, &digest))
        http_respond(call->exchange, 304, NULL, NULL, 0);
    else
        http_respond(call->exchange, 200, "application/json", body.bytes, body.length);
}

/* What catalog/ says of itself becomes what the distribution API has statuses for: an answer that
 * is no list is upstream's failure, and a source that cannot answer is the client's wish. */
static void fail(struct call *call, struct error *error) {
    if (error->kind == ERROR_INVALID)
        error->kind = ERROR_UNAVAILABLE;
    else if (error->kind == ERROR_UNSUPPORTED)
        error->kind = ERROR_INVALID;
    call_fail_error(call, error);
}

bool call_find_images(struct call *call, const struct catalog_question *question,
                      struct image_lists_result *result, struct error *error) {
    const struct image_lists_request request = {
        .view = call->view,
        .repository = &question->repository,
        .whole = question->whole,
        .source = question->source,
        .cancel = &call->cancel,
    };
    return image_lists_get(call->registry->image_lists, &request, result, error);
}

bool call_handle_images(struct call *call) {
    struct catalog_question question = {0};
    struct images_query query = {0};
    struct image_lists_result result;
    struct error error = {0};
    if (!name_images(call, &question) ||
        !(question.whole ? call_may_list_some(call) : call_check_rules(call)) ||
        !read_query(call, &query))
        return true;
    if (call->must_not_wait)
        return false;
    call->asks_cache = true;
    question.source = query.source;
    if (!call_find_images(call, &question, &result, &error)) {
        fail(call, &error);
        return true;
    }
    call_record_outcome(call, result.outcome);
    if (check_rules(call, question.whole, result.list))
        respond(call, &query, &result);
    image_list_release(result.list);
    return true;
}
