/*
 * The JSON of cachemachine and of nublado's controller, which clients of theirs read.
 *
 * cachemachine's is written as Python writes it, `", "` between values and `": "` behind keys, with
 * every key in its order; nublado's is compact. All append to `out`; what is appended is the truth
 * of one moment. Any thread, without the keeper's lock. False: there is no such keep, or memory is
 * out (then `out` is failed).
 */
#ifndef KEEP_COMPAT_H
#define KEEP_COMPAT_H

#include "base/buffer.h"
#include "keep/keeper.h"

enum keep_machine_view { KEEP_MACHINE_WHOLE, KEEP_MACHINE_AVAILABLE, KEEP_MACHINE_DESIRED };

bool keep_compat_machines(struct keeper *keeper, struct buffer *out);
bool keep_compat_machine(struct keeper *keeper, const char *name, enum keep_machine_view view,
                         struct buffer *out);

/* A machine that nothing is known of yet: all its lists are empty. */
bool keep_compat_new_machine(const struct keep_spec *spec, struct buffer *out);

/* Of the keep that the settings name for it, else of the first. */
bool keep_compat_spawner_images(struct keeper *keeper, struct buffer *out);
bool keep_compat_prepulls(struct keeper *keeper, struct buffer *out);

#endif
