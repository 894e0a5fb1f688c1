/* Memory that has held a secret is wiped before it is given back. */
#ifndef AUTH_GOOGLE_SECRET_H
#define AUTH_GOOGLE_SECRET_H

#include <jansson.h>
#include "base/buffer.h"

void secret_free(char **secret);                /* a string on the heap */
void secret_buffer_free(struct buffer *buffer); /* reserve enough first: growing leaves copies */
void secret_json_free(json_t **json);           /* every string below it; the caller's only one */

#define cleanup_secret        __attribute__((cleanup(secret_free)))
#define cleanup_secret_buffer __attribute__((cleanup(secret_buffer_free)))
#define cleanup_secret_json   __attribute__((cleanup(secret_json_free)))

#endif
