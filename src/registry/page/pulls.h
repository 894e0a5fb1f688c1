/*
 * How often each image was pulled, and when last: a table of fixed size, so that a client that
 * names any number of images costs no memory.
 *
 * An image is known by a keyed hash of its repository and digest. When its set is full, a new image
 * takes the place of the one with the fewest pulls, and goes on from that one's number (as the
 * "space-saving" counters of Metwally et al. do), so that an image that is pulled often is never
 * missing for long.
 *
 * Threads: any; pulls_note() takes no lock for an image that the table has.
 */
#ifndef PAGE_PULLS_H
#define PAGE_PULLS_H

#include <stdatomic.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/lock.h"
#include "base/siphash.h"
#include "oci/digest.h"
#include "oci/reference.h"

enum { PULLS_SETS = 256, PULLS_WAYS = 4 };

struct pulls {
    struct siphash_key key;
    struct lock change_lock; /* held while an entry gets another image */
    struct pulls_entry {
        _Atomic uint64_t image; /* 0: empty */
        _Atomic uint32_t count;
        _Atomic uint32_t last_s; /* wall seconds */
    } table[PULLS_SETS][PULLS_WAYS];
};

void pulls_init(struct pulls *pulls);
void pulls_finish(struct pulls *pulls);

/* Counts a pull of the manifest at `now_s`, wall seconds. */
void pulls_note(struct pulls *pulls, const struct repository_name *repository,
                const struct digest *digest, int64_t now_s);

/* How often the image was pulled; 0 when the table does not have it. *last_s is the time of the
 * last pull. */
uint32_t pulls_of(const struct pulls *pulls, const struct repository_name *repository,
                  const struct digest *digest, int64_t *last_s);

/* ---- for the file ---- */

size_t pulls_length(void);
void pulls_write(const struct pulls *pulls, struct buffer *out);
/* Takes pulls_length() bytes off `rest`; before the first pull is noted. */
void pulls_read(struct pulls *pulls, struct text *rest);

#endif
