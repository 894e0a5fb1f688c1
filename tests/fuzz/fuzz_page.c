/* What the page reads and writes: its history of any bytes, and text that cannot leave its element.
 * The first byte decides which. */
#include "base/buffer.h"
#include "fuzz.h"
#include "registry/page/catalog.h"
#include "registry/page/html.h"
#include "registry/page/pulls.h"
#include "registry/page/saved.h"
#include "registry/page/timeline.h"

enum { NOW = 1800000000 };

/* A file with a right checksum, whose content repeats the input. */
static void read_history(const uint8_t *bytes, size_t length) {
    static struct history history;
    static struct pulls pulls;
    struct history_figures totals[HISTORY_RANGES];
    struct buffer file = {0}, html = {0};
    struct text rest;
    const size_t content = history_length() + pulls_length();
    saved_begin(&file);
    for (size_t i = 0; i < content; i++)
        buffer_append(&file, &bytes[i % length], 1);
    MUST(saved_end(&file) && saved_open((struct text){file.bytes, file.length}, content, &rest));
    history_read(&history, &rest, NOW);
    pulls_init(&pulls);
    pulls_read(&pulls, &rest);
    MUST(rest.length == 0);
    for (enum history_range range = 0; range < HISTORY_RANGES; range++)
        totals[range] = history_total(&history, range, NOW);
    timeline_write(&html, &history, totals, NOW);
    MUST(!html.failed && html.length < 400000 && !memmem(html.bytes, html.length, "nan", 3));
    pulls_finish(&pulls);
    buffer_finish(&file);
    buffer_finish(&html);
    MUST(!saved_open((struct text){(const char *)bytes, length}, content, &rest));
}

static void write_text(const uint8_t *bytes, size_t length) {
    struct buffer out = {0};
    html_text_of(&out, (struct text){(const char *)bytes, length});
    for (size_t i = 0; i < out.length; i++)
        MUST(!strchr("<>\"'\x01\n", out.bytes[i]));
    html_put_host(&out, (struct text){(const char *)bytes, length}, "a<b");
    buffer_finish(&out);
}

static void search(const uint8_t *bytes, size_t length) {
    struct catalog_image image = {.host = "a.test",
                                  .path = "org/app",
                                  .tags = {"1", "latest"},
                                  .tags_here = 2,
                                  .digest = {.algorithm = DIGEST_SHA256}};
    char text[200] = "";
    text_copy((struct text){(const char *)bytes, length}, text, sizeof text);
    bool found = catalog_matches(&image, text);
    MUST(found || text[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    if (length < 2)
        return 0;
    if (bytes[0] % 3 == 0)
        read_history(bytes + 1, length - 1);
    else if (bytes[0] % 3 == 1)
        write_text(bytes + 1, length - 1);
    else
        search(bytes + 1, length - 1);
    return 0;
}
