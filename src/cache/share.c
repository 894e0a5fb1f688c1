/* The names of the objects in a bucket that several tarns share. */
#include "cache/share.h"

#include <stdio.h>
#include <string.h>

#define LINK         "/link"
#define DATA         "/data"
#define LAYERS       "/_layers/"
#define REVISIONS    "/_manifests/revisions/"
#define TAGS         "/_manifests/tags/"
#define CURRENT_LINK "/current/link"

/* ---- writing keys ---- */

/* The digest's two parts; what digest_format() writes, with the ':' replaced. */
struct parts {
    char text[DIGEST_STRING_SIZE];
    const char *algorithm, *hex;
};

static void split(const struct digest *digest, struct parts *parts) {
    digest_format(digest, parts->text);
    char *colon = strchr(parts->text, ':');
    parts->algorithm = parts->text;
    parts->hex = colon ? colon + 1 : "";
    if (colon)
        *colon = '\0';
}

static const char *by_digest(char out[static SHARE_KEY_SIZE], const char *folder,
                             const struct digest *digest, const char *end) {
    struct parts parts;
    split(digest, &parts);
    snprintf(out, SHARE_KEY_SIZE, "%s%s/%.2s/%s%s", folder, parts.algorithm, parts.hex, parts.hex,
             end);
    return out;
}

const char *share_key_blob(char out[static SHARE_KEY_SIZE], const struct digest *digest) {
    return by_digest(out, SHARE_BLOBS, digest, DATA);
}

const char *share_key_used(char out[static SHARE_KEY_SIZE], const struct digest *digest) {
    return by_digest(out, SHARE_USED, digest, "");
}

/* The host as a part of a repository's name at a plain registry. */
static void write_host(char out[static HOST_LIMIT + 1], const char *host) {
    size_t length = strnlen(host, HOST_LIMIT);
    for (size_t i = 0; i < length; i++) {
        bool is_upper = host[i] >= 'A' && host[i] <= 'Z';
        out[i] = host[i] == ':' ? '_' : is_upper ? (char)(host[i] - 'A' + 'a') : host[i];
    }
    out[length] = '\0';
}

static const char *by_repository(char out[static SHARE_KEY_SIZE],
                                 const struct repository_name *name, const char *folder,
                                 const struct digest *digest) {
    struct parts parts;
    char host[HOST_LIMIT + 1];
    split(digest, &parts);
    write_host(host, name->host);
    snprintf(out, SHARE_KEY_SIZE, SHARE_REPOSITORIES "%s/%s%s%s/%s" LINK, host, name->path, folder,
             parts.algorithm, parts.hex);
    return out;
}

const char *share_key_layer(char out[static SHARE_KEY_SIZE], const struct repository_name *name,
                            const struct digest *digest) {
    return by_repository(out, name, LAYERS, digest);
}

const char *share_key_revision(char out[static SHARE_KEY_SIZE], const struct repository_name *name,
                               const struct digest *digest) {
    return by_repository(out, name, REVISIONS, digest);
}

const char *share_key_tags(char out[static SHARE_KEY_SIZE], const struct repository_name *name) {
    char host[HOST_LIMIT + 1];
    write_host(host, name->host);
    snprintf(out, SHARE_KEY_SIZE, SHARE_REPOSITORIES "%s/%s" TAGS, host, name->path);
    return out;
}

const char *share_key_tag(char out[static SHARE_KEY_SIZE], const struct repository_name *name,
                          const char *tag) {
    char tags[SHARE_KEY_SIZE];
    snprintf(out, SHARE_KEY_SIZE, "%.*s%s" CURRENT_LINK,
             SHARE_KEY_SIZE - TAG_LIMIT - (int)sizeof CURRENT_LINK, share_key_tags(tags, name),
             tag);
    return out;
}

/* ---- reading keys ---- */

/* Takes `end` off the end of the key. */
static bool take_end(struct text *key, const char *end) {
    if (!text_ends(*key, end))
        return false;
    key->length -= strlen(end);
    return true;
}

static bool take_start(struct text *key, const char *start) {
    if (!text_starts(*key, start))
        return false;
    *key = text_from(*key, strlen(start));
    return true;
}

static bool parse_parts(struct text algorithm, struct text hex, struct digest *digest) {
    char text[DIGEST_STRING_SIZE];
    int length = snprintf(text, sizeof text, "%.*s:%.*s", TEXT_PRINT(algorithm), TEXT_PRINT(hex));
    return length > 0 && (size_t)length < sizeof text &&
           digest_parse((struct text){text, (size_t)length}, digest);
}

/* "sha256/AB/HEX" */
static bool parse_by_digest(struct text key, struct digest *digest) {
    struct text rest, hex;
    struct text algorithm = text_cut(key, '/', &rest);
    if (!rest.at)
        return false;
    struct text first = text_cut(rest, '/', &hex);
    return hex.at && first.length == 2 && hex.length > 2 && memcmp(first.at, hex.at, 2) == 0 &&
           parse_parts(algorithm, hex, digest);
}

bool share_parse_blob(struct text key, struct digest *digest) {
    return take_start(&key, SHARE_BLOBS) && take_end(&key, DATA) && parse_by_digest(key, digest);
}

bool share_parse_used(struct text key, struct digest *digest) {
    return take_start(&key, SHARE_USED) && parse_by_digest(key, digest);
}

/* "HOST/NAME" */
static bool parse_name(struct text text, struct repository_name *name) {
    char host[HOST_LIMIT + 1];
    struct text path;
    struct text first = text_cut(text, '/', &path);
    if (!path.at || !text_copy(first, host, sizeof host))
        return false;
    for (char *at = host; *at; at++)
        *at = *at == '_' ? ':' : *at;
    return repository_name_parse(text_of(host), path, name);
}

/* Splits "HOST/NAME FOLDER REST". No part of a name begins with '_', so the first one ends it. */
static bool parse_repository(struct text key, const char *folder, struct repository_name *name,
                             struct text *rest) {
    if (!take_start(&key, SHARE_REPOSITORIES))
        return false;
    const char *at = memmem(key.at, key.length, "/_", 2);
    if (!at)
        return false;
    size_t length = (size_t)(at - key.at);
    *rest = text_from(key, length);
    return take_start(rest, folder) && parse_name((struct text){key.at, length}, name);
}

static bool parse_link_key(struct text key, const char *folder, struct repository_name *name,
                           struct digest *digest) {
    struct text rest, hex;
    if (!take_end(&key, LINK) || !parse_repository(key, folder, name, &rest))
        return false;
    struct text algorithm = text_cut(rest, '/', &hex);
    return hex.at && parse_parts(algorithm, hex, digest);
}

bool share_parse_layer(struct text key, struct repository_name *name, struct digest *digest) {
    return parse_link_key(key, LAYERS, name, digest);
}

bool share_parse_revision(struct text key, struct repository_name *name, struct digest *digest) {
    return parse_link_key(key, REVISIONS, name, digest);
}

bool share_parse_tag(struct text key, struct repository_name *name,
                     char tag[static TAG_LIMIT + 1]) {
    struct text rest;
    return take_end(&key, CURRENT_LINK) && parse_repository(key, TAGS, name, &rest) &&
           reference_is_tag(rest) && text_copy(rest, tag, TAG_LIMIT + 1);
}

/* ---- links ---- */

bool share_parse_link(struct text bytes, struct digest *digest) {
    while (bytes.length && strchr(" \t\r\n", bytes.at[bytes.length - 1]))
        bytes.length--;
    return digest_parse(bytes, digest);
}
