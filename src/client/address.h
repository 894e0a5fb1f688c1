/*
 * Which addresses may be connected to. A registry's redirects, its realms and the responses of name
 * servers are hostile input: they must not lead to this machine's own services, to a cloud's
 * metadata server, or from the Internet into a private network. The address that is really
 * connected to is checked, because a name may resolve to any address.
 *
 * Pure, but for address_open().
 */
#ifndef CLIENT_ADDRESS_H
#define CLIENT_ADDRESS_H

#include <curl/curl.h>
#include <stdbool.h>

enum address_class {
    ADDRESS_ORDINARY,
    ADDRESS_PRIVATE,    /* of a private network: RFC 1918, RFC 6598, fc00::/7 and the like */
    ADDRESS_LOOPBACK,   /* 127.0.0.0/8, ::1, 0.0.0.0/8, :: */
    ADDRESS_LINK_LOCAL, /* 169.254.0.0/16, fe80::/10, and the clouds' metadata servers elsewhere */
};

struct address_rule {
    bool allow_private;
    bool allow_loopback;
    bool allow_link_local;
};

/* Filled by address_open() while a transfer connects. */
struct address_watch {
    struct address_rule rule;
    bool proxied;             /* the address is a proxy's, which the operator chose: no check */
    bool opened;              /* a connection was begun; false: a kept one is used, or none yet */
    bool refused;             /* the rule refused an address */
    char refused_address[64]; /* for people */
};

/* The class of a URL's host: of a literal address ("[::1]" with or without brackets, any spelling
 * that inet_aton accepts), of "localhost" and all names below it, and of Google's metadata names.
 * Every other name is ordinary. An IPv4 address inside an IPv6 address (mapped, NAT64, 6to4) is
 * classified as that IPv4 address. */
enum address_class address_classify_host(const char *host);
bool address_is_literal(const char *host);

bool address_allowed(enum address_class class, const struct address_rule *rule);

/* CURLOPT_OPENSOCKETFUNCTION; its data is a struct address_watch. */
curl_socket_t address_open(void *watch, curlsocktype purpose, struct curl_sockaddr *address);

#endif
