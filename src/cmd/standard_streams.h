/* Standard input and output for commands that handle secrets: with a limit, and without copies in
 * the buffers of stdio. */
#ifndef CMD_STANDARD_STREAMS_H
#define CMD_STANDARD_STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buffer.h"

/* Reads all of standard input; the caller wipes it. False: it is longer than `limit` bytes, or
 * cannot be read. */
bool standard_input_read(size_t limit, struct buffer *out);

/* False: not all could be written, and the reason is on standard error. */
bool standard_output_write(const struct buffer *bytes);

#endif
