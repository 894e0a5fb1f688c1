/*
 * What tarn itself says of its keeps: as JSON, as a page for people, and as metrics. Any thread,
 * without the keeper's lock.
 */
#ifndef KEEP_STATUS_H
#define KEEP_STATUS_H

#include "base/buffer.h"
#include "keep/keeper.h"

/* Appends `GET /tarn/v1/keeps`: {"keeps":[...],"kubernetes":...,"leader":...}. */
bool keep_status_write_all(struct keeper *keeper, struct buffer *out);
/* Appends one keep of these, with the two members behind it. False: there is no such keep. */
bool keep_status_write(struct keeper *keeper, const char *name, struct buffer *out);

/* Appends the page at /. */
bool keep_status_write_page(struct keeper *keeper, struct buffer *out);

/* Sets the gauges; before metrics are shown. */
void keep_status_update_metrics(struct keeper *keeper);

#endif
