/* The SHA-256 of a body, which a signature covers. Private to bucket/. */
#ifndef BUCKET_PAYLOAD_H
#define BUCKET_PAYLOAD_H

#include "base/error.h"
#include "client/body.h"

enum { BUCKET_PAYLOAD_SIZE = 64 + 1 };

/* Writes it in hex; a range of a file is read. False: ERROR_IO (the file), ERROR_MEMORY. */
bool bucket_payload_hash(const struct client_body *body, char out[static BUCKET_PAYLOAD_SIZE],
                         struct error *error);

#endif
