/*
 * The form of ROOT/history: little-endian numbers behind a magic line, and a SHA-256 of all bytes
 * before it at the end. A file of another length or with other bytes is none.
 *
 * Pure; any thread.
 */
#ifndef PAGE_SAVED_H
#define PAGE_SAVED_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/text.h"

void saved_put_u32(struct buffer *out, uint32_t number);
void saved_put_u64(struct buffer *out, uint64_t number);

/* Takes a number off the front of `rest`; 0 when it is too short. */
uint32_t saved_take_u32(struct text *rest);
uint64_t saved_take_u64(struct text *rest);

/* Begins a file in an empty buffer, and ends it. False: out of memory. */
void saved_begin(struct buffer *out);
bool saved_end(struct buffer *out);

/* Checks a whole file of `content` bytes between the magic and the checksum, and sets *rest to
 * these. */
bool saved_open(struct text file, size_t content, struct text *rest);
size_t saved_length(size_t content); /* of the whole file */

#endif
