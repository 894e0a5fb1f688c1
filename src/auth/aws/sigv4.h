/*
 * Signatures of AWS, version 4, as header fields and as a presigned URL (AWS documentation,
 * "Signature Version 4 signing process", and "Authenticating Requests" of the S3 API).
 *
 * The caller sends exactly what was signed: sigv4_target() gives path and query as they are encoded
 * for the signature. A path of the service s3 is encoded once, that of every other service twice.
 * For s3 the hash of the payload is sent as a field of its own.
 *
 * Pure: no clock, no I/O; any thread.
 */
#ifndef AUTH_AWS_SIGV4_H
#define AUTH_AWS_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"

enum {
    SIGV4_QUERY_LIMIT = 24,  /* pairs of a query */
    SIGV4_HEADER_LIMIT = 24, /* fields of a head */
    SIGV4_EXPIRES_LIMIT_S = 7 * 86400,
};

#define SIGV4_UNSIGNED   "UNSIGNED-PAYLOAD" /* https only */
#define SIGV4_EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* Nothing in it is encoded. */
struct sigv4_pair {
    const char *name;
    const char *value; /* NULL: empty */
};

struct sigv4_request {
    const char *method; /* "GET" */
    const char *host;   /* of the Host field: with the port where it is not the scheme's own */
    const char *path;   /* begins with '/'; not encoded; "" is "/" */
    const struct sigv4_pair *query; /* any order */
    size_t query_count;
    /* Each is signed: every x-amz-… and x-goog-… field, content-type, and what else the caller
     * likes. Names in any case. Not host, x-amz-date, x-amz-security-token, x-amz-content-sha256,
     * which are signed as well; and no name twice. */
    const struct sigv4_pair *headers;
    size_t header_count;
    const char *payload_hash; /* SHA-256 of the body in lower-case hex, or SIGV4_UNSIGNED */
    const char *region;       /* "us-east-1" */
    const char *service;      /* "s3", "sts" */
    const char *key_id;
    const char *secret;
    const char *session_token; /* NULL or "": none */
    int64_t time_s;            /* seconds since 1970 by the service's clock */
};

/* The fields that carry a signature. Zeroed is empty. */
struct sigv4_fields {
    char date[sizeof "x-amz-date: 20130524T000000Z"];
    struct buffer payload;       /* "x-amz-content-sha256: …"; empty for other services than s3 */
    struct buffer token;         /* "x-amz-security-token: …"; empty: no session token */
    struct buffer authorization; /* "Authorization: AWS4-HMAC-SHA256 Credential=…" */
    const char *lines[5];        /* those that are to be sent, NULL-terminated */
};
void sigv4_fields_wipe(struct sigv4_fields *fields); /* wipes, frees, zeroes; safe on zeroed */
#define cleanup_sigv4_fields __attribute__((cleanup(sigv4_fields_wipe)))

/* Appends path and query as they are sent: "/a%20b?list-type=2&prefix=x". False: ERROR_INVALID (too
 * many pairs), ERROR_MEMORY. */
bool sigv4_target(const struct sigv4_request *request, struct buffer *target, struct error *error);

/* Signs by header fields. `fields` is zeroed or of an earlier call; sigv4_fields_wipe() is owed
 * either way. False: ERROR_INVALID (too many pairs or fields, a field twice, a line break in a
 * value), ERROR_MEMORY. The error holds no secret. */
bool sigv4_sign(const struct sigv4_request *request, struct sigv4_fields *fields,
                struct error *error);

/* Appends path and query of a presigned URL, which is good for `expires_s` seconds: 1 to
 * SIGV4_EXPIRES_LIMIT_S. The errors are those of sigv4_sign(). */
bool sigv4_presign(const struct sigv4_request *request, unsigned expires_s, struct buffer *target,
                   struct error *error);

#endif
