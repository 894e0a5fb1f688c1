/* The page of one image: its tags, platforms and layers, and what of them is stored. */
#include <stdio.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/json.h"
#include "cache/image.h"
#include "cache/repository.h"
#include "registry/page/commands.h"
#include "registry/page/html.h"
#include "registry/page/page_private.h"
#include "store/blobs.h"
#include "store/records.h"

enum {
    PLATFORMS_SHOWN = 40,
    LAYERS_SHOWN = 150,     /* of one platform */
    TAGS_SHOWN = 60,        /* of the repository */
    CONFIG_LIMIT = 1 << 20, /* bytes of a config that are read for its platform */
    FLIGHTS_READ = 200,
};

/* What the page is written from. */
struct image_view {
    struct view view; /* first: the same address */
    struct repository_name repository;
    struct digest digest;
    char tag[TAG_LIMIT + 1]; /* by which it was asked for; "" when by digest */
    char name[VIEW_IMAGE_NAME];
    bool is_found;
    struct image image;
    struct manifest manifest;
    struct repository_records records;
    struct flight_figures *flights; /* transfers under way */
    size_t flight_count;
    unsigned layers_left; /* that may still be shown */
};

/* ---- which image ---- */

/* HOST/NAME:TAG or HOST/NAME@DIGEST, as in the links of the pages. */
static bool parse_name(struct image_view *image, struct text name) {
    struct text path, reference = {NULL, 0}, host = text_cut(name, '/', &path);
    struct reference parsed;
    if (!path.at)
        return false;
    const char *at = memchr(path.at, '@', path.length), *colon = memrchr(path.at, ':', path.length);
    const char *mark = at ? at : colon;
    if (!mark)
        return false;
    reference = text_from(path, (size_t)(mark - path.at) + 1);
    path.length = (size_t)(mark - path.at);
    if (!repository_name_parse(host, path, &image->repository) ||
        !reference_parse(reference, &parsed) || parsed.is_digest != (at != NULL))
        return false;
    image->digest = parsed.digest;
    memcpy(image->tag, parsed.tag, sizeof image->tag);
    return true;
}

/* Whether the repository holds the image and some of it is stored. */
static bool find_image(struct image_view *image) {
    struct store *store = image->view.page->settings.store;
    struct tag_record record;
    if (image->tag[0]) {
        if (!store_tag_get(store, &image->repository, image->tag, &record))
            return false;
        image->digest = record.digest;
    }
    return repository_records_read(store, &image->repository, &image->records, NULL) &&
           digest_set_has(&image->records.manifests, &image->digest) &&
           image_read(store, &image->digest, &image->image, NULL) && image->image.bytes > 0;
}

static void read_flights(struct image_view *image) {
    image->flights = calloc(FLIGHTS_READ, sizeof *image->flights);
    if (!image->flights)
        return;
    const size_t count =
        cache_flights(image->view.page->settings.cache, image->flights, FLIGHTS_READ);
    image->flight_count = count < FLIGHTS_READ ? count : FLIGHTS_READ;
}

/* ---- one blob ---- */

/* Whether a blob is stored: "yes", how far its transfer is, or "no". */
static void write_stored(const struct image_view *image, const struct digest *digest,
                         struct buffer *out) {
    struct store_blob blob;
    char text[DIGEST_STRING_SIZE];
    if (store_blob_find(image->view.page->settings.store, digest, &blob)) {
        buffer_append_string(out, "<span class=\"good\">cached</span>, used ");
        html_ago(out, blob.last_used_s, image->view.now_s);
        return;
    }
    digest_format(digest, text);
    for (size_t i = 0; i < image->flight_count; i++) {
        const struct flight_figures *flight = &image->flights[i];
        if (strcmp(flight->digest, text) != 0 || !flight->size)
            continue;
        buffer_printf(out, "<progress max=\"%llu\" value=\"%llu\" aria-label=\"On its way\">",
                      (unsigned long long)flight->size, (unsigned long long)flight->present);
        buffer_append_string(out, "</progress> ");
        html_percent(out, flight->present, flight->size);
        return;
    }
    buffer_append_string(out, "<span class=\"off\">not cached</span>");
}

static void write_digest(const struct digest *digest, struct buffer *out) {
    char text[DIGEST_STRING_SIZE];
    digest_format(digest, text);
    buffer_printf(out, "<code title=\"%s\">%.19s</code>", text, text);
}

/* ---- one platform ---- */

static const char *part_name(enum descriptor_role role) {
    return role == DESCRIPTOR_CONFIG ? "config" : role == DESCRIPTOR_LAYER ? "layer" : "subject";
}

static void write_part(struct image_view *image, const struct descriptor *part,
                       struct buffer *out) {
    buffer_printf(out, "<tr data-key=\"p%u\"><th scope=\"row\">%s ", image->layers_left,
                  part_name(part->role));
    write_digest(&part->digest, out);
    buffer_append_string(out, "<br><small>");
    html_text(out, part->media_type);
    buffer_append_string(out, "</small><td class=\"number\">");
    html_size(out, part->size);
    buffer_append_string(out, "<td>");
    write_stored(image, &part->digest, out);
    buffer_append_string(out, "</tr>\n");
}

static void write_parts(struct image_view *image, const struct manifest *manifest,
                        struct buffer *out) {
    buffer_append_string(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
                              "aria-label=\"Layers\"><table><thead><tr><th scope=\"col\">Part<th "
                              "scope=\"col\" class=\"number\">Size<th scope=\"col\">In the cache"
                              "</thead><tbody>\n");
    size_t shown = 0;
    for (; shown < manifest->count && image->layers_left > 0; shown++, image->layers_left--)
        write_part(image, &manifest->descriptors[shown], out);
    buffer_append_string(out, "</tbody></table></div>");
    if (shown < manifest->count)
        buffer_printf(out, "<p>And %zu more.</p>", manifest->count - shown);
}

/* Reads "os/architecture/variant" from the config of a manifest, if it is stored. */
static bool read_platform(const struct image_view *image, const struct manifest *manifest,
                          char *out, size_t size) {
    cleanup_buffer struct buffer bytes = {0};
    if (!manifest->count || manifest->descriptors[0].role != DESCRIPTOR_CONFIG ||
        !store_blob_peek(image->view.page->settings.store, &manifest->descriptors[0].digest,
                         CONFIG_LIMIT, &bytes, NULL) ||
        !bytes.length)
        return false;
    cleanup_json json_t *config = bounded_json_load(bytes.bytes, bytes.length, NULL);
    const char *os = json_string_value(json_object_get(config, "os")),
               *architecture = json_string_value(json_object_get(config, "architecture")),
               *variant = json_string_value(json_object_get(config, "variant"));
    if (!os || !architecture || !*os)
        return false;
    snprintf(out, size, "%s/%s%s%s", os, architecture, variant ? "/" : "", variant ? variant : "");
    return true;
}

static void write_summary_of(struct image_view *image, const struct digest *digest,
                             const struct image *parts, struct buffer *out) {
    write_digest(digest, out);
    buffer_append_string(out, ", ");
    html_size(out, parts->bytes);
    buffer_append_string(out, parts->complete ? " cached, <span class=\"good\">complete</span>"
                                              : " cached, <span class=\"off\">in part</span>");
    if (parts->last_used_s) {
        buffer_append_string(out, ", used ");
        html_ago(out, parts->last_used_s, image->view.now_s);
    }
}

/* One platform of an index. */
static void write_platform(struct image_view *image, const struct descriptor *child,
                           struct buffer *out) {
    struct store *store = image->view.page->settings.store;
    cleanup_image struct image parts = {0};
    struct manifest manifest = {0};
    buffer_append_string(out, "<details><summary><strong>");
    html_text(out, child->os[0] ? child->os : "unknown");
    buffer_append_string(out, "/");
    html_text(out, child->architecture[0] ? child->architecture : "unknown");
    if (child->variant[0]) {
        buffer_append_string(out, "/");
        html_text(out, child->variant);
    }
    buffer_append_string(out, "</strong> ");
    if (image_read(store, &child->digest, &parts, NULL) && parts.bytes)
        write_summary_of(image, &child->digest, &parts, out);
    else
        buffer_append_string(out, "<span class=\"off\">not cached</span>");
    buffer_append_string(out, "</summary>");
    if (image_read_manifest(store, &child->digest, &manifest) && !manifest.is_index)
        write_parts(image, &manifest, out);
    else
        buffer_append_string(out, "<p class=\"calm\">Its layers are known once it is pulled.</p>");
    manifest_finish(&manifest);
    buffer_append_string(out, "</details>");
}

static void write_platforms(struct image_view *image, struct buffer *out) {
    const struct manifest *index = &image->manifest;
    size_t shown = 0, all = 0;
    for (size_t i = 0; i < index->count; i++) {
        if (index->descriptors[i].role != DESCRIPTOR_MANIFEST)
            continue;
        if (all++ < PLATFORMS_SHOWN) {
            image->layers_left = LAYERS_SHOWN;
            write_platform(image, &index->descriptors[i], out);
            shown++;
        }
    }
    if (all > shown)
        buffer_printf(out, "<p>And %zu more.</p>", all - shown);
}

/* ---- the page ---- */

static void write_facts(struct image_view *image, struct buffer *out) {
    char digest[DIGEST_STRING_SIZE], platform[100];
    int64_t last_s;
    const uint32_t pulls =
        pulls_of(&image->view.page->pulls, &image->repository, &image->digest, &last_s);
    buffer_printf(out, "<dl class=\"facts\"><dt>Digest<dd><code>%s</code>",
                  digest_format(&image->digest, digest));
    buffer_append_string(out, "<dt>In the cache<dd>");
    html_size(out, image->image.bytes);
    buffer_append_string(out, image->image.complete ? ", <span class=\"good\">complete</span>"
                                                    : ", <span class=\"off\">in part</span>");
    if (image->image.pinned)
        buffer_append_string(out, ", pinned");
    buffer_append_string(out, "<dt>Last use<dd>");
    html_ago(out, last_s > image->image.last_used_s ? last_s : image->image.last_used_s,
             image->view.now_s);
    buffer_append_string(out, "<dt>Pulls<dd>");
    html_number(out, pulls);
    if (read_platform(image, &image->manifest, platform, sizeof platform)) {
        buffer_append_string(out, "<dt>Platform<dd>");
        html_text(out, platform);
    }
    buffer_append_string(out, "</dl>");
}

static void write_tag(const struct image_view *image, const char *tag, struct buffer *out) {
    char name[VIEW_IMAGE_NAME];
    snprintf(name, sizeof name, "%s/%s:%s", image->repository.host, image->repository.path, tag);
    buffer_append_string(out, "<li><a href=\"./?image=");
    html_parameter(out, name);
    buffer_append_string(out, "\">");
    html_text(out, tag);
    buffer_append_string(out, "</a></li>");
}

/* The tags of the repository that name this image, or the others. */
static void write_tags(const struct image_view *image, bool of_this, const char *heading,
                       struct buffer *out) {
    size_t count = 0;
    for (size_t i = 0; i < image->records.tag_count; i++) {
        const struct repository_tag *tag = &image->records.tags[i];
        if (digest_equal(&tag->digest, &image->digest) != of_this)
            continue;
        if (!count)
            buffer_printf(out, "<h2>%s</h2><ul class=\"tags\">", heading);
        if (count++ < TAGS_SHOWN)
            write_tag(image, tag->tag, out);
    }
    if (count)
        buffer_append_string(out, "</ul>");
    if (count > TAGS_SHOWN)
        buffer_printf(out, "<p>And %zu more.</p>", count - TAGS_SHOWN);
}

static void write_content(struct image_view *image, struct buffer *out) {
    if (!image->is_found) {
        buffer_append_string(out, "<p>This cache has no such image, or you may not pull it.</p>");
        return;
    }
    write_facts(image, out);
    buffer_append_string(out, "<h2>Commands</h2><div class=\"clients\">");
    commands_write_image(&image->view, image->name, out);
    buffer_append_string(out, "</div>");
    write_tags(image, true, "Tags", out);
    if (image->manifest.is_index) {
        buffer_append_string(out, "<h2>Platforms</h2>");
        write_platforms(image, out);
    } else {
        buffer_append_string(out, "<h2>Layers</h2>");
        image->layers_left = LAYERS_SHOWN;
        write_parts(image, &image->manifest, out);
    }
    write_tags(image, false, "Other tags of the repository", out);
}

static void fill(void *context, struct text name, struct buffer *out) {
    struct image_view *image = context;
    char repository[HOST_LIMIT + NAME_LIMIT + 2] = "";
    if (image->is_found)
        snprintf(repository, sizeof repository, "%s/%s", image->repository.host,
                 image->repository.path);
    if (text_is(name, "heading"))
        html_text(out, image->is_found ? image->name : "No such image");
    else if (text_is(name, "repository"))
        html_text(out, repository[0] ? repository : "Images");
    else if (text_is(name, "repository-link"))
        html_parameter(out, repository);
    else if (text_is(name, "content"))
        write_content(image, out);
}

static void image_view_free(struct image_view *image) {
    manifest_finish(&image->manifest);
    image_finish(&image->image);
    repository_records_finish(&image->records);
    free(image->flights);
    free(image);
}

bool image_page_write(struct view *view, struct text name, struct buffer *out) {
    char digest[DIGEST_STRING_SIZE], title[VIEW_IMAGE_NAME + 8];
    struct image_view *image = calloc(1, sizeof *image);
    if (!image) {
        out->failed = true;
        return true;
    }
    image->view = *view;
    image->is_found = parse_name(image, name) &&
                      view_may_see(view, image->repository.host, image->repository.path) &&
                      find_image(image);
    if (image->is_found) {
        image_read_manifest(view->page->settings.store, &image->digest, &image->manifest);
        read_flights(image);
        snprintf(image->name, sizeof image->name, "%s/%s%s%s", image->repository.host,
                 image->repository.path, image->tag[0] ? ":" : "@",
                 image->tag[0] ? image->tag : digest_format(&image->digest, digest));
    }
    snprintf(title, sizeof title, "%s - tarn", image->is_found ? image->name : "No such image");
    image->view.title = title;
    image->view.main = "image";
    image->view.fill = fill;
    view_write(&image->view, out);
    const bool is_found = image->is_found;
    image_view_free(image);
    return is_found;
}
