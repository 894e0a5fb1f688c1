/* Reads pages of images, and errors, of Artifact Registry's REST API. */
#include "catalog/artifact_page.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/json.h"

static bool refuse(struct error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same page would be refused again. */
static bool refuse(struct error *error, const char *format, ...) {
    char why[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    error_set(error, ERROR_UNAVAILABLE, "%s", why);
    if (error)
        error->lasting = true;
    return false;
}

/* The string of a member; at NULL: it is absent or no string. */
static struct text string_in(const json_t *object, const char *key) {
    const json_t *member = json_object_get(object, key);
    return (struct text){json_string_value(member), json_string_length(member)};
}

/* Copies as much as fits, with a blank for each byte that is not printable ASCII. */
static void copy_printable(struct text text, char *out, size_t size) {
    size_t length = text.length < size - 1 ? text.length : size - 1;
    for (size_t i = 0; i < length; i++)
        out[i] = text.at[i] >= ' ' && text.at[i] <= '~' ? text.at[i] : ' ';
    out[length] = '\0';
}

/* ---- an image ---- */

/* What is read of one entry, and whose list it goes to. */
struct entry {
    const struct artifact_wanted *wanted;
    struct catalog_list *list;
    struct catalog_image *image;
    struct error *error;
};

/* Splits "HOST/PATH@DIGEST", which must be of the wanted repository. */
static bool read_uri(struct text uri, const struct artifact_wanted *wanted,
                     struct artifact_name *name, struct digest *digest, struct error *error) {
    struct text behind, path, before = text_cut(uri, '@', &behind);
    struct text host = text_cut(before, '/', &path);
    char shown[160];
    copy_printable(uri, shown, sizeof shown);
    if (!uri.at)
        return refuse(error, "an entry has no uri");
    if (!behind.at || !digest_parse(behind, digest) || !path.at ||
        !artifact_name_parse(host, path, name) || !reference_is_repository(text_of(name->image)))
        return refuse(error, "the uri \"%s\" names no image with a digest", shown);
    return artifact_name_same_repository(name, wanted->name) ||
           refuse(error, "the uri \"%s\" is of another repository", shown);
}

static bool is_wanted(const struct artifact_wanted *wanted, const struct artifact_name *name,
                      struct buffer *shown) {
    buffer_append_string(shown, wanted->shown);
    if (wanted->name->image[0])
        return strcmp(wanted->name->image, name->image) == 0;
    buffer_printf(shown, "/%s", name->image);
    return shown->failed || !wanted->may_list || wanted->may_list(wanted->context, shown->bytes);
}

static bool read_tags(const struct entry *entry, const json_t *tags) {
    size_t at;
    json_t *tag;
    if (tags && !json_is_null(tags) && !json_is_array(tags))
        return refuse(entry->error, "the tags of an image are no array");
    json_array_foreach (tags, at, tag) {
        const struct text text = {json_string_value(tag), json_string_length(tag)};
        if (!text.at)
            return refuse(entry->error, "a tag is no string");
        if (!catalog_list_add_tag(entry->list, entry->image, text, entry->error))
            return false;
    }
    return true;
}

/* OS/ARCHITECTURE[/VARIANT] of each manifest of an index. */
static bool read_platforms(const struct entry *entry, const json_t *manifests) {
    size_t at;
    json_t *manifest;
    json_array_foreach (manifests, at, manifest) {
        struct text os = string_in(manifest, "os");
        struct text architecture = string_in(manifest, "architecture");
        struct text variant = string_in(manifest, "variant");
        char platform[CATALOG_WORD_LIMIT + 1];
        if (!os.length || !architecture.length)
            continue;
        int length =
            snprintf(platform, sizeof platform, "%.*s/%.*s%s%.*s", TEXT_PRINT(os),
                     TEXT_PRINT(architecture), variant.length ? "/" : "", TEXT_PRINT(variant));
        if (length >= (int)sizeof platform)
            continue;
        if (!catalog_list_add_platform(entry->list, entry->image, text_of(platform), entry->error))
            return false;
    }
    return true;
}

static void read_time(const json_t *object, const char *key, int64_t *us) {
    struct text text = string_in(object, key);
    int64_t told = text.length && strlen(text.at) == text.length ? catalog_time_parse(text.at)
                                                                 : CATALOG_UNTOLD;
    if (told != CATALOG_UNTOLD)
        *us = told;
}

/* An int64 is a string in the JSON of Google's APIs; a number is taken as well. */
static void read_size(const json_t *object, int64_t *size) {
    const json_t *member = json_object_get(object, "imageSizeBytes");
    uint64_t number = json_integer_value(member) > 0 ? (uint64_t)json_integer_value(member) : 0;
    if (json_is_string(member))
        text_to_u64(string_in(object, "imageSizeBytes"), &number);
    if (number > 0 && number <= INT64_MAX)
        *size = (int64_t)number;
}

static bool read_word(const struct entry *entry, const json_t *object, const char *key,
                      const char **word) {
    const char *told;
    if (!catalog_list_keep_word(entry->list, string_in(object, key), &told, entry->error))
        return false;
    if (told)
        *word = told;
    return true;
}

static bool read_entry(const json_t *object, const struct artifact_wanted *wanted,
                       struct catalog_list *list, struct error *error) {
    struct artifact_name name;
    struct digest digest;
    cleanup_buffer struct buffer shown = {0};
    if (!json_is_object(object))
        return refuse(error, "an entry is no object");
    if (!read_uri(string_in(object, "uri"), wanted, &name, &digest, error))
        return false;
    if (!is_wanted(wanted, &name, &shown))
        return true;
    if (shown.failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    struct entry entry = {wanted, list, NULL, error};
    entry.image = catalog_list_enter(list, text_of(shown.bytes), &digest, error);
    if (!entry.image || !read_tags(&entry, json_object_get(object, "tags")) ||
        !read_platforms(&entry, json_object_get(object, "imageManifests")) ||
        !read_word(&entry, object, "mediaType", &entry.image->media_type) ||
        !read_word(&entry, object, "artifactType", &entry.image->artifact_type))
        return false;
    read_time(object, "uploadTime", &entry.image->uploaded_us);
    read_time(object, "buildTime", &entry.image->created_us);
    read_size(object, &entry.image->size);
    return true;
}

/* ---- a page ---- */

static bool read_token(const json_t *page, struct buffer *token, struct error *error) {
    const json_t *member = json_object_get(page, "nextPageToken");
    struct text text = string_in(page, "nextPageToken");
    if (!member || json_is_null(member))
        return true;
    if (!text.at || strlen(text.at) != text.length || text.length > ARTIFACT_TOKEN_LIMIT)
        return refuse(error, "its nextPageToken is not a string of at most %d bytes",
                      ARTIFACT_TOKEN_LIMIT);
    return buffer_append(token, text.at, text.length) ||
           error_set(error, ERROR_MEMORY, "out of memory");
}

bool artifact_page_read(const void *bytes, size_t length, const struct artifact_wanted *wanted,
                        struct catalog_list *list, struct buffer *token, struct error *error) {
    struct error reason = {0};
    char why[200]; /* quotes the page */
    size_t at;
    json_t *entry;
    cleanup_json json_t *page = bounded_json_load(bytes, length, &reason);
    if (!page && reason.kind == ERROR_MEMORY)
        return error_set(error, ERROR_MEMORY, "out of memory");
    copy_printable(text_of(reason.text), why, sizeof why);
    if (!page)
        return refuse(error, "it is %s", why);
    if (!json_is_object(page))
        return refuse(error, "it is no JSON object");
    if (json_object_get(page, "error"))
        return refuse(error, "it holds an error");
    const json_t *images = json_object_get(page, "dockerImages");
    if (images && !json_is_null(images) && !json_is_array(images))
        return refuse(error, "its dockerImages is no array");
    json_array_foreach (images, at, entry) {
        if (!read_entry(entry, wanted, list, error))
            return false;
    }
    return read_token(page, token, error);
}

/* ---- errors ---- */

/* "projects/123" or "projects/my-project" of a metadata map, without the prefix. */
static void read_consumer(const json_t *detail, struct artifact_failure *out) {
    struct text consumer = string_in(json_object_get(detail, "metadata"), "consumer");
    if (!consumer.at || !text_starts(consumer, "projects/"))
        return;
    consumer = text_from(consumer, strlen("projects/"));
    for (size_t i = 0; i < consumer.length; i++) {
        char c = consumer.at[i];
        if (!isalnum((unsigned char)c) && (c == '\0' || !strchr("-.:_", c)))
            return;
    }
    text_copy(consumer, out->consumer, sizeof out->consumer);
}

void artifact_page_read_failure(const void *bytes, size_t length, struct artifact_failure *out) {
    size_t at;
    json_t *detail;
    *out = (struct artifact_failure){0};
    cleanup_json json_t *json = bounded_json_load(bytes, length, NULL);
    const json_t *error = json_object_get(json, "error");
    copy_printable(string_in(error, "message"), out->message, sizeof out->message);
    copy_printable(string_in(error, "status"), out->status, sizeof out->status);
    json_array_foreach (json_object_get(error, "details"), at, detail) {
        struct text reason = string_in(detail, "reason");
        if (!reason.length || out->reason[0])
            continue;
        copy_printable(reason, out->reason, sizeof out->reason);
        read_consumer(detail, out);
    }
}
