/* The embedded files of the page. */
#include "registry/page/files.h"

#include <stddef.h>
#include "page_files.h" /* made by embed.py at build time */

#define TEXT_OF_ARRAY(array)                                                                       \
    { (const char *)(array), sizeof(array) }

static const struct files_file files[] = {
    {"/tarn/page.css", "text/css; charset=utf-8", TEXT_OF_ARRAY(page_css), HASH_page_css},
    {"/tarn/page.js", "text/javascript; charset=utf-8", TEXT_OF_ARRAY(page_js), HASH_page_js},
    {"/tarn/page.svg", "image/svg+xml", TEXT_OF_ARRAY(page_svg), HASH_page_svg},
};

static const struct {
    const char *name;
    struct text content;
} templates[] = {
    {"page", TEXT_OF_ARRAY(page_html)},     {"overview", TEXT_OF_ARRAY(overview_html)},
    {"search", TEXT_OF_ARRAY(search_html)}, {"image", TEXT_OF_ARRAY(image_html)},
    {"images", TEXT_OF_ARRAY(images_html)},
};

const struct files_file *files_find(struct text path) {
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (text_is(path, files[i].path))
            return &files[i];
    }
    return NULL;
}

struct text files_template(const char *name) {
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++) {
        if (text_is(text_of(name), templates[i].name))
            return templates[i].content;
    }
    return (struct text){"", 0};
}
