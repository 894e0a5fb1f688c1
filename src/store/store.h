/*
 * Verified bytes and the records about them, on a local file system, crash-safe. The store knows no
 * HTTP and no upstream: a host and a repository are only names here.
 *
 *   ROOT/                                        locked (flock) by the process that holds it
 *   ROOT/lock                                    locked as well; that process's id is inside
 *   ROOT/blobs/sha256/ab/abcd…                   blobs: complete, verified, synced
 *   ROOT/partial/sha256-abcd…{,.state}           a flight's bytes, and which of them are present
 *   ROOT/repositories/HOST/NAME/_blobs/sha256/abcd…     link: NAME at HOST holds this blob
 *   ROOT/repositories/HOST/NAME/_manifests/sha256/abcd… link: … this manifest; holds its media type
 *   ROOT/repositories/HOST/NAME/_tags/TAG        digest, media type, time of the last response
 *                                                (another file name where case is ignored: paths.h)
 *   ROOT/bad/sha256-abcd…                        blobs whose bytes did not match their digest
 *   ROOT/uploads/ID                              a blob that a client is pushing (uploads.h)
 *   ROOT/uploads.key                             seals the addresses of upload sessions
 *   ROOT/pending/sha256-abcd…                    what a room above still has to do (pending.h)
 *   ROOT/aside/sha256-abcd….KIND                  what was made from a blob (aside.h)
 *   ROOT/history, ROOT/filled                    what rooms above note for themselves (note.h)
 *   ROOT/tmp/                                    files that have no name yet
 *
 * No part of a repository's name begins with `_`, so names and records cannot meet. A file with a
 * final name is complete: it is written under ROOT/tmp, synced, renamed, and its directory synced.
 * Nothing is scanned before the first response: store_scan() reads on a background thread which
 * blobs there are. Every byte read back is treated as hostile (bounded, checked).
 *
 *   blobs.h     open, keep, verify and delete blobs
 *   partials.h  a blob that is being fetched
 *   uploads.h   a blob that is being pushed
 *   records.h   links, tags and the repositories that have them
 *   aside.h     files beside blobs
 *   pending.h, note.h      what rooms above keep for themselves
 *   usage.h     which blobs there are, how much they take, and which to evict first
 *
 * Threads: all calls from any thread. Different partials are independent; one partial belongs to
 * one flight at a time (the caller's promise).
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/error.h"

struct store;

/* Opens the root, and makes it if it is not there. ERROR_BUSY: another process holds it; the error
 * names that process. A root on a read-only file system is opened as well, if it exists: reading
 * works, and every call that would write fails. */
struct store *store_open(const char *root, struct error *error);
void store_close(struct store *store);

#endif
