#include "client/trust.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Guards both below. Held while the file is read: without it nobody can go on. */
static pthread_mutex_t system_lock = PTHREAD_MUTEX_INITIALIZER;
static X509_STORE *system_store;
static struct timespec system_changed; /* when the file was, that it was read from */

/* The file that OpenSSL's and libcurl's other users read; NULL: not known. */
static const char *system_file(void) {
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

/* The store, owned by the caller; NULL: none. A file that is being replaced leaves the old one. */
static X509_STORE *hold_store(void) {
    const char *file = system_file();
    struct stat now;
    if (!file || stat(file, &now) < 0)
        return NULL;
    pthread_mutex_lock(&system_lock);
    bool changed = now.st_mtim.tv_sec != system_changed.tv_sec ||
                   now.st_mtim.tv_nsec != system_changed.tv_nsec;
    if (!system_store || changed) {
        X509_STORE *store = read_store(file);
        if (store) {
            X509_STORE_free(system_store);
            system_store = store;
            system_changed = now.st_mtim;
        }
    }
    X509_STORE *held = system_store;
    if (held)
        X509_STORE_up_ref(held);
    pthread_mutex_unlock(&system_lock);
    return held;
}

static CURLcode give_store(CURL *handle, void *context, void *unused) {
    (void)handle, (void)unused;
    X509_STORE *store = hold_store();
    if (!store)
        return CURLE_SSL_CACERT_BADFILE;
    SSL_CTX_set_cert_store(context, store); /* takes our reference */
    return CURLE_OK;
}

void trust_system(CURL *handle) {
    const char *library = curl_version_info(CURLVERSION_NOW)->ssl_version;
    if (!library || strncmp(library, "OpenSSL/3", 9) != 0)
        return;
    X509_STORE *store = hold_store();
    if (!store)
        return;
    X509_STORE_free(store);
    curl_easy_setopt(handle, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(handle, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(handle, CURLOPT_SSL_CTX_FUNCTION, give_store);
}
