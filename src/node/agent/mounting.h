/*
 * Mounts trees: EROFS over the files that reads.h shows, and what people and programs see of it.
 * Called by processes that the supervisor starts for one order each; private to agent/.
 *
 *   RUN/files           the FUSE file system (fuse.h)
 *   RUN/images/NUMBER   EROFS over RUN/files/NUMBER: file 0 is the tree, the others are its devices
 *   FOLDER              the same once more, or overlayfs over it with a layer for what is written
 *
 * Each tree is mounted once, so that all its mounts share their memory. Each function may be called
 * again after it was cut short, and then does what is left to do.
 */
#ifndef NODE_AGENT_MOUNTING_H
#define NODE_AGENT_MOUNTING_H

#include "node/agent/mount_order.h"

bool mounting_image(const struct mount_order_place *place, const struct mount_order *order,
                    struct error *error);
bool mounting_no_image(const struct mount_order_place *place, const struct mount_order *order,
                       struct error *error);
bool mounting_attach(const struct mount_order_place *place, const struct mount_order *order,
                     struct error *error);
bool mounting_detach(const struct mount_order_place *place, const struct mount_order *order,
                     struct error *error);
void mounting_clear(const struct mount_order_place *place, bool own);

#endif
