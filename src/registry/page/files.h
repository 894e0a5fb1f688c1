/*
 * The files of the page that are the same for everybody: style, script and icon. They are embedded
 * in the binary. The page names each with the hash of its content, so that browsers may keep them
 * for ever.
 *
 * Any thread.
 */
#ifndef PAGE_FILES_H
#define PAGE_FILES_H

#include "base/text.h"

enum { FILES_HASH_SIZE = 17 };

struct files_file {
    const char *path; /* "/tarn/page.css" */
    const char *media_type;
    struct text content;
    char hash[FILES_HASH_SIZE]; /* of the content, hexadecimal */
};

/* NULL: there is no such file. */
const struct files_file *files_find(struct text path);

/* The templates: "page", "overview", "search", "image". */
struct text files_template(const char *name);

#endif
