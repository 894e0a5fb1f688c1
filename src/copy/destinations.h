/* The kinds of destinations. Private to copy/. */
#ifndef COPY_DESTINATIONS_H
#define COPY_DESTINATIONS_H

#include "copy/destination.h"

/* As copy_destination_open(), of the one kind. */
struct copy_destination *copy_registry_destination_open(struct copy_hosts *hosts,
                                                        const struct copy_reference *reference,
                                                        struct error *error);
struct copy_destination *copy_layout_destination_open(const struct copy_reference *reference,
                                                      struct error *error);
struct copy_destination *copy_archive_destination_open(const struct copy_reference *reference,
                                                       struct error *error);

#endif
