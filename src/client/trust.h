/*
 * The system's trusted certificates, read once and shared by all connections of a client. libcurl
 * reads them for each of its handles: measured with Debian's 150 certificates, 80 ms of CPU and
 * 0.9 MB for each new connection. They are read again when their file changes.
 * If its file system hangs, those that were read before stay in use. Threads: any.
 */
#ifndef CLIENT_TRUST_H
#define CLIENT_TRUST_H

#include <curl/curl.h>
#include <openssl/types.h>
#include <stdbool.h>
#include <time.h>
#include "base/error.h"
#include "base/lock.h"

struct trust {
    struct lock parse_lock; /* held while the file's bytes are parsed, so that one thread does it */
    struct lock store_lock; /* may be taken under parse_lock */
    X509_STORE *store GUARDED_BY(store_lock);
    struct timespec changed GUARDED_BY(store_lock); /* the file's, when it was read */
    struct file_reader *files;                      /* reads the files; NULL: out of memory */
};

void trust_init(struct trust *trust);
void trust_finish(struct trust *trust); /* no handle uses it any more */

/* The file with the system's trusted certificates, which other users of OpenSSL and libcurl read,
 * too; NULL: not known. It need not exist. */
const char *trust_system_file(void);

/* Makes a prepared handle use the shared certificates. Does nothing where libcurl's TLS library is
 * not OpenSSL 3, or the file cannot be read: libcurl then reads it itself and reports what is
 * wrong. */
void trust_apply(struct trust *trust, CURL *handle);

/* For clients: the path is in the log alone. */
#define TRUST_UNREADABLE                                                                           \
    "no trusted TLS connection: tarn cannot read its trusted certificates (`ca:`, or the "         \
    "system's)"

/* Makes a prepared handle trust the certificates in a file instead of the system's. The file is
 * read here and not by libcurl, which would wait for ever for the writer of a pipe, or for a file
 * system that hangs. False: ERROR_UNAVAILABLE, or ERROR_MEMORY. */
bool trust_apply_file(struct trust *trust, CURL *handle, const char *file, struct error *error);

#endif
