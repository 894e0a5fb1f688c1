/*
 * The methods of containerd.services.snapshots.v1.Snapshots: from a request's bytes to the
 * snapshotter, and back.
 *
 * A message is parsed by protobuf-c, with a limit on the memory that it may take. Names must be
 * UTF-8 and have at most ENTRIES_NAME_LIMIT bytes; labels keep containerd's own limits.
 */
#ifndef NODE_SNAPSHOT_CALLS_H
#define NODE_SNAPSHOT_CALLS_H

#include "node/snapshot/grpc.h"
#include "node/snapshot/snapshots.h"

/* A grpc_handler; `context` is a struct snapshots. */
enum grpc_status calls_answer(void *context, const struct grpc_request *request);

#endif
