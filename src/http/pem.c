/* Parses PEM files from memory. */
#include "http/pem.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include "base/cleanup.h"
#include "base/secret.h"

enum { FILE_LIMIT = 1 << 20 };

/* Takes OpenSSL's oldest queued reason; the later ones say where in OpenSSL it was. */
static bool refused_by_openssl(const struct pem_file *file, struct error *error) {
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    error_set(error, ERROR_INVALID, "%s %s: %s", file->what, file->path,
              reason ? reason : "unusable");
    ERR_clear_error();
    return false;
}

/* The caller frees the bytes, and wipes them. */
static char *read_file(struct file_reader *files, const struct pem_file *file, size_t *length,
                       struct stat *status, struct error *error) {
    *status = (struct stat){0};
    char *bytes =
        file_reader_read(files, file->path, FILE_LIMIT, PEM_PATIENCE_MS, length, status, error);
    if (!bytes)
        error_wrap(error, "%s %s", file->what, file->path);
    return bytes;
}

/* NULL: out of memory. */
static BIO *open_bytes(const char *bytes, size_t length) {
    ERR_clear_error();
    return BIO_new_mem_buf(bytes, (int)length);
}

/* Refuses a key with a passphrase; OpenSSL would ask for it on the terminal. */
static int no_passphrase(char *out, int size, int writing, void *context) {
    (void)out;
    (void)size;
    (void)writing;
    (void)context;
    return 0;
}

/* ---- a certificate ---- */

/* Adds the certificates that follow. True at the end of the file. */
static bool add_chain(SSL_CTX *context, BIO *bio) {
    X509 *next;
    while ((next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL))) {
        if (SSL_CTX_add0_chain_cert(context, next) != 1) {
            X509_free(next);
            return false;
        }
    }
    bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (is_end)
        ERR_clear_error();
    return is_end;
}

bool pem_use_certificate(SSL_CTX *context, struct file_reader *files, const struct pem_file *file,
                         struct stat *status, struct error *error) {
    size_t length;
    cleanup_free char *bytes = read_file(files, file, &length, status, error);
    if (!bytes)
        return false;
    BIO *bio = open_bytes(bytes, length);
    X509 *first = bio ? PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL) : NULL;
    bool ok = first && SSL_CTX_use_certificate(context, first) == 1 && add_chain(context, bio);
    X509_free(first);
    BIO_free(bio);
    return ok || refused_by_openssl(file, error);
}

/* ---- its key ---- */

bool pem_use_key(SSL_CTX *context, struct file_reader *files, const struct pem_file *file,
                 struct stat *status, struct error *error) {
    size_t length;
    cleanup_secret char *bytes = read_file(files, file, &length, status, error);
    if (!bytes)
        return false;
    BIO *bio = open_bytes(bytes, length);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    bool ok =
        key && SSL_CTX_use_PrivateKey(context, key) == 1 && SSL_CTX_check_private_key(context) == 1;
    EVP_PKEY_free(key);
    BIO_free(bio);
    return ok || refused_by_openssl(file, error);
}

/* ---- the authorities of clients ---- */

/* Adds a certificate, or a list of revoked ones. */
static bool add_authority(SSL_CTX *context, const X509_INFO *info) {
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    return (!info->x509 || (X509_STORE_add_cert(store, info->x509) == 1 &&
                            SSL_CTX_add_client_CA(context, info->x509) == 1)) &&
           (!info->crl || X509_STORE_add_crl(store, info->crl) == 1);
}

static bool add_authorities(SSL_CTX *context, const STACK_OF(X509_INFO) * infos) {
    int certificates = 0;
    for (int i = 0; i < sk_X509_INFO_num(infos); i++) {
        const X509_INFO *info = sk_X509_INFO_value(infos, i);
        if (!add_authority(context, info))
            return false;
        certificates += info->x509 != NULL;
    }
    if (certificates == 0)
        ERR_raise(ERR_LIB_X509, X509_R_NO_CERTIFICATE_FOUND);
    return certificates > 0;
}

bool pem_use_authorities(SSL_CTX *context, struct file_reader *files, const struct pem_file *file,
                         unsigned char hash[static 32], struct stat *status, struct error *error) {
    size_t length;
    unsigned hash_length;
    cleanup_free char *bytes = read_file(files, file, &length, status, error);
    if (!bytes)
        return false;
    BIO *bio = open_bytes(bytes, length);
    STACK_OF(X509_INFO) *infos =
        bio ? PEM_X509_INFO_read_bio(bio, NULL, no_passphrase, NULL) : NULL;
    bool ok = infos && add_authorities(context, infos) &&
              EVP_Digest(bytes, length, hash, &hash_length, EVP_sha256(), NULL) == 1;
    sk_X509_INFO_pop_free(infos, X509_INFO_free);
    BIO_free(bio);
    return ok || refused_by_openssl(file, error);
}
