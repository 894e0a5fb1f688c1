/*
 * How a replica shows another that it is one: signatures of requests (RFC 9421) by HMAC with
 * SHA-256 over a secret that all replicas have.
 *
 * The signature covers the method, the path, the query and what is asked (the field Tarn-Ask), in
 * this order and nothing else, and it is good for a minute before and after the second in which it
 * was made. Signatures are compared in constant time.
 *
 * Pure; any thread.
 */
#ifndef REPLICA_SIGNATURE_H
#define REPLICA_SIGNATURE_H

#include <stdbool.h>
#include <stdint.h>
#include "replica/secrets.h"

enum {
    SIGNATURE_INPUT_SIZE = 160, /* of a Signature-Input field with its NUL */
    SIGNATURE_SIZE = 64,        /* of a Signature field with its NUL */
    SIGNATURE_SKEW_S = 60,
};

/* What is signed. Every text is as it stands in the request. */
struct signed_request {
    struct text method; /* "GET" */
    struct text path;   /* "/v2/ghcr.io/app/blobs/sha256:…", percent-encoded */
    struct text query;  /* behind the '?'; empty: there is none */
    struct text ask;    /* the value of Tarn-Ask */
};

/* Writes the values of both fields. False: out of memory. */
bool signature_make(const struct secrets *secrets, const struct signed_request *request,
                    int64_t now_s, char input[static SIGNATURE_INPUT_SIZE],
                    char signature[static SIGNATURE_SIZE]);

enum { MAC_SIZE = 45 }; /* of HMAC with SHA-256 in base64, with its NUL */
/* The MAC of a signature base (RFC 9421 §3.3.3). False: out of memory. */
bool signature_mac(const void *key, size_t length, struct text base, char out[static MAC_SIZE]);

/* Whether both values are a good signature of the request. An absent field is a text with at ==
 * NULL. Anything but the one form that signature_make() writes is no good signature. */
bool signature_is_good(const struct secrets *secrets, const struct signed_request *request,
                       struct text input, struct text signature, int64_t now_s);

#endif
