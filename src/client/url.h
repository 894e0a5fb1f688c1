/* Private to client/: what libcurl's URL functions give out is released at the end of a scope. */
#ifndef CLIENT_URL_H
#define CLIENT_URL_H

#include <curl/curl.h>

static inline void cleanup_curl_url_call(CURLU **url) {
    curl_url_cleanup(*url);
}

static inline void cleanup_curl_part_call(char **part) {
    curl_free(*part);
}

#define cleanup_curl_url  __attribute__((cleanup(cleanup_curl_url_call)))
#define cleanup_curl_part __attribute__((cleanup(cleanup_curl_part_call)))

#endif
