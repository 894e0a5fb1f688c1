/*
 * A member of the replicas' list: one tarn, by the address that the others reach it at. Two members
 * are the same if their texts are, so a text has one form only.
 *
 * Pure; any thread.
 */
#ifndef REPLICA_MEMBER_H
#define REPLICA_MEMBER_H

#include <stdbool.h>
#include <stddef.h>
#include "base/text.h"

struct sockaddr;

enum {
    MEMBERS_LIMIT = 64, /* of a list; further ones are left out */
    MEMBER_SIZE = 56,   /* "[IPv6]:65535" with the NUL */
};

struct member {
    char text[MEMBER_SIZE]; /* "10.0.0.1:5000", "[fd00::1]:5000" */
};

struct member_list {
    size_t count;
    struct member each[MEMBERS_LIMIT]; /* in the order of their texts, none twice */
};

/* Reads "ADDRESS:PORT", and "ADDRESS" if `port` is not 0; an IPv6 address stands in brackets before
 * a port. False: it is no address (a name is none), or the port is not 1 to 65535. */
bool member_parse(struct text text, unsigned port, struct member *out);

struct sockaddr;
/* False: neither IPv4 nor IPv6. An IPv4 address inside an IPv6 address is an IPv4 address. */
bool member_of_socket(const struct sockaddr *address, unsigned port, struct member *out);

static inline bool member_equal(const struct member *a, const struct member *b) {
    return strcmp(a->text, b->text) == 0;
}

/* Adds the member at its place. False: it is there already, or the list is full and the member
 * comes after all others; of a full list, the last member makes room. */
bool member_list_add(struct member_list *list, const struct member *member);

/* The place in the list; -1: it is not a member. */
int member_list_find(const struct member_list *list, const struct member *member);

bool member_list_equal(const struct member_list *a, const struct member_list *b);

#endif
