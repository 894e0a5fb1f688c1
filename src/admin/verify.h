/* The order that hashes what is stored. Threads: any. */
#ifndef ADMIN_VERIFY_H
#define ADMIN_VERIFY_H

#include "admin/target.h"

struct verify_options {
    bool repair;  /* set blobs with wrong bytes aside */
    int64_t rate; /* bytes a second; 0: no limit; -1: ORDER_VERIFY_RATE when a cache runs on the
                     store, else no limit */
};
enum { ORDER_VERIFY_RATE = 64 << 20 };

/* Hashes every blob. Writes {"blobs","bytes","of_blobs","of_bytes"} five times a second,
 * {"bad":DIGEST,"error":WHY,"set_aside":B} for each blob whose bytes are wrong, and
 * {"unreadable":DIGEST,"error":WHY} for each that could not be hashed, which stays. The last line
 * has "blobs", "bytes" and "repaired": whether `repair` was asked for and every bad blob was set
 * aside. */
bool order_verify(struct order_target *target, const struct verify_options *options,
                  const struct line_sink *sink, struct error *error);

#endif
