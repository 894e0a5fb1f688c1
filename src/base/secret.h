/*
 * Memory that held a secret is wiped before it is freed, and the process leaves no core dump.
 *
 * Each function takes the address of the variable, is safe when there is nothing to free, and
 * leaves the variable empty. Pure; the caller owns what it passes.
 */
#ifndef BASE_SECRET_H
#define BASE_SECRET_H

#include <jansson.h>
#include "base/buffer.h"

/* A string on the heap. */
void secret_free(char **secret);

/* A buffer whose owner reserved enough before the first secret byte, because a buffer that grows
 * leaves a copy behind. */
void secret_buffer_free(struct buffer *buffer);

/* A JSON document with all strings in it. The caller holds its only reference. */
void secret_json_free(json_t **json);

#define cleanup_secret        __attribute__((cleanup(secret_free)))
#define cleanup_secret_buffer __attribute__((cleanup(secret_buffer_free)))
#define cleanup_secret_json   __attribute__((cleanup(secret_json_free)))

/* From here on the process leaves no core dump, and other processes of its user may not trace it.
 */
void secret_forbid_core_dumps(void);

#endif
