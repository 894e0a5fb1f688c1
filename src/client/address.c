/* Classifies addresses, and opens sockets to those that the rule allows. */
#include "client/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Ranges of addresses, the narrow ones before the wide ones that hold them. */
static const struct range_v4 {
    uint32_t first;
    unsigned bits;
    enum address_class class;
} ranges_v4[] = {
    {0x7f000000, 8, ADDRESS_LOOPBACK},    /* 127.0.0.0/8 */
    {0x00000000, 8, ADDRESS_LOOPBACK},    /* 0.0.0.0/8 */
    {0xa9fe0000, 16, ADDRESS_LINK_LOCAL}, /* 169.254.0.0/16: most clouds' metadata servers */
    {0x646464c8, 32, ADDRESS_LINK_LOCAL}, /* 100.100.100.200: Alibaba Cloud's */
    {0xa83f8110, 32, ADDRESS_LINK_LOCAL}, /* 168.63.129.16: Azure's */
    {0xc00000c0, 32, ADDRESS_LINK_LOCAL}, /* 192.0.0.192: Oracle Cloud's */
    {0x0a000000, 8, ADDRESS_PRIVATE},     /* 10.0.0.0/8 */
    {0xac100000, 12, ADDRESS_PRIVATE},    /* 172.16.0.0/12 */
    {0xc0a80000, 16, ADDRESS_PRIVATE},    /* 192.168.0.0/16 */
    {0x64400000, 10, ADDRESS_PRIVATE},    /* 100.64.0.0/10 (RFC 6598) */
    {0xc0000000, 24, ADDRESS_PRIVATE},    /* 192.0.0.0/24 (RFC 6890) */
    {0xc6120000, 15, ADDRESS_PRIVATE},    /* 198.18.0.0/15 (RFC 2544) */
    {0xe0000000, 3, ADDRESS_PRIVATE},     /* 224.0.0.0/3: multicast and reserved */
};

static enum address_class classify_v4(uint32_t address) {
    for (size_t i = 0; i < sizeof ranges_v4 / sizeof *ranges_v4; i++) {
        if ((address ^ ranges_v4[i].first) >> (32 - ranges_v4[i].bits) == 0)
            return ranges_v4[i].class;
    }
    return ADDRESS_ORDINARY;
}

static const struct range_v6 {
    uint8_t first[16];
    unsigned bits;
    enum address_class class;
} ranges_v6[] = {
    {{0xfe, 0x80}, 10, ADDRESS_LINK_LOCAL},                              /* fe80::/10 */
    {{0xfd, 0, 0x0e, 0xc2, [14] = 0x02, 0x54}, 128, ADDRESS_LINK_LOCAL}, /* fd00:ec2::254: AWS */
    {{0xfd, 0x20, 0, 0xce, [14] = 0x02, 0x54}, 128, ADDRESS_LINK_LOCAL}, /* fd20:ce::254: Google */
    {{0xfc}, 7, ADDRESS_PRIVATE},                                        /* fc00::/7 */
    {{0xfe, 0xc0}, 10, ADDRESS_PRIVATE},                                 /* fec0::/10 */
    {{0xff}, 8, ADDRESS_PRIVATE},                                        /* multicast */
    {{0, 0x64, 0xff, 0x9b, 0, 0x01}, 48, ADDRESS_PRIVATE},               /* RFC 8215 */
};

static bool is_in_range(const uint8_t *bytes, const struct range_v6 *range) {
    unsigned whole = range->bits / 8, rest = range->bits % 8;
    return memcmp(bytes, range->first, whole) == 0 &&
           (rest == 0 || (bytes[whole] ^ range->first[whole]) >> (8 - rest) == 0);
}

static enum address_class classify_inner(const uint8_t *bytes) {
    uint32_t inner;
    memcpy(&inner, bytes, sizeof inner);
    return classify_v4(ntohl(inner));
}

static enum address_class classify_v6(const struct in6_addr *address) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    static const uint8_t zero[12], six_to_four[2] = {0x20, 0x02};
    const uint8_t *bytes = address->s6_addr;
    /* :: and ::1 count as the "compatible" addresses 0.0.0.0 and 0.0.0.1. */
    if (memcmp(bytes, mapped, 12) == 0 || memcmp(bytes, nat64, 12) == 0 ||
        memcmp(bytes, zero, 12) == 0)
        return classify_inner(bytes + 12);
    if (memcmp(bytes, six_to_four, 2) == 0)
        return classify_inner(bytes + 2);
    for (size_t i = 0; i < sizeof ranges_v6 / sizeof *ranges_v6; i++) {
        if (is_in_range(bytes, &ranges_v6[i]))
            return ranges_v6[i].class;
    }
    return ADDRESS_ORDINARY;
}

static enum address_class classify(const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        return classify_v4(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        return classify_v6(&v6.sin6_addr);
    }
    return ADDRESS_ORDINARY;
}

static bool parse_v6(const char *host, struct in6_addr *out) {
    char bare[INET6_ADDRSTRLEN];
    size_t length = strlen(host);
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    }
    size_t address = strcspn(host, "%");
    if (address < length)
        length = address; /* the zone behind % does not change the class */
    if (length >= sizeof bare)
        return false;
    memcpy(bare, host, length);
    bare[length] = '\0';
    return inet_pton(AF_INET6, bare, out) == 1;
}

bool address_is_literal(const char *host) {
    struct in_addr v4;
    struct in6_addr v6;
    return inet_aton(host, &v4) != 0 || parse_v6(host, &v6);
}

/* Whether `host`, with or without a final dot, is `name` or (`below`) a name below it. */
static bool is_name(const char *host, const char *name, bool below) {
    size_t length = strlen(host), wanted = strlen(name);
    if (length && host[length - 1] == '.')
        length--;
    if (length < wanted || strncasecmp(host + length - wanted, name, wanted) != 0)
        return false;
    return length == wanted || (below && host[length - wanted - 1] == '.');
}

enum address_class address_classify_host(const char *host) {
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_aton(host, &v4))
        return classify_v4(ntohl(v4.s_addr));
    if (parse_v6(host, &v6))
        return classify_v6(&v6);
    if (is_name(host, "localhost", true))
        return ADDRESS_LOOPBACK;
    if (is_name(host, "metadata.google.internal", true) || is_name(host, "metadata", false))
        return ADDRESS_LINK_LOCAL;
    return ADDRESS_ORDINARY;
}

bool address_allowed(enum address_class class, const struct address_rule *rule) {
    if (class == ADDRESS_PRIVATE)
        return rule->allow_private;
    if (class == ADDRESS_LOOPBACK)
        return rule->allow_loopback;
    if (class == ADDRESS_LINK_LOCAL)
        return rule->allow_link_local;
    return true;
}

curl_socket_t address_open(void *context, curlsocktype purpose, struct curl_sockaddr *address) {
    struct address_watch *watch = context;
    if (purpose != CURLSOCKTYPE_IPCXN)
        return CURL_SOCKET_BAD;
    if (!watch->proxied && !address_allowed(classify(&address->addr), &watch->rule)) {
        watch->refused = true;
        getnameinfo(&address->addr, address->addrlen, watch->refused_address,
                    sizeof watch->refused_address, NULL, 0, NI_NUMERICHOST);
        return CURL_SOCKET_BAD;
    }
    watch->opened = true;
    /* Close-on-exec: credential helpers must not inherit connections. */
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}
