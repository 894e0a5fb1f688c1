/* Lists objects and unfinished uploads, a page at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bucket/bucket_private.h"

enum { PAGE = 1000, LEAST_PAGE = 10 };

void bucket_list_finish(struct bucket_list *list) {
    free(list->token);
    free(list->id_token);
    list->token = list->id_token = NULL;
}

/* Hands on entries with the configured prefix cut off. */
struct handing {
    size_t prefix; /* bytes to cut */
    const char *full_prefix;
    bool (*on_entry)(void *context, const struct bucket_entry *entry, struct error *error);
    void *context;
    bool stopped;
};

static bool hand_on(void *context, const struct bucket_entry *entry, struct error *error) {
    struct handing *handing = context;
    struct bucket_entry cut = *entry;
    /* What lies elsewhere was not asked for. */
    if (strncmp(entry->key, handing->full_prefix, strlen(handing->full_prefix)) != 0 ||
        strlen(entry->key) < handing->prefix)
        return true;
    cut.key += handing->prefix;
    if (handing->on_entry(handing->context, &cut, error))
        return true;
    handing->stopped = true;
    return false;
}

/* Remembers where the next page begins. */
static bool set_next(struct bucket_list *list, const struct bucket_page *page,
                     struct error *error) {
    char *token = NULL, *id_token = NULL;
    list->done = !page->truncated;
    if (page->truncated) {
        bool moved = !list->token || strcmp(list->token, page->token) != 0 || !list->id_token ||
                     strcmp(list->id_token, page->id_token) != 0;
        if (!moved)
            return error_set(error, ERROR_UNAVAILABLE, "the list goes in a circle");
        token = strdup(page->token);
        id_token = strdup(page->id_token);
        if (!token || !id_token) {
            free(token);
            free(id_token);
            return error_set(error, ERROR_MEMORY, "out of memory");
        }
    }
    bucket_list_finish(list);
    list->token = token;
    list->id_token = id_token;
    return true;
}

static bool read_page(struct bucket_ask *ask, struct bucket_list *list, struct handing *handing) {
    struct bucket_page *page = calloc(1, sizeof *page);
    struct text body = {ask->response.body.bytes, ask->response.body.length};
    bool ok = page || error_set(ask->error, ERROR_MEMORY, "out of memory");
    /* Once to see that it is whole, and once for its entries: none is handed on twice. */
    ok = ok && bucket_document_list(body, list->uploads, page, NULL, NULL, ask->error) &&
         bucket_document_list(body, list->uploads, page, hand_on, handing, ask->error) &&
         set_next(list, page, ask->error);
    free(page);
    if (ok)
        return true;
    bool ours = handing->stopped || ask->error->kind == ERROR_MEMORY;
    ask->outcome = ours ? BUCKET_STOPPED : BUCKET_UNREACHABLE;
    bucket_tell_failure(ask);
    return false;
}

/* What a page is asked with. */
struct page_query {
    char full[BUCKET_KEY_LIMIT + 1], after[BUCKET_KEY_LIMIT + 1], count[16];
};

static bool ask_page(struct bucket_ask *ask, struct bucket *bucket, struct bucket_list *list,
                     struct page_query *query, const struct bucket_limits *limits,
                     struct error *error) {
    const char *prefix = list->prefix ? list->prefix : "";
    const char *own = bucket->settings.address.prefix;
    if (!bucket_ask_init(ask, bucket, OPERATION_LIST, prefix, query->full, limits, error))
        return false;
    ask->key = "";
    bucket_ask_query(ask, list->uploads ? "uploads" : "list-type", list->uploads ? NULL : "2");
    bucket_ask_query(ask, list->uploads ? "max-uploads" : "max-keys", query->count);
    bucket_ask_query(ask, "encoding-type", "url");
    bucket_ask_query(ask, "prefix", query->full);
    if (list->token) {
        bucket_ask_query(ask, list->uploads ? "key-marker" : "continuation-token", list->token);
        if (list->uploads)
            bucket_ask_query(ask, "upload-id-marker", list->id_token);
    } else if (list->start_after && !list->uploads) {
        snprintf(query->after, sizeof query->after, "%s%s%s", own, *own ? "/" : "",
                 list->start_after);
        bucket_ask_query(ask, "start-after", query->after);
    }
    return true;
}

bool bucket_list_page(struct bucket *bucket, struct bucket_list *list,
                      bool (*on_entry)(void *context, const struct bucket_entry *entry,
                                       struct error *error),
                      void *context, const struct bucket_limits *limits,
                      struct bucket_answer *answer, struct error *error) {
    struct bucket_ask ask;
    struct page_query query;
    size_t own = strlen(bucket->settings.address.prefix);
    bool ok, too_long;
    if (list->done)
        return true;
    do {
        unsigned count = list->page ? list->page : PAGE;
        snprintf(query.count, sizeof query.count, "%u", count);
        if (!ask_page(&ask, bucket, list, &query, limits, error))
            return bucket_ask_give_up(&ask, answer);
        struct handing handing = {own ? own + 1 : 0, query.full, on_entry, context, false};
        ok = bucket_ask_run(&ask, answer);
        too_long = !ok && ask.response.body.failed && count > LEAST_PAGE;
        if (too_long) /* long keys: fewer fit into a document */
            list->page = count / 4;
        if (ok) {
            list->date_s = bucket_date_parse(ask.date);
            ok = read_page(&ask, list, &handing);
            if (!ok && answer)
                answer->outcome = ask.outcome;
        }
        bucket_ask_finish(&ask);
    } while (too_long);
    return ok;
}
