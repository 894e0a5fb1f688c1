/* The file of records: reading, appending, and writing it anew. */
#include "node/snapshot/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <zlib.h>
#include "base/cleanup.h"
#include "base/file.h"

#define FILE_NAME "records"
#define NEW_NAME  "records.new"

enum {
    HEAD_SIZE = 9,         /* eight digits and a space */
    SLACK_BYTES = 1 << 20, /* of a file that is not worth writing anew */
};

/* ---- reading ---- */

static unsigned long sum_of(struct text record) {
    return crc32(crc32(0, NULL, 0), (const unsigned char *)record.at, (unsigned)record.length);
}

static int digit_of(char character) {
    if (character >= '0' && character <= '9')
        return character - '0';
    return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

/* The record of a line without its end. False: the line is torn or damaged. */
static bool parse_line(struct text line, struct text *record) {
    unsigned long sum = 0;
    if (line.length <= HEAD_SIZE || line.at[HEAD_SIZE - 1] != ' ')
        return false;
    for (size_t i = 0; i < HEAD_SIZE - 1; i++) {
        int digit = digit_of(line.at[i]);
        if (digit < 0)
            return false;
        sum = sum << 4 | (unsigned long)digit;
    }
    *record = text_from(line, HEAD_SIZE);
    return sum_of(*record) == sum;
}

/* Whether a whole record stands anywhere in the bytes. */
static bool has_record(struct text rest) {
    struct text record;
    while (rest.at) {
        struct text line = text_cut(rest, '\n', &rest);
        if (rest.at && parse_line(line, &record))
            return true;
    }
    return false;
}

/* Hands over all records, and sets the journal's length to where they end. */
static bool replay_all(struct journal *journal, struct text bytes,
                       bool (*replay)(void *, struct text, struct error *), void *context,
                       struct error *error) {
    struct text rest = bytes, record;
    while (rest.at && rest.length > 0) {
        struct text line = text_cut(rest, '\n', &rest);
        if (!rest.at || !parse_line(line, &record)) {
            if (!has_record(rest))
                return true;
            return error_set(error, ERROR_CORRUPT,
                             "the line at byte %llu is damaged, and others follow",
                             (unsigned long long)journal->length);
        }
        if (!replay(context, record, error))
            return error_wrap(error, "the line at byte %llu", (unsigned long long)journal->length);
        journal->length += line.length + 1;
    }
    return true;
}

/* ---- writing ---- */

/* Removes the part of a record that may stand at the end. */
static bool cut_off(struct journal *journal, struct error *error) {
    if (ftruncate(journal->fd, (off_t)journal->length) != 0 || fdatasync(journal->fd) != 0)
        return error_set_errno(error, errno, "cutting off half a record");
    journal->torn = false;
    return true;
}

void journal_add_line(struct buffer *lines, struct text record) {
    buffer_printf(lines, "%08lx ", sum_of(record));
    buffer_append(lines, record.at, record.length);
    buffer_append_string(lines, "\n");
}

bool journal_append(struct journal *journal, struct text record, struct error *error) {
    cleanup_buffer struct buffer line = {.limit = JOURNAL_RECORD_LIMIT};
    journal_add_line(&line, record);
    if (line.failed)
        return error_set(error, ERROR_BUSY, "a record of %zu bytes is too long", record.length);
    if (journal->length + line.length > JOURNAL_LIMIT)
        return error_set(error, ERROR_BUSY, "the file of records has reached its limit of %d bytes",
                         JOURNAL_LIMIT);
    if (journal->torn && !cut_off(journal, error))
        return false;
    journal->torn = true;
    if (!file_write_all_at(journal->fd, line.bytes, line.length, journal->length, error) ||
        (fdatasync(journal->fd) != 0 &&
         !error_set_errno(error, errno, "writing a record to the disk"))) {
        struct error ignored;
        cut_off(journal, &ignored); /* or before the next record */
        return error_wrap(error, "the file of records");
    }
    journal->torn = false;
    journal->length += line.length;
    return true;
}

bool journal_is_due(const struct journal *journal) {
    return journal->length > SLACK_BYTES + 2 * journal->fresh;
}

bool journal_rewrite(struct journal *journal, const struct buffer *lines, struct error *error) {
    if (lines->failed)
        return error_set(error, ERROR_MEMORY, "out of memory");
    cleanup_close int fd = openat(journal->folder, NEW_NAME,
                                  O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "making " NEW_NAME);
    if (!file_write_all_at(fd, lines->bytes, lines->length, 0, error))
        return error_wrap(error, NEW_NAME);
    if (fdatasync(fd) != 0 || renameat(journal->folder, NEW_NAME, journal->folder, FILE_NAME) != 0)
        return error_set_errno(error, errno, "putting " NEW_NAME " in its place");
    close(journal->fd);
    journal->fd = take_fd(fd);
    journal->length = journal->fresh = lines->length;
    journal->torn = false;
    return fsync(journal->folder) == 0 ||
           error_set_errno(error, errno, "writing the folder to the disk");
}

bool journal_open(struct journal *journal, int folder,
                  bool (*replay)(void *context, struct text record, struct error *error),
                  void *context, struct error *error) {
    size_t length = 0;
    *journal = (struct journal){.folder = folder, .fd = -1};
    journal->fd = openat(folder, FILE_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (journal->fd < 0)
        return error_set_errno(error, errno, "opening the file of records");
    cleanup_free char *bytes =
        file_read_open(journal->fd, JOURNAL_LIMIT, FILE_REGULAR, &length, NULL, error);
    if (!bytes || !replay_all(journal, (struct text){bytes, length}, replay, context, error) ||
        (journal->length < length && !cut_off(journal, error)) ||
        (fsync(folder) != 0 && !error_set_errno(error, errno, "writing the folder to the disk"))) {
        journal_close(journal);
        return error_wrap(error, "the file of records");
    }
    return true;
}

void journal_close(struct journal *journal) {
    if (journal->folder && journal->fd >= 0)
        close(journal->fd);
    journal->fd = -1;
}
