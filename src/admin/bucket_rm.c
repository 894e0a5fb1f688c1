/* Removes images from the bucket: their links. */
#include <stdlib.h>
#include <string.h>
#include "admin/bucket_orders.h"
#include "base/buffer.h"
#include "base/log.h"
#include "cache/share.h"

enum { LINK_BYTES = 512, PAGE = 200 };

#define TAGS    "/_manifests/tags/"
#define CURRENT "/current/link"

/* One pass over the links of the repositories that may match. */
struct removal {
    struct order_target *target;
    const struct image_pattern *pattern;
    const struct cancel *cancel;
    const struct line_sink *sink;
    uint64_t *removed;
    char *keys[PAGE]; /* of this page: what may have to go; owned */
    size_t count;
};

/* ---- which keys ---- */

/* The tag to which the key belongs: its current link, or one of a former registry's index. */
static bool tag_of(const char *key, struct repository_name *name, char tag[static TAG_LIMIT + 1]) {
    char current[SHARE_KEY_SIZE];
    const char *tags = strstr(key, TAGS);
    if (!tags)
        return false;
    const char *end = strchr(tags + strlen(TAGS), '/');
    if (!end || (size_t)(end - key) + sizeof CURRENT > sizeof current)
        return false;
    snprintf(current, sizeof current, "%.*s" CURRENT, (int)(end - key), key);
    return share_parse_tag(text_of(current), name, tag);
}

/* The beginning of all keys that may match; of a pattern with globs, that of all repositories. */
static const char *prefix_of(const struct image_pattern *pattern, char out[static SHARE_KEY_SIZE]) {
    struct repository_name name;
    struct text path;
    struct text host = text_cut(text_of(pattern->repository), '/', &path);
    snprintf(out, SHARE_KEY_SIZE, "%s", SHARE_REPOSITORIES);
    if (path.at && !strpbrk(pattern->repository, "*?") &&
        repository_name_parse(host, path, &name)) {
        share_key_tag(out, &name, "x");
        char *end = strstr(out, TAGS);
        if (end)
            end[1] = '\0';
    }
    return out;
}

static bool take_key(void *context, const struct bucket_entry *entry, struct error *error) {
    struct removal *removal = context;
    if (removal->count == PAGE)
        return error_set(error, ERROR_UNAVAILABLE, "the bucket's list has pages that are too long");
    removal->keys[removal->count] = strdup(entry->key);
    return removal->keys[removal->count++] || error_set(error, ERROR_MEMORY, "out of memory");
}

/* ---- whether a key has to go ---- */

static bool read_digest(struct removal *removal, const char *key, struct digest *digest) {
    const struct bucket_limits limits = {.cancel = removal->cancel};
    cleanup_buffer struct buffer bytes = {0};
    return bucket_read(removal->target->bucket, key, LINK_BYTES, &bytes, &limits, NULL, NULL) &&
           share_parse_link((struct text){bytes.bytes, bytes.length}, digest);
}

static bool is_current(const char *key) {
    return text_ends(text_of(key), CURRENT);
}

static bool matches_tag(struct removal *removal, const char *key,
                        const struct repository_name *name, const char *tag,
                        struct digest *digest) {
    const struct image_pattern *pattern = removal->pattern;
    if (!image_pattern_matches_repository(pattern, name))
        return false;
    if (is_current(key))
        read_digest(removal, key, digest);
    return image_pattern_is_whole(pattern) || image_pattern_matches_tag(pattern, tag, digest);
}

static bool write_removed(struct removal *removal, const struct repository_name *name,
                          const char *tag, const struct digest *digest, struct error *error) {
    char text[DIGEST_STRING_SIZE];
    ++*removal->removed;
    log_at(LOG_INFO, "image removed from the bucket", LOG_STRING("upstream", name->host),
           LOG_STRING("repository", name->path), LOG_STRING("tag", tag),
           LOG_STRING("digest", digest_format(digest, text)));
    return line_write(removal->sink,
                      json_pack("{s:s, s:s, s:s?, s:o, s:b}", "upstream", name->host, "repository",
                                name->path, "tag", tag, "digest", line_digest(digest), "bucket",
                                true),
                      error);
}

static bool remove_key(struct removal *removal, const char *key, struct error *error) {
    const struct bucket_limits limits = {.cancel = removal->cancel};
    const struct image_pattern *pattern = removal->pattern;
    struct repository_name name;
    struct digest digest = {0};
    char tag[TAG_LIMIT + 1];
    bool goes, is_tag = tag_of(key, &name, tag), is_revision = false;
    if (is_tag) {
        goes = matches_tag(removal, key, &name, tag, &digest);
    } else {
        is_revision = share_parse_revision(text_of(key), &name, &digest);
        goes = (is_revision || share_parse_layer(text_of(key), &name, &digest)) &&
               image_pattern_matches_repository(pattern, &name) &&
               (image_pattern_is_whole(pattern) || digest_equal(&pattern->digest, &digest));
    }
    if (!goes)
        return true;
    if (!bucket_delete(removal->target->bucket, key, &limits, NULL, error))
        return false;
    bool is_image = is_tag ? is_current(key) : is_revision && !image_pattern_is_whole(pattern);
    return !is_image || write_removed(removal, &name, is_tag ? tag : NULL, &digest, error);
}

static bool remove_page(struct removal *removal, struct error *error) {
    bool ok = true;
    for (size_t i = 0; i < removal->count; i++) {
        ok = ok && remove_key(removal, removal->keys[i], error);
        free(removal->keys[i]);
    }
    removal->count = 0;
    return ok;
}

bool bucket_orders_rm(struct order_target *target, const struct image_pattern *pattern,
                      const struct line_sink *sink, uint64_t *removed, struct error *error) {
    const struct cancel cancel = {target->stopping, sink->is_wanted, sink->context};
    const struct bucket_limits limits = {.cancel = &cancel};
    struct removal removal = {
        .target = target, .pattern = pattern, .cancel = &cancel, .sink = sink, .removed = removed};
    char prefix[SHARE_KEY_SIZE];
    if (!target->bucket || bucket_settings(target->bucket)->read_only)
        return true;
    struct bucket_list list = {.prefix = prefix_of(pattern, prefix), .page = PAGE};
    bool ok = true;
    while (ok && !list.done) {
        bool listed =
            bucket_list_page(target->bucket, &list, take_key, &removal, &limits, NULL, error);
        ok = remove_page(&removal, listed ? error : NULL) && listed;
    }
    bucket_list_finish(&list);
    return ok;
}
