/* The system's trusted certificates as one OpenSSL store for all connections. */
#include "client/trust.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/file_reader.h"
#include "base/log.h"

enum {
    FILE_LIMIT = 8 << 20,
    FILE_PATIENCE_MS = 5000, /* then the file system counts as hung */
    LOOK_PATIENCE_MS = 1000, /* the same, while there are certificates that were read before */
};

void trust_init(struct trust *trust) {
    *trust = (struct trust){0};
    lock_init(&trust->store_lock);
    lock_init(&trust->parse_lock);
    trust->files = file_reader_new();
}

void trust_finish(struct trust *trust) {
    X509_STORE_free(trust->store);
    trust->store = NULL;
    file_reader_free(trust->files);
    lock_finish(&trust->store_lock);
    lock_finish(&trust->parse_lock);
}

const char *trust_system_file(void) {
    const char *file = getenv("SSL_CERT_FILE");
    if (file && *file)
        return file;
    return curl_version_info(CURLVERSION_NOW)->cainfo;
}

/* Adds what the PEM file has: certificates, and lists of revoked ones. */
static bool add_all(X509_STORE *store, const STACK_OF(X509_INFO) * infos) {
    bool ok = sk_X509_INFO_num(infos) > 0;
    for (int i = 0; ok && i < sk_X509_INFO_num(infos); i++) {
        const X509_INFO *info = sk_X509_INFO_value(infos, i);
        ok = (!info->x509 || X509_STORE_add_cert(store, info->x509) == 1) &&
             (!info->crl || X509_STORE_add_crl(store, info->crl) == 1);
    }
    return ok;
}

static X509_STORE *parse_store(const char *bytes, size_t length) {
    X509_STORE *store = X509_STORE_new();
    BIO *bio = store ? BIO_new_mem_buf(bytes, (int)length) : NULL;
    STACK_OF(X509_INFO) *infos = bio ? PEM_X509_INFO_read_bio(bio, NULL, NULL, NULL) : NULL;
    bool ok = infos && add_all(store, infos);
    sk_X509_INFO_pop_free(infos, X509_INFO_free);
    BIO_free(bio);
    ERR_clear_error();
    if (ok) { /* as libcurl sets them */
        X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
        return store;
    }
    X509_STORE_free(store);
    return NULL;
}

/* Whether the file, of which `now` was seen, is another one than that of the store. */
static bool has_changed(struct trust *trust, const struct stat *now) {
    lock_acquire(&trust->store_lock);
    bool changed = !trust->store || now->st_mtim.tv_sec != trust->changed.tv_sec ||
                   now->st_mtim.tv_nsec != trust->changed.tv_nsec;
    lock_release(&trust->store_lock);
    return changed;
}

static void replace_store(struct trust *trust, X509_STORE *store, const struct stat *status) {
    lock_acquire(&trust->store_lock);
    X509_STORE *old = trust->store;
    trust->store = store;
    trust->changed = status->st_mtim;
    lock_release(&trust->store_lock);
    X509_STORE_free(old);
}

/* Reads the file into the store. If that fails, because the file is just being replaced, the store
 * that was read before stays. False: its file system hangs. */
static bool read_store(struct trust *trust, const char *file) {
    size_t length;
    struct stat status;
    struct error error = {0};
    cleanup_free char *bytes = file_reader_read(trust->files, file, FILE_LIMIT, FILE_PATIENCE_MS,
                                                &length, &status, &error);
    if (!bytes)
        return error.kind != ERROR_TIMEOUT;
    lock_acquire(&trust->parse_lock);
    X509_STORE *store = has_changed(trust, &status) ? parse_store(bytes, length) : NULL;
    if (store)
        replace_store(trust, store, &status);
    lock_release(&trust->parse_lock);
    return true;
}

static bool has_store(struct trust *trust) {
    lock_acquire(&trust->store_lock);
    bool has = trust->store != NULL;
    lock_release(&trust->store_lock);
    return has;
}

enum system_file { SYSTEM_FILE_FINE, SYSTEM_FILE_ABSENT, SYSTEM_FILE_BAD };

/* Looks at the system's file, and reads it if it has changed. A pipe could keep its reader waiting,
 * so only a regular file is read. */
static enum system_file look_at_system(struct trust *trust) {
    const char *file = trust_system_file();
    struct stat now;
    struct error error = {0};
    if (!file || !trust->files)
        return SYSTEM_FILE_ABSENT;
    const int64_t patience_ms = has_store(trust) ? LOOK_PATIENCE_MS : FILE_PATIENCE_MS;
    if (!file_reader_look(trust->files, file, patience_ms, &now, &error))
        return error.kind == ERROR_TIMEOUT ? SYSTEM_FILE_BAD : SYSTEM_FILE_ABSENT;
    if (!S_ISREG(now.st_mode) || (has_changed(trust, &now) && !read_store(trust, file)))
        return SYSTEM_FILE_BAD;
    return SYSTEM_FILE_FINE;
}

/* A reference to the store, the caller's to free; NULL: none has been read. */
static X509_STORE *hold_store(struct trust *trust) {
    lock_acquire(&trust->store_lock);
    X509_STORE *held = trust->store;
    if (held)
        X509_STORE_up_ref(held);
    lock_release(&trust->store_lock);
    return held;
}

static CURLcode set_store(CURL *handle, void *context, void *trust) {
    (void)handle;
    X509_STORE *store = hold_store(trust);
    if (!store)
        return CURLE_SSL_CACERT_BADFILE;
    SSL_CTX_set_cert_store(context, store); /* takes our reference */
    return CURLE_OK;
}

void trust_apply(struct trust *trust, CURL *handle) {
    const char *library = curl_version_info(CURLVERSION_NOW)->ssl_version;
    if (!library || strncmp(library, "OpenSSL/3", 9) != 0)
        return;
    enum system_file found = look_at_system(trust);
    X509_STORE *store = found == SYSTEM_FILE_ABSENT ? NULL : hold_store(trust);
    if (!store && found == SYSTEM_FILE_BAD) /* libcurl would wait for it, and reports this one */
        curl_easy_setopt(handle, CURLOPT_CAINFO, "/dev/null");
    if (!store)
        return;
    X509_STORE_free(store);
    curl_easy_setopt(handle, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(handle, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(handle, CURLOPT_SSL_CTX_FUNCTION, set_store);
    curl_easy_setopt(handle, CURLOPT_SSL_CTX_DATA, trust);
}

/* ---- a file of the configuration ---- */

bool trust_apply_file(struct trust *trust, CURL *handle, const char *file, struct error *error) {
    static struct log_pause pause;
    unsigned more;
    size_t length;
    struct error reason = {0};
    if (!trust->files)
        return error_set(error, ERROR_MEMORY, "out of memory");
    cleanup_free char *bytes =
        file_reader_read(trust->files, file, FILE_LIMIT, FILE_PATIENCE_MS, &length, NULL, &reason);
    if (!bytes) {
        if (log_is_due(&pause, &more))
            log_at(LOG_WARN, "cannot read trusted certificates", LOG_STRING("file", file),
                   LOG_STRING("error", reason.text), LOG_NUMBER("more_since_last", more));
        if (reason.kind == ERROR_MEMORY)
            return error_set(error, ERROR_MEMORY, "out of memory");
        error_set(error, ERROR_UNAVAILABLE, TRUST_UNREADABLE);
        return error_because(error, ERROR_REASON_CERTIFICATE);
    }
    /* libcurl shares a connection only between requests with equal bytes here. */
    struct curl_blob blob = {.data = bytes, .len = length, .flags = CURL_BLOB_COPY};
    bool ok = curl_easy_setopt(handle, CURLOPT_CAINFO_BLOB, &blob) == CURLE_OK &&
              curl_easy_setopt(handle, CURLOPT_CAINFO, NULL) == CURLE_OK &&
              curl_easy_setopt(handle, CURLOPT_CAPATH, NULL) == CURLE_OK;
    return ok || error_set(error, ERROR_MEMORY, "out of memory");
}
