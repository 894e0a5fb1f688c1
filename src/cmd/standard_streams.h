/* Standard input and output of the commands that pass secrets on: bounded, and without copies in
 * stdio's buffers. */
#ifndef CMD_STANDARD_STREAMS_H
#define CMD_STANDARD_STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"

/* All of it, to be wiped; false: longer than `limit` bytes, or unreadable. */
bool standard_input_read(size_t limit, struct buffer *out);

/* False: not all could be written, which is told on standard error. */
bool standard_output_write(const struct buffer *bytes);

#endif
