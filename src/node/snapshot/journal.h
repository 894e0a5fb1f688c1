/*
 * One file of records, each on the disk before its change is answered for.
 *
 * A record is a line: eight hexadecimal digits, the CRC-32 of what follows; a space; the record's
 * text, which has no line end; a line end. A process that is killed while it writes leaves a part
 * of the last line, which is cut off at the next start. A wrong line that is followed by others is
 * damage, and the journal is not opened.
 *
 * When most of the file is about entries that are gone, the owner writes it anew: under another
 * name first, which then takes the file's place. One thread at a time.
 */
#ifndef NODE_SNAPSHOT_JOURNAL_H
#define NODE_SNAPSHOT_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"

enum {
    JOURNAL_LIMIT = 256 << 20,      /* bytes of the file */
    JOURNAL_RECORD_LIMIT = 1 << 20, /* bytes of one record */
};

struct journal {
    int folder;      /* the caller's */
    int fd;          /* -1: closed */
    uint64_t length; /* bytes of whole records */
    uint64_t fresh;  /* bytes of the file when it was last written anew */
    bool torn;       /* a part of a record may stand behind `length` */
};

/* Opens the file `records` in `folder`, or makes an empty one, and hands each record to `replay`.
 * False: ERROR_CORRUPT (with the place in the file), ERROR_IO, ERROR_NO_SPACE, ERROR_MEMORY, or
 * what `replay` says. */
bool journal_open(struct journal *journal, int folder,
                  bool (*replay)(void *context, struct text record, struct error *error),
                  void *context, struct error *error);
void journal_close(struct journal *journal); /* a zeroed or an opened one */

/* Appends one record. False: the record is not in the file, and will not be found there. */
bool journal_append(struct journal *journal, struct text record, struct error *error);

/* Whether it is time to write the file anew. */
bool journal_is_due(const struct journal *journal);

/* Appends a record to the lines with which journal_rewrite() replaces the file. */
void journal_add_line(struct buffer *lines, struct text record);

/* Replaces the file. False: the old one is still in use, or the new one is and may not survive a
 * loss of power. */
bool journal_rewrite(struct journal *journal, const struct buffer *lines, struct error *error);

#endif
