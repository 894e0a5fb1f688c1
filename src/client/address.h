/*
 * Which addresses may be connected to. A registry's redirects, realms and DNS answers are hostile
 * input: they must not lead to this machine's own services or to a cloud's metadata server. The
 * check is made on the address that is really connected to, so that no name can smuggle one.
 *
 * Pure but for address_open(), which is libcurl's CURLOPT_OPENSOCKETFUNCTION.
 */
#ifndef CLIENT_ADDRESS_H
#define CLIENT_ADDRESS_H

#include <curl/curl.h>
#include <stdbool.h>
#include <sys/socket.h>

enum address_class {
    ADDRESS_ORDINARY,
    ADDRESS_LOOPBACK,   /* 127.0.0.0/8, ::1, 0.0.0.0/8, :: */
    ADDRESS_LINK_LOCAL, /* 169.254.0.0/16, fe80::/10, fd00:ec2::254 (a metadata server) */
};

struct address_rule {
    bool allow_loopback;
    bool allow_link_local;
};

/* Filled by address_open() while a transfer connects. */
struct address_watch {
    struct address_rule rule;
    bool proxied;      /* a proxy is connected to, and the proxy's address is the operator's */
    bool refused;      /* the rule refused an address */
    bool was_loopback; /* a loopback address was connected to */
    char refused_address[64]; /* for people */
};

/* IPv4 addresses inside IPv6 ones (mapped, NAT64) are looked at as what they are. */
enum address_class address_classify(const struct sockaddr *address);

/* The class of a host as it stands in a URL: a literal address ("[::1]" with or without brackets,
 * any of inet_aton's spellings), "localhost" and names below it, and Google's metadata names;
 * every other name is ordinary. */
enum address_class address_classify_host(const char *host);
bool address_is_literal(const char *host);

bool address_allowed(enum address_class class, const struct address_rule *rule);

/* CURLOPT_OPENSOCKETFUNCTION; its data is a struct address_watch. */
curl_socket_t address_open(void *watch, curlsocktype purpose, struct curl_sockaddr *address);

#endif
