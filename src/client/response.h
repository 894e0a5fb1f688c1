/*
 * The response to a request (RFC 9110 §3.4): its status, the fields that every caller reads, those
 * that this caller asked for, and its body where it comes whole.
 */
#ifndef CLIENT_RESPONSE_H
#define CLIENT_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>
#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"
#include "client/address.h"
#include "client/challenge.h"

struct client_response {
    int status; /* 0: no final head came */
    bool has_length;
    uint64_t length;   /* Content-Length */
    int retry_after_s; /* Retry-After, at most a day; 0: absent */
    char content_type[128];
    struct buffer body;         /* empty when the body was streamed */
    bool has_address;           /* false: it came through a proxy, or there is no response */
    enum address_class address; /* of the server that responded */
};
void client_response_wipe(struct client_response *response); /* wipes and frees the body */
#define cleanup_client_response __attribute__((cleanup(client_response_wipe)))

/* What a refusal by its status means, whatever kind of server sent it; ERROR_UNAVAILABLE for each
 * status that says nothing about the request. */
enum error_kind client_response_error_kind(int status);

/* A field that the caller wants to read. */
struct client_field {
    const char *name; /* any case */
    char *value;      /* "" : absent, or longer than `size` - 1 bytes */
    size_t size;
    bool is_list; /* several fields make one list (RFC 9110 §5.3), which is cut at `size` - 1 bytes
                   */
};

/* What the caller wants of a response beside what struct client_response holds. Zeroed: nothing. */
struct client_wanted {
    const struct client_field *fields; /* when one that is no list comes twice, the last counts */
    size_t count;
    struct challenge *challenge; /* the best one of all WWW-Authenticate fields; may be NULL */
};

/* Private to client/: called for each response, an interim one (1xx) included. */
void client_response_begin(struct client_response *response, const struct client_wanted *wanted);

/* Reads one field of a head, white space around its value cut. Pure; hostile input. */
void client_response_read_field(struct client_response *response,
                                const struct client_wanted *wanted, struct text name,
                                struct text value);

#endif
