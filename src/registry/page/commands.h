/* How to pull through this cache, for each client. Any thread. */
#ifndef PAGE_COMMANDS_H
#define PAGE_COMMANDS_H

#include "registry/page/page_private.h"

/* With an image that the visitor may pull as the example. */
void commands_write(const struct view *view, struct buffer *out);
/* For one image: HOST/NAME:TAG or HOST/NAME@DIGEST. */
void commands_write_image(const struct view *view, const char *image, struct buffer *out);

#endif
