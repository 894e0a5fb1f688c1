/* The system's trusted certificates as one OpenSSL store for all connections. */
#include "client/trust.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/file_reader.h"
#include "base/log.h"

void trust_init(struct trust *trust) {
    *trust = (struct trust){0};
    lock_init(&trust->store_lock);
    trust->files = file_reader_new();
}

void trust_finish(struct trust *trust) {
    X509_STORE_free(trust->store);
    trust->store = NULL;
    file_reader_free(trust->files);
    lock_finish(&trust->store_lock);
}

const char *trust_system_file(void) {
    const char *file = getenv("SSL_CERT_FILE");
    if (file && *file)
        return file;
    return curl_version_info(CURLVERSION_NOW)->cainfo;
}

static X509_STORE *read_store(const char *file) {
    X509_STORE *store = X509_STORE_new();
    if (!store)
        return NULL;
    if (X509_STORE_load_file(store, file) != 1) {
        X509_STORE_free(store);
        return NULL;
    }
    /* As libcurl sets them. */
    X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
    return store;
}

/* Whether the file may be read: a pipe could keep its reader waiting. */
static bool find(const char *file, struct stat *state) {
    return file && stat(file, state) == 0 && S_ISREG(state->st_mode);
}

/* A reference to the store, the caller's to free; NULL: none. When the file cannot be read because
 * it is just being replaced, the store that was read before stays. */
static X509_STORE *hold_store(struct trust *trust) {
    const char *file = trust_system_file();
    struct stat now;
    if (!find(file, &now))
        return NULL;
    lock_acquire(&trust->store_lock);
    bool changed = now.st_mtim.tv_sec != trust->changed.tv_sec ||
                   now.st_mtim.tv_nsec != trust->changed.tv_nsec;
    if (!trust->store || changed) {
        X509_STORE *store = read_store(file);
        if (store) {
            X509_STORE_free(trust->store);
            trust->store = store;
            trust->changed = now.st_mtim;
        }
    }
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
    X509_STORE *store = hold_store(trust);
    const char *file = trust_system_file();
    struct stat state;
    if (!store && file && stat(file, &state) == 0 && !S_ISREG(state.st_mode))
        curl_easy_setopt(handle, CURLOPT_CAINFO, "/dev/null"); /* libcurl reports that it is bad */
    if (!store)
        return;
    X509_STORE_free(store);
    curl_easy_setopt(handle, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(handle, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(handle, CURLOPT_SSL_CTX_FUNCTION, set_store);
    curl_easy_setopt(handle, CURLOPT_SSL_CTX_DATA, trust);
}

/* ---- a file of the configuration ---- */

enum {
    FILE_LIMIT = 8 << 20,
    FILE_PATIENCE_MS = 5000, /* then the file system counts as hung */
};

bool trust_apply_file(struct trust *trust, CURL *handle, const char *file, struct error *error) {
    static struct log_pause pause;
    unsigned more;
    size_t length;
    struct error reason = {0};
    if (!trust->files)
        return error_set(error, ERROR_MEMORY, "out of memory");
    cleanup_free char *bytes =
        file_reader_read(trust->files, file, FILE_LIMIT, FILE_PATIENCE_MS, &length, &reason);
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
