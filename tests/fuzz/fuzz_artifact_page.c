/* Pages of Artifact Registry's REST API, and its errors: what enters the list is by the grammar, of
 * the wanted repository, and can be written as JSON. */
#include <string.h>
#include "base/json.h"
#include "catalog/artifact_page.h"
#include "catalog/select.h"
#include "fuzz.h"
#include "oci/reference.h"

static void must_be_printable(const char *text, size_t size) {
    MUST(strnlen(text, size) < size);
    for (; *text; text++)
        MUST(*text >= ' ' && *text <= '~');
}

static void check_image(const struct catalog_image *image, const char *shown) {
    cleanup_buffer struct buffer line = {0};
    MUST(strncmp(image->repository, shown, strlen(shown)) == 0);
    MUST(image->digest.algorithm && image->size != 0 && image->uploaded_us != 0);
    for (uint32_t i = 0; i < image->tag_count; i++) {
        MUST(reference_is_tag(text_of(image->tags[i])));
        MUST(i == 0 || strcmp(image->tags[i - 1], image->tags[i]) < 0);
    }
    catalog_image_append_json(image, &line);
    MUST(!line.failed && !memchr(line.bytes, '\n', line.length));
    json_t *json = bounded_json_load(line.bytes, line.length, NULL);
    MUST(json_object_size(json) == 9);
    json_decref(json);
}

static void read_page(const void *bytes, size_t length, const char *path) {
    cleanup_catalog_list struct catalog_list list = {0};
    cleanup_buffer struct buffer token = {0}, shown = {0};
    struct artifact_name name;
    struct error error = {0};
    const struct catalog_selection selection = {.all = true};
    MUST(artifact_name_parse(text_of("gcr.io"), text_of(path), &name));
    MUST(buffer_printf(&shown, "gcr.io/%s", path));
    const struct artifact_wanted wanted = {.name = &name, .shown = shown.bytes};
    bool ok = artifact_page_read(bytes, length, &wanted, &list, &token, &error);
    MUST(ok == (error.kind == ERROR_NONE));
    must_be_printable(error.text, sizeof error.text);
    MUST(token.length <= ARTIFACT_TOKEN_LIMIT);
    catalog_list_seal(&list);
    catalog_list_select(&list, &selection);
    for (size_t i = 0; i < list.count; i++)
        check_image(&list.images[i], shown.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct artifact_failure failure;
    read_page(bytes, length, "p/app");
    read_page(bytes, length, "p");
    artifact_page_read_failure(bytes, length, &failure);
    must_be_printable(failure.message, sizeof failure.message);
    must_be_printable(failure.status, sizeof failure.status);
    must_be_printable(failure.reason, sizeof failure.reason);
    must_be_printable(failure.consumer, sizeof failure.consumer);
    return 0;
}
