/*
 * Makes the tree of one layer from its archive's entries, as containerd unpacks them into the upper
 * directory of overlayfs (archive/tar.go, OverlayConvertWhiteout()).
 *
 * Names with "..", names below a symbolic link, hard links to what is not there, devices 0:0 and
 * attributes of overlayfs are refused. Attributes that Linux takes on no such file are left out.
 * Pure; one thread at a time.
 */
#ifndef LAYER_UNPACK_H
#define LAYER_UNPACK_H

#include "layer/tar.h"
#include "layer/tree.h"

/* Takes the next entry; `tree` is a struct tree. A tar_entry_taker. */
bool unpack_entry(void *tree, const struct tar_entry *entry, struct error *error);

#endif
