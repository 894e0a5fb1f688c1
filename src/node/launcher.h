/* The launcher (node/launcher.c) as bytes, which the build makes. Private to node/. */
#ifndef NODE_LAUNCHER_H
#define NODE_LAUNCHER_H

#include <stddef.h>

/* What stands in front of the slot in these bytes, and how long both are together. */
#define LAUNCHER_MARKER "tarn launcher slot:"
enum { LAUNCHER_SLOT_SIZE = 256 };

extern const unsigned char launcher_bytes[];
extern const size_t launcher_length; /* 0: there is none for this processor */

#endif
