/* Opens destinations, and reads what is written to them. */
#include "copy/destination.h"

#include <poll.h>
#include "copy/destinations.h"

enum { POLL_MS = 250 }; /* how soon a reading that is stopped ends */

bool copy_body_read(struct copy_body *body, void *bytes, size_t size, size_t *length, bool *ended,
                    struct error *error) {
    for (;;) {
        if (body->stop && atomic_load(body->stop))
            return error_set(error, ERROR_CLOSED, "stopped");
        if (!body->read(body->context, bytes, size, length, ended, error))
            return false;
        if (*length || *ended)
            return true;
        struct pollfd wake = {.fd = body->wake_fd, .events = POLLIN};
        poll(&wake, 1, POLL_MS);
    }
}

void copy_destination_free(struct copy_destination *destination) {
    if (destination)
        destination->kind->free(destination);
}

struct copy_destination *copy_destination_open(struct copy_hosts *hosts,
                                               const struct copy_reference *reference,
                                               struct error *error) {
    switch (reference->kind) {
    case COPY_LAYOUT:
        return copy_layout_destination_open(reference, error);
    case COPY_REGISTRY:
        return copy_registry_destination_open(hosts, reference, error);
    case COPY_ARCHIVE:
        return copy_archive_destination_open(reference, error);
    }
    return NULL;
}
