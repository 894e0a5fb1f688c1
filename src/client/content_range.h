/* The field Content-Range (RFC 9110 §14.4), and whether it fits the request. Pure; hostile input.
 */
#ifndef CLIENT_CONTENT_RANGE_H
#define CLIENT_CONTENT_RANGE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/text.h"

struct content_range {
    bool satisfied; /* first and last are set; false: the form with an asterisk, as in a 416 */
    uint64_t first, last;
    bool has_total;
    uint64_t total;
};

/* False: malformed, or the range lies outside the total that it names. */
bool content_range_parse(struct text value, struct content_range *out);

/* Whether a 206 with this range fits the request: it begins where the request does and ends no
 * later; the range of a suffix request ends at the last byte. `suffix` not 0: the last `suffix`
 * bytes were asked for; else [first, last], where last UINT64_MAX means: to the end. */
bool content_range_fits(const struct content_range *range, uint64_t first, uint64_t last,
                        uint64_t suffix);

#endif
