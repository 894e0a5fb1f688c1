/* Content-Range (RFC 9110 §14.4) and whether it answers what was asked. Pure. */
#ifndef CLIENT_CONTENT_RANGE_H
#define CLIENT_CONTENT_RANGE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/text.h"

struct content_range {
    bool satisfied; /* first and last are set: not the form with an asterisk, as a 416 has it */
    uint64_t first, last;
    bool has_total;
    uint64_t total;
};

/* False: malformed, or a range outside the total it names. */
bool content_range_parse(struct text value, struct content_range *out);

/* Whether a 206 answers the request: it begins where asked, ends no later, and a suffix is the very
 * end. `suffix` not 0: the last so many bytes; else [first, last], last UINT64_MAX: to the end. */
bool content_range_answers(const struct content_range *range, uint64_t first, uint64_t last,
                           uint64_t suffix);

#endif
