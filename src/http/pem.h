/*
 * Private to http/. PEM files of TLS, read by a thread that may hang (base/file_reader.h) and
 * parsed from memory, because OpenSSL's own functions for files wait for a file system as long as
 * it hangs.
 */
#ifndef HTTP_PEM_H
#define HTTP_PEM_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include "base/error.h"
#include "base/file_reader.h"

enum { PEM_PATIENCE_MS = 5000 }; /* for a file; then its file system counts as hung */

/* A file of TLS: what it is, for errors ("TLS key"), and where. */
struct pem_file {
    const char *what, *path;
};

/*
 * Each reads the file and gives the context what is in it. `status` is what fstat() says of the
 * file (zeroed if it could not be read). False: ERROR_INVALID, or as file_reader_read(); the error
 * names the file.
 */
/* The server's certificate, and those of its authorities behind it. */
bool pem_use_certificate(SSL_CTX *context, struct file_reader *files, const struct pem_file *file,
                         struct stat *status, struct error *error);
/* The key, without a passphrase, of the certificate that the context has. */
bool pem_use_key(SSL_CTX *context, struct file_reader *files, const struct pem_file *file,
                 struct stat *status, struct error *error);
/* The authorities of clients' certificates, which clients are also told. `hash` becomes the SHA-256
 * of the file. */
bool pem_use_authorities(SSL_CTX *context, struct file_reader *files, const struct pem_file *file,
                         unsigned char hash[static 32], struct stat *status, struct error *error);

#endif
