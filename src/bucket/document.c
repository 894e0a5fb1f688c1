/* Reads the XML documents of an object store. */
#include "bucket/document.h"

#include <string.h>
#include "base/clock.h"
#include "base/xml.h"

/* ---- one document ---- */

/* Reads what an element of its interest holds, at the element's end: `path` is
 * "ListBucketResult/Contents/Key", `text` the element's own text. */
typedef bool on_element(void *context, const char *path, struct text text, struct error *error);

/* White space may come first, while the bucket works. */
static struct text skip_space(struct text body) {
    while (body.length && strchr(" \t\r\n", body.at[0]) && body.at[0])
        body = text_from(body, 1);
    return body;
}

static bool read_document(struct text body, on_element *on_end, void *context,
                          struct error *error) {
    struct error failure = {0};
    const struct xml_sink sink = {.context = context, .on_end = on_end};
    body = skip_space(body);
    if (xml_walk(body.at, body.length, &sink, &failure))
        return true;
    if (failure.kind == ERROR_INVALID) /* the bucket's fault, not the caller's */
        failure.kind = ERROR_UNAVAILABLE;
    if (error)
        *error = failure;
    return false;
}

/* ---- faults ---- */

bool bucket_region_is_valid(struct text region) {
    static const char edge[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    if (region.length == 0 || region.length >= BUCKET_REGION_SIZE || region.at[0] == '-' ||
        region.at[region.length - 1] == '-')
        return false;
    for (size_t i = 0; i < region.length; i++) {
        if (!region.at[i] || (region.at[i] != '-' && !strchr(edge, region.at[i])))
            return false;
    }
    return true;
}

/* Any other text would reach the log, where an answer could repeat what we sent. */
static bool is_code(struct text code) {
    for (size_t i = 0; i < code.length; i++) {
        char byte = code.at[i];
        if (!((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
              (byte >= '0' && byte <= '9')))
            return false;
    }
    return code.length > 0 && code.length < BUCKET_CODE_SIZE;
}

struct fault_reading {
    struct bucket_fault *out;
    bool found;     /* an <Error> */
    bool completed; /* a CompleteMultipartUploadResult */
};

static bool take_fault(void *context, const char *path, struct text text, struct error *error) {
    struct fault_reading *fault = context;
    (void)error;
    if (strcmp(path, "Error/Code") == 0 && is_code(text_trim(text)))
        text_copy(text_trim(text), fault->out->code, sizeof fault->out->code);
    else if (strcmp(path, "Error/Region") == 0 && bucket_region_is_valid(text_trim(text)))
        text_copy(text_trim(text), fault->out->region, sizeof fault->out->region);
    else if (strcmp(path, "Error") == 0)
        fault->found = true;
    else if (strcmp(path, "CompleteMultipartUploadResult") == 0)
        fault->completed = true;
    return true;
}

bool bucket_document_fault(struct text body, struct bucket_fault *out) {
    struct fault_reading fault = {.out = out};
    *out = (struct bucket_fault){.code = ""};
    if (read_document(body, take_fault, &fault, NULL) && fault.found)
        return true;
    *out = (struct bucket_fault){.code = ""};
    return false;
}

bool bucket_document_completion(struct text body, struct bucket_fault *out, struct error *error) {
    struct fault_reading fault = {.out = out};
    *out = (struct bucket_fault){.code = ""};
    if (skip_space(body).length == 0)
        return error_set(error, ERROR_UNAVAILABLE,
                         "the answer ended before it said what became of "
                         "the upload");
    if (!read_document(body, take_fault, &fault, error))
        return false;
    if (fault.completed || (fault.found && out->code[0]))
        return true;
    return error_set(error, ERROR_UNAVAILABLE, "the answer does not say what became of the upload");
}

/* ---- the id of an upload ---- */

struct upload_reading {
    char *id;
};

/* An id comes back in a query; control characters have no place there. */
static bool copy_word(struct text text, char *out, size_t size, struct error *error) {
    for (size_t i = 0; i < text.length; i++) {
        if ((unsigned char)text.at[i] <= ' ')
            return error_set(error, ERROR_UNAVAILABLE, "the XML holds an id that is none");
    }
    return text_copy(text, out, size) ||
           error_set(error, ERROR_UNAVAILABLE, "the XML holds an id that is too long");
}

static bool take_upload(void *context, const char *path, struct text text, struct error *error) {
    struct upload_reading *upload = context;
    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") != 0)
        return true;
    return copy_word(text_trim(text), upload->id, BUCKET_UPLOAD_ID_SIZE, error);
}

bool bucket_document_upload(struct text body, char id[static BUCKET_UPLOAD_ID_SIZE],
                            struct error *error) {
    struct upload_reading upload = {id};
    id[0] = '\0';
    if (!read_document(body, take_upload, &upload, error)) {
        id[0] = '\0';
        return false;
    }
    return id[0] || error_set(error, ERROR_UNAVAILABLE, "the answer names no upload");
}

/* ---- lists ---- */

struct list_reading {
    const char *root;
    size_t root_length;
    bool uploads, found, encoded, has_key;
    struct bucket_page *page;
    bool (*on_entry)(void *context, const struct bucket_entry *entry, struct error *error);
    void *context;
    struct bucket_entry entry;
    char key[BUCKET_KEY_LIMIT + 1];
    char id[BUCKET_UPLOAD_ID_SIZE];
    unsigned count;
};

/* `encoding-type=url`: as in a form, where a space may be a plus. */
static bool decode(struct list_reading *list, char *text, size_t size) {
    char encoded[BUCKET_TOKEN_LIMIT];
    if (!list->encoded)
        return true;
    for (char *at = text; *at; at++)
        *at = *at == '+' ? ' ' : *at;
    size_t length = strlen(text);
    if (length >= sizeof encoded)
        return false;
    memcpy(encoded, text, length + 1);
    return text_percent_decode(text_of(encoded), text, size);
}

static bool end_entry(struct list_reading *list, struct error *error) {
    struct bucket_entry entry = list->entry;
    bool whole = list->has_key && (!list->uploads || list->id[0]);
    list->entry = (struct bucket_entry){0};
    list->has_key = false;
    if (!whole)
        return error_set(error, ERROR_UNAVAILABLE, "the list has an entry without a key");
    entry.key = list->key;
    entry.upload_id = list->uploads ? list->id : NULL;
    return !list->on_entry || list->on_entry(list->context, &entry, error);
}

/* A key is at most 1,024 bytes, which are three times as many when they are encoded. */
static bool take_key(struct list_reading *list, struct text text, struct error *error) {
    char key[BUCKET_TOKEN_LIMIT];
    if (text.length == 0 || !text_copy(text, key, sizeof key) || !decode(list, key, sizeof key) ||
        strlen(key) > BUCKET_KEY_LIMIT)
        return error_set(error, ERROR_UNAVAILABLE, "the list has a key that is none");
    memcpy(list->key, key, strlen(key) + 1);
    list->has_key = true;
    return true;
}

static bool take_date(struct list_reading *list, struct text text) {
    char date[64];
    int64_t seconds = 0;
    if (text_copy(text_trim(text), date, sizeof date) && clock_parse_rfc3339(date, &seconds))
        list->entry.modified_s = seconds;
    return true;
}

/* A child of <Contents> or <Upload>. */
static bool take_child(struct list_reading *list, const char *name, struct text text,
                       struct error *error) {
    if (strcmp(name, "Key") == 0)
        return take_key(list, text, error);
    if (strcmp(name, list->uploads ? "Initiated" : "LastModified") == 0)
        return take_date(list, text);
    if (!list->uploads && strcmp(name, "Size") == 0)
        return text_to_u64(text_trim(text), &list->entry.size) ||
               error_set(error, ERROR_UNAVAILABLE, "the list has a size that is none");
    if (list->uploads && strcmp(name, "UploadId") == 0)
        return copy_word(text_trim(text), list->id, sizeof list->id, error);
    return true;
}

/* A child of the root, "" for the root itself. */
static bool take_top(struct list_reading *list, const char *name, struct text text,
                     struct error *error) {
    struct bucket_page *page = list->page;
    if (!*name)
        list->found = true;
    else if (strcmp(name, list->uploads ? "Upload" : "Contents") == 0)
        return end_entry(list, error);
    else if (strcmp(name, "EncodingType") == 0)
        list->encoded = text_is(text_trim(text), "url");
    else if (strcmp(name, "IsTruncated") == 0)
        page->truncated = text_is(text_trim(text), "true");
    else if (strcmp(name, list->uploads ? "NextKeyMarker" : "NextContinuationToken") == 0)
        return text_copy(text, page->token, sizeof page->token) ||
               error_set(error, ERROR_UNAVAILABLE, "the list goes on at a place that is none");
    else if (list->uploads && strcmp(name, "NextUploadIdMarker") == 0)
        return copy_word(text_trim(text), page->id_token, sizeof page->id_token, error);
    return true;
}

static bool take_list(void *context, const char *path, struct text text, struct error *error) {
    struct list_reading *list = context;
    size_t length = list->root_length;
    if (strncmp(path, list->root, length) != 0 || (path[length] && path[length] != '/'))
        return true;
    const char *name = path[length] ? path + length + 1 : path + length;
    const char *child = strchr(name, '/');
    if (!child)
        return take_top(list, name, text, error);
    const char *parent = list->uploads ? "Upload/" : "Contents/";
    return strncmp(name, parent, strlen(parent)) != 0 || take_child(list, child + 1, text, error);
}

bool bucket_document_list(struct text body, bool uploads, struct bucket_page *page,
                          bool (*on_entry)(void *context, const struct bucket_entry *entry,
                                           struct error *error),
                          void *context, struct error *error) {
    const char *root = uploads ? "ListMultipartUploadsResult" : "ListBucketResult";
    struct list_reading list = {.root = root,
                                .root_length = strlen(root),
                                .uploads = uploads,
                                .page = page,
                                .on_entry = on_entry,
                                .context = context};
    /* Which way keys are encoded is said before or behind them. */
    list.encoded = body.length && memmem(body.at, body.length, "<EncodingType>url<", 18) != NULL;
    *page = (struct bucket_page){.truncated = false};
    if (!read_document(body, take_list, &list, error))
        return false;
    if (!list.found)
        return error_set(error, ERROR_UNAVAILABLE, "the answer is no list");
    if (uploads && list.encoded && !decode(&list, page->token, sizeof page->token))
        return error_set(error, ERROR_UNAVAILABLE, "the list goes on at a place that is none");
    if (page->truncated && !page->token[0])
        return error_set(error, ERROR_UNAVAILABLE, "the list does not say where it goes on");
    return true;
}
