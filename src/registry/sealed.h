/*
 * The address of an upload session as a client holds it: sealed (AES-256-GCM), so that it shows
 * nothing of upstream and cannot be changed. With it, a session goes on after a restart.
 *
 * Pure; any thread.
 */
#ifndef REGISTRY_SEALED_H
#define REGISTRY_SEALED_H

#include <stdbool.h>
#include <stdint.h>
#include "base/text.h"
#include "oci/reference.h"

enum {
    SEALED_KEY_SIZE = 32,
    SEALED_ID_SIZE = 32 + 1, /* as store/uploads.h has it */
    SEALED_HOLDER_SIZE = 64, /* the replica that holds the bytes; "": this tarn */
    SEALED_URL_SIZE = 3000,  /* a longer one is left out: the session then begins anew upstream */
    SEALED_SIZE = 6000,      /* of the sealed text with its NUL */
};

struct sealed_session {
    char id[SEALED_ID_SIZE];
    struct repository_name name;
    char holder[SEALED_HOLDER_SIZE];
    uint64_t base;             /* bytes at the beginning that only upstream has */
    uint64_t received;         /* bytes of the client when it was sealed */
    char url[SEALED_URL_SIZE]; /* of upstream's session; "": none */
};

/* False: no memory, or OpenSSL fails. */
bool sealed_write(const unsigned char key[static SEALED_KEY_SIZE],
                  const struct sealed_session *session, char out[static SEALED_SIZE]);

/* False: it was not sealed with this key, or was changed. */
bool sealed_read(const unsigned char key[static SEALED_KEY_SIZE], struct text text,
                 struct sealed_session *out);

#endif
