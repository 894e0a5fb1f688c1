/*
 * Reads an image of an archive as `docker save` writes it: manifest.json names the config and the
 * layers of each image. The config's bytes stay as they are. A layer that is not compressed is
 * compressed as it is read, always to the same bytes; so it is compressed once more before, to know
 * its digest, because there is no place where it could be kept.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <zlib.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "copy/describe.h"
#include "copy/small.h"
#include "copy/sources.h"
#include "copy/untar.h"
#include "oci/manifest.h"

#define OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define OCI_LAYER  "application/vnd.oci.image.layer.v1.tar"

enum {
    MANIFEST_JSON_LIMIT = 4 << 20,
    LINKS_LIMIT = 8, /* links that lead to links */
    LAYERS_LIMIT = 1000,
    DEFLATED_SIZE = 64 << 10,
    GZIP_WINDOW = 15 + 16, /* zlib: a gzip header */
    GZIP_MEMORY = 8,
};

/* One file of the archive. */
struct member {
    char *name; /* owned; clean */
    char *link; /* owned: the clean name of another member; NULL: a file */
    uint64_t size;
    UT_hash_handle hh;
};

enum layer_form { LAYER_PLAIN, LAYER_GZIP, LAYER_ZSTD };

struct layer {
    char *name; /* owned: of a member that is a file */
    enum layer_form form;
    struct digest digest; /* of what is handed out; algorithm 0: not known yet */
    uint64_t size;
    struct digest diff_id;
};

struct archive_source {
    struct copy_source source;
    struct copy_reference reference;
    struct member *members;
    struct buffer config;
    struct digest config_digest;
    struct layer *layers; /* owned */
    size_t layer_count;
    struct copy_names tags;
};

static struct archive_source *own_of(struct copy_source *source) {
    return (struct archive_source *)source;
}

static bool refuse(const struct archive_source *own, struct error *error, const char *why) {
    return error_set(error, ERROR_INVALID, "docker-archive:%s: %s", own->reference.path, why);
}

/* ---- the members ---- */

static bool add_member(struct archive_source *own, struct archive_entry *entry,
                       struct error *error) {
    char name[COPY_UNTAR_NAME_LIMIT + 1], link[COPY_UNTAR_NAME_LIMIT + 1] = "";
    const char *given = archive_entry_pathname(entry), *target = archive_entry_symlink(entry);
    const char *hard = archive_entry_hardlink(entry);
    bool is_file = archive_entry_filetype(entry) == AE_IFREG;
    if (!given || !copy_untar_clean_name(NULL, given, name) || (!is_file && !target && !hard))
        return true; /* it can be nothing that is asked for */
    if ((target && !copy_untar_clean_name(name, target, link)) ||
        (hard && !copy_untar_clean_name(NULL, hard, link)))
        return true; /* a link that leads outside leads nowhere */
    struct member *member, *known;
    HASH_FIND_STR(own->members, name, known);
    if (known) {
        HASH_DEL(own->members, known);
        free(known->name);
        free(known->link);
        free(known);
    }
    member = calloc(1, sizeof *member);
    if (!member)
        return error_set(error, ERROR_MEMORY, "out of memory");
    member->name = text_dup(text_of(name));
    member->link = link[0] ? text_dup(text_of(link)) : NULL;
    member->size = (uint64_t)archive_entry_size(entry);
    if (member->name && (!link[0] || member->link))
        HASH_ADD_KEYPTR(hh, own->members, member->name, strlen(member->name), member);
    if (member->hh.tbl)
        return true;
    free(member->name);
    free(member->link);
    free(member);
    return error_set(error, ERROR_MEMORY, "out of memory");
}

static bool read_members(struct archive_source *own, struct error *error) {
    struct archive *archive = copy_untar_open(own->reference.path, error);
    struct archive_entry *entry = NULL;
    size_t count = 0;
    bool ok = archive != NULL;
    while (ok && copy_untar_next(archive, own->reference.path, &entry, error) && entry) {
        ok = count++ < COPY_UNTAR_ENTRIES ? add_member(own, entry, error)
                                          : refuse(own, error, "it has too many files");
    }
    ok = ok && !entry;
    archive_read_free(archive);
    return ok;
}

/* The file that the name means, through links. */
static const struct member *find_member(const struct archive_source *own, const char *given,
                                        struct error *error) {
    char name[COPY_UNTAR_NAME_LIMIT + 1];
    struct member *member = NULL;
    if (!copy_untar_clean_name(NULL, given, name)) {
        error_set(error, ERROR_INVALID, "docker-archive:%s: the name %.200s leads outside of it",
                  own->reference.path, given);
        return NULL;
    }
    for (unsigned links = 0; links <= LINKS_LIMIT; links++) {
        HASH_FIND_STR(own->members, name, member);
        if (!member || !member->link)
            break;
        snprintf(name, sizeof name, "%s", member->link);
    }
    if (member && !member->link)
        return member;
    error_set(error, ERROR_NOT_FOUND, "docker-archive:%s: it has no file %.200s",
              own->reference.path, given);
    return NULL;
}

/* Calls `take` with the bytes of a file. */
static bool read_member(const struct archive_source *own, const char *name,
                        bool (*take)(void *context, const void *bytes, size_t length,
                                     struct error *error),
                        void *context, struct error *error) {
    const char *path = own->reference.path;
    struct archive *archive = copy_untar_open(path, error);
    struct archive_entry *entry;
    char is[COPY_UNTAR_NAME_LIMIT + 1];
    bool ok = archive != NULL, found = false;
    while (ok && !found) {
        ok = copy_untar_next(archive, path, &entry, error);
        if (ok && !entry)
            ok = refuse(own, error, "it has changed while it was read");
        const char *given = ok ? archive_entry_pathname(entry) : NULL;
        found = given && archive_entry_filetype(entry) == AE_IFREG &&
                !archive_entry_hardlink(entry) && copy_untar_clean_name(NULL, given, is) &&
                strcmp(is, name) == 0;
    }
    ok = ok && copy_untar_read(archive, path, take, context, error);
    archive_read_free(archive);
    return ok;
}

/* ---- small files ---- */

static bool gather(void *context, const void *bytes, size_t length, struct error *error) {
    struct buffer *out = context;
    return buffer_append(out, bytes, length) ||
           (length > out->limit - out->length
                ? error_set(error, ERROR_INVALID, "a file of the archive has more than %zu bytes",
                            out->limit)
                : error_set(error, ERROR_MEMORY, "out of memory"));
}

static bool read_small(const struct archive_source *own, const char *name, size_t limit,
                       struct buffer *out, struct error *error) {
    const struct member *member = find_member(own, name, error);
    out->limit = limit;
    return member && read_member(own, member->name, gather, out, error);
}

/* ---- which image ---- */

/* Whether the image has the name that the reference names. Gathers its tags. */
static bool has_name(const struct archive_source *own, const json_t *image) {
    char wanted[HOST_LIMIT + NAME_LIMIT + TAG_LIMIT + 4];
    const struct copy_reference *reference = &own->reference;
    const json_t *tag;
    size_t i;
    snprintf(wanted, sizeof wanted, "%s%s%s:%s", reference->name.host,
             reference->name.host[0] ? "/" : "", reference->name.path, reference->tag);
    json_array_foreach (json_object_get(image, "RepoTags"), i, tag) {
        if (json_is_string(tag) && strcmp(json_string_value(tag), wanted) == 0)
            return true;
    }
    return false;
}

static const json_t *choose(const struct archive_source *own, const json_t *images,
                            struct error *error) {
    const json_t *image;
    size_t i;
    if (!json_array_size(images)) {
        refuse(own, error, "its manifest.json names no image");
        return NULL;
    }
    if (!own->reference.name.path[0] && json_array_size(images) == 1)
        return json_array_get(images, 0);
    json_array_foreach (images, i, image) {
        if (own->reference.name.path[0] && has_name(own, image))
            return image;
    }
    cleanup_buffer struct buffer there = {.limit = 300};
    json_array_foreach (images, i, image) {
        const json_t *first = json_array_get(json_object_get(image, "RepoTags"), 0);
        if (json_is_string(first))
            buffer_printf(&there, "%s%s", there.length ? ", " : "", json_string_value(first));
    }
    error_set(error, ERROR_NOT_FOUND, "docker-archive:%s: %s; it has: %s", own->reference.path,
              own->reference.name.path[0] ? "it has no image of that name"
                                          : "it has several images, name one",
              there.length ? there.bytes : "none with a name");
    return NULL;
}

static bool add_layers(struct archive_source *own, const json_t *names, struct error *error) {
    size_t i;
    const json_t *name;
    own->layers = calloc(json_array_size(names) + 1, sizeof *own->layers);
    if (!own->layers)
        return error_set(error, ERROR_MEMORY, "out of memory");
    json_array_foreach (names, i, name) {
        const struct member *member =
            json_is_string(name) ? find_member(own, json_string_value(name), error) : NULL;
        if (!member)
            return json_is_string(name) ? false
                                        : refuse(own, error, "its manifest.json is malformed");
        struct layer *layer = &own->layers[own->layer_count++];
        layer->name = text_dup(text_of(member->name));
        layer->size = member->size;
        if (!layer->name)
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    return true;
}

/* What the config says that each layer has when it is not compressed. */
static bool read_diff_ids(struct archive_source *own, struct error *error) {
    cleanup_json json_t *json =
        bounded_json_load_by(0, own->config.bytes, own->config.length, error);
    const json_t *ids = json_object_get(json_object_get(json, "rootfs"), "diff_ids");
    if (!json)
        return error_wrap(error, "docker-archive:%s: the config", own->reference.path);
    if (json_array_size(ids) != own->layer_count)
        return refuse(own, error, "its config names another number of layers than manifest.json");
    for (size_t i = 0; i < own->layer_count; i++) {
        const json_t *id = json_array_get(ids, i);
        if (!digest_parse((struct text){json_string_value(id), json_string_length(id)},
                          &own->layers[i].diff_id))
            return refuse(own, error, "its config has a malformed diff_id");
    }
    return true;
}

static bool add_tags(struct archive_source *own, const json_t *names) {
    size_t i;
    const json_t *name;
    json_array_foreach (names, i, name) {
        const char *text = json_string_value(name), *colon = text ? strrchr(text, ':') : NULL;
        if (colon && reference_is_tag(text_of(colon + 1)) &&
            !copy_names_add(&own->tags, text_of(colon + 1)))
            return false;
    }
    copy_names_settle(&own->tags);
    return true;
}

static bool read_image(struct archive_source *own, const json_t *image, struct error *error) {
    const json_t *config = json_object_get(image, "Config"),
                 *layers = json_object_get(image, "Layers");
    if (!json_is_string(config) || !json_is_array(layers) || json_array_size(layers) > LAYERS_LIMIT)
        return refuse(own, error, "its manifest.json is malformed");
    if (!add_tags(own, json_object_get(image, "RepoTags")))
        return error_set(error, ERROR_MEMORY, "out of memory");
    return read_small(own, json_string_value(config), COPY_SMALL_LIMIT, &own->config, error) &&
           (digest_of(DIGEST_SHA256, own->config.bytes, own->config.length, &own->config_digest) ||
            error_set(error, ERROR_MEMORY, "out of memory")) &&
           add_layers(own, layers, error) && read_diff_ids(own, error);
}

/* ---- layers ---- */

/* A layer that is read, and compressed if need be. */
struct reading {
    const struct layer *layer;
    const struct copy_read *read; /* who takes the bytes; NULL: nobody, they are only described */
    uint64_t at;                  /* of what is handed out */
    bool is_deflating;
    z_stream deflate;
    unsigned char *out;        /* owned */
    struct digest_hash *hash;  /* of what is handed out */
    struct digest_hash *plain; /* of what came, when it is not compressed; NULL: unwanted */
    struct error *error;
};

/* Hands out what is wanted of the bytes. */
static bool pass_on(struct reading *reading, const unsigned char *bytes, size_t length) {
    const struct copy_read *read = reading->read;
    uint64_t first = reading->at, end = reading->at + length;
    reading->at = end;
    if (reading->hash)
        digest_hash_update(reading->hash, bytes, length);
    if (!read || end <= read->first || first > read->last)
        return true;
    size_t skip = read->first > first ? (size_t)(read->first - first) : 0;
    size_t wanted = length - skip;
    if (read->last != UINT64_MAX && read->last - (first + skip) < wanted)
        wanted = (size_t)(read->last - (first + skip)) + 1;
    return read->on_bytes(read->context, bytes + skip, wanted, reading->error);
}

static bool run_deflate(struct reading *reading, int flush) {
    int status;
    do {
        reading->deflate.next_out = reading->out;
        reading->deflate.avail_out = DEFLATED_SIZE;
        status = deflate(&reading->deflate, flush);
        size_t length = DEFLATED_SIZE - reading->deflate.avail_out;
        if (length && !pass_on(reading, reading->out, length))
            return false;
    } while (reading->deflate.avail_out == 0);
    return status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR;
}

static bool take_plain(void *context, const void *bytes, size_t length, struct error *error) {
    struct reading *reading = context;
    const struct copy_read *read = reading->read;
    reading->error = error;
    if (read && read->stop && atomic_load(read->stop))
        return error_set(error, ERROR_CLOSED, "stopped");
    if (reading->plain)
        digest_hash_update(reading->plain, bytes, length);
    if (!reading->is_deflating)
        return pass_on(reading, bytes, length);
    reading->deflate.next_in = (Bytef *)(uintptr_t)bytes;
    reading->deflate.avail_in = (uInt)length;
    return run_deflate(reading, Z_NO_FLUSH);
}

static bool read_layer(const struct archive_source *own, struct reading *reading,
                       struct error *error) {
    const struct layer *layer = reading->layer;
    if (layer->form == LAYER_PLAIN) {
        reading->out = malloc(DEFLATED_SIZE);
        if (!reading->out || deflateInit2(&reading->deflate, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                                          GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
            free(reading->out);
            return error_set(error, ERROR_MEMORY, "out of memory");
        }
        reading->is_deflating = true;
    }
    bool ok = read_member(own, layer->name, take_plain, reading, error);
    if (ok && reading->is_deflating) {
        reading->error = error;
        reading->deflate.next_in = NULL;
        reading->deflate.avail_in = 0;
        ok = run_deflate(reading, Z_FINISH);
    }
    if (reading->is_deflating)
        deflateEnd(&reading->deflate);
    free(reading->out);
    return ok;
}

/* The first bytes of a layer. */
struct beginning {
    unsigned char bytes[8];
    size_t length;
};

static bool take_beginning(void *context, const void *bytes, size_t length, struct error *error) {
    struct beginning *beginning = context;
    size_t room = sizeof beginning->bytes - beginning->length;
    if (length > room)
        length = room;
    memcpy(beginning->bytes + beginning->length, bytes, length);
    beginning->length += length;
    return beginning->length < sizeof beginning->bytes ||
           error_set(error, ERROR_CLOSED, "that is enough");
}

static bool find_form(const struct archive_source *own, struct layer *layer, struct error *error) {
    struct beginning beginning = {.length = 0};
    struct error why = {0};
    if (!read_member(own, layer->name, take_beginning, &beginning, &why) &&
        why.kind != ERROR_CLOSED) {
        if (error)
            *error = why;
        return false;
    }
    layer->form = copy_untar_is_gzip(beginning.bytes, beginning.length)   ? LAYER_GZIP
                  : copy_untar_is_zstd(beginning.bytes, beginning.length) ? LAYER_ZSTD
                                                                          : LAYER_PLAIN;
    return true;
}

/* Finds out digest and size of what will be handed out, and checks the diff_id of a layer that is
 * not compressed. */
static bool describe_layer(const struct archive_source *own, struct layer *layer,
                           struct error *error) {
    struct reading reading = {.layer = layer, .hash = digest_hash_new(DIGEST_SHA256)};
    struct digest plain;
    char text[DIGEST_STRING_SIZE];
    bool is_plain = layer->form == LAYER_PLAIN;
    reading.plain = is_plain ? digest_hash_new(layer->diff_id.algorithm) : NULL;
    bool ok = (reading.hash && (!is_plain || reading.plain)) ||
              error_set(error, ERROR_MEMORY, "out of memory");
    ok = ok && read_layer(own, &reading, error);
    if (ok) {
        digest_hash_finish(reading.hash, &layer->digest);
        layer->size = reading.at;
    }
    if (ok && is_plain) {
        digest_hash_finish(reading.plain, &plain);
        ok = digest_equal(&plain, &layer->diff_id) ||
             error_set(error, ERROR_CORRUPT,
                       "docker-archive:%s: the layer %s has another digest than its config says",
                       own->reference.path, digest_format(&layer->diff_id, text));
    }
    digest_hash_free(reading.hash);
    digest_hash_free(reading.plain);
    return ok;
}

static bool describe_layers(struct archive_source *own, struct error *error) {
    for (size_t i = 0; i < own->layer_count; i++) {
        if (!find_form(own, &own->layers[i], error) || !describe_layer(own, &own->layers[i], error))
            return false;
    }
    return true;
}

/* ---- the manifest ---- */

static json_t *descriptor_of(const char *type, const struct digest *digest, uint64_t size) {
    char text[DIGEST_STRING_SIZE];
    return json_pack("{s:s, s:I, s:s}", "mediaType", type, "size", (json_int_t)size, "digest",
                     digest_format(digest, text));
}

/* OCI's types: they are the only ones that a layout may have, and every registry takes them. */
static bool write_manifest(const struct archive_source *own, struct buffer *out) {
    cleanup_json json_t *layers = json_array();
    for (size_t i = 0; i < own->layer_count; i++) {
        const struct layer *layer = &own->layers[i];
        const char *type = layer->form == LAYER_ZSTD ? OCI_LAYER "+zstd" : OCI_LAYER "+gzip";
        json_array_append_new(layers, descriptor_of(type, &layer->digest, layer->size));
    }
    cleanup_json json_t *json = json_pack(
        "{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType", MEDIA_OCI_MANIFEST, "config",
        descriptor_of(OCI_CONFIG, &own->config_digest, own->config.length), "layers", layers);
    return json_array_size(layers) == own->layer_count && json &&
           bounded_json_dump(json, JSON_COMPACT, out);
}

static bool get_manifest(struct copy_source *source, const char *reference,
                         struct copy_manifest *out, struct error *error) {
    const struct archive_source *own = own_of(source);
    struct digest wanted;
    if (!write_manifest(own, &out->bytes))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!copy_describe(out, NULL, NULL, error))
        return false;
    return !digest_parse(text_of(reference), &wanted) || digest_equal(&wanted, &out->digest) ||
           error_set(error, ERROR_NOT_FOUND, "docker-archive:%s: it has no image %s",
                     own->reference.path, reference);
}

static bool read_blob(struct copy_source *source, const struct copy_read *read,
                      struct error *error) {
    const struct archive_source *own = own_of(source);
    char text[DIGEST_STRING_SIZE];
    struct reading reading = {.read = read, .error = error};
    if (digest_equal(&read->digest, &own->config_digest))
        return pass_on(&reading, (const unsigned char *)own->config.bytes, own->config.length);
    for (size_t i = 0; i < own->layer_count; i++) {
        reading.layer = &own->layers[i];
        if (digest_equal(&read->digest, &own->layers[i].digest))
            return read_layer(own, &reading, error);
    }
    return error_set(error, ERROR_NOT_FOUND, "docker-archive:%s: it has no blob %s",
                     own->reference.path, digest_format(&read->digest, text));
}

static bool get_referrers(struct copy_source *source, const struct digest *subject,
                          struct buffer *index, struct error *error) {
    cleanup_json json_t *none = json_array();
    (void)source, (void)subject;
    return copy_describe_index(none, index) || error_set(error, ERROR_MEMORY, "out of memory");
}

static bool list_tags(struct copy_source *source, struct copy_names *out, struct error *error) {
    const struct archive_source *own = own_of(source);
    for (size_t i = 0; i < own->tags.count; i++) {
        if (!copy_names_add(out, text_of(own->tags.at[i])))
            return error_set(error, ERROR_MEMORY, "out of memory");
    }
    return true;
}

/* ---- its life ---- */

static void free_source(struct copy_source *source) {
    struct archive_source *own = own_of(source);
    struct member *member, *next;
    HASH_ITER (hh, own->members, member, next) {
        HASH_DEL(own->members, member);
        free(member->name);
        free(member->link);
        free(member);
    }
    for (size_t i = 0; i < own->layer_count; i++)
        free(own->layers[i].name);
    free(own->layers);
    buffer_finish(&own->config);
    copy_names_finish(&own->tags);
    free(own);
}

static const struct copy_source_kind kind = {
    .get_manifest = get_manifest,
    .read_blob = read_blob,
    .get_referrers = get_referrers,
    .list_tags = list_tags,
    .free = free_source,
};

static bool open_archive(struct archive_source *own, struct error *error) {
    cleanup_buffer struct buffer bytes = {0};
    if (!read_members(own, error) ||
        !read_small(own, "manifest.json", MANIFEST_JSON_LIMIT, &bytes, error))
        return false;
    cleanup_json json_t *images = bounded_json_load_by(0, bytes.bytes, bytes.length, error);
    if (!images)
        return error_wrap(error, "docker-archive:%s: manifest.json", own->reference.path);
    const json_t *image = choose(own, images, error);
    return image && read_image(own, image, error) && describe_layers(own, error);
}

struct copy_source *copy_archive_source_open(const struct copy_reference *reference,
                                             struct error *error) {
    struct archive_source *own = calloc(1, sizeof *own);
    if (!own) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    own->source = (struct copy_source){.kind = &kind, .is_sequential = true};
    own->reference = *reference;
    if (open_archive(own, error))
        return &own->source;
    free_source(&own->source);
    return NULL;
}
