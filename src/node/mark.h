/*
 * The mark at the head of each file that tarn alone writes on a node: two lines of comment.
 *
 *   # Written by "tarn mirror". "tarn mirror remove" deletes it; do not edit it.
 *   # tarn-mirror {"url": "http://127.0.0.1:5000", "folders": ["/etc/docker"], "digest":
 * "sha256:…"}
 *
 * A file without the mark, or one that was edited (its digest is wrong), belongs to somebody else
 * and is never overwritten or deleted. TOML takes the lines as comments, and readers of PEM pass
 * over them. Pure. Private to node/.
 */
#ifndef NODE_MARK_H
#define NODE_MARK_H

#include <jansson.h>
#include <stdbool.h>
#include "base/buffer.h"
#include "base/text.h"

enum { MARK_URL_SIZE = 512 };

struct mark {
    char url[MARK_URL_SIZE]; /* of the tarn that the file leads to */
    json_t *folders;         /* owned; the paths of all folders that tarn made on the node */
};
void mark_finish(struct mark *mark);

/* Appends the mark and `body`. */
bool mark_write(const char *url, json_t *folders, struct text body, struct buffer *out);

enum mark_found {
    MARK_MISSING, /* the file is somebody else's */
    MARK_EDITED,  /* tarn wrote it, and somebody changed it; *out is filled as far as it is known */
    MARK_FOUND,   /* *out is filled */
};
/* The caller calls mark_finish() either way. */
enum mark_found mark_read(struct text file, struct mark *out);

#endif
