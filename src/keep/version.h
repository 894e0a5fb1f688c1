/* The order of tags that are versions in the manner of Semantic Versioning. Pure; any thread. */
#ifndef KEEP_VERSION_H
#define KEEP_VERSION_H

#include "base/text.h"

/* Below 0, 0, above 0. `v1.2.3-rc.1`: the `v` may be missing, there may be any number of numbers,
 * and a missing one counts as 0; a version with something behind `-` is older than one without
 * (§11). A tag that is no version is older than any that is, and two such compare byte by byte. */
int keep_version_compare(struct text a, struct text b);

/* Whether the tag begins with a number, perhaps behind a `v`. */
bool keep_version_is(struct text tag);

#endif
