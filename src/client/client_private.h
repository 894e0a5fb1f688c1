/* Private to client/: what the requests of one client share. */
#ifndef CLIENT_CLIENT_PRIVATE_H
#define CLIENT_CLIENT_PRIVATE_H

#include "client/client.h"
#include "client/lane.h"
#include "client/trust.h"

struct client {
    struct trust trust;
    struct lanes lanes; /* for client_request() and client_stream() */
};

#endif
