/* Classifies addresses, and opens sockets to those that the rule allows. */
#include "client/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static enum address_class classify_v4(uint32_t address) {
    if (address >> 24 == 127 || address >> 24 == 0)
        return ADDRESS_LOOPBACK;
    if (address >> 16 == 0xa9fe)
        return ADDRESS_LINK_LOCAL;
    return ADDRESS_ORDINARY;
}

static enum address_class classify_v6(const struct in6_addr *address) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    static const uint8_t zero[12];
    static const uint8_t metadata[16] = {0xfd, 0, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54};
    const uint8_t *bytes = address->s6_addr;
    /* :: and ::1 count as the "compatible" addresses 0.0.0.0 and 0.0.0.1. */
    if (memcmp(bytes, mapped, 12) == 0 || memcmp(bytes, nat64, 12) == 0 ||
        memcmp(bytes, zero, 12) == 0) {
        uint32_t inner;
        memcpy(&inner, bytes + 12, sizeof inner);
        return classify_v4(ntohl(inner));
    }
    if ((bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80) || memcmp(bytes, metadata, 16) == 0)
        return ADDRESS_LINK_LOCAL;
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
    if (!watch->proxied) {
        enum address_class class = classify(&address->addr);
        if (!address_allowed(class, &watch->rule)) {
            watch->refused = true;
            getnameinfo(&address->addr, address->addrlen, watch->refused_address,
                        sizeof watch->refused_address, NULL, 0, NI_NUMERICHOST);
            return CURL_SOCKET_BAD;
        }
        watch->was_loopback = class == ADDRESS_LOOPBACK;
    }
    /* Close-on-exec: credential helpers must not inherit connections. */
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}
