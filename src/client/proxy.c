/* Reads the environment's proxies, and the list of exempt hosts. */
#include "client/proxy.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include "base/text.h"

/* Writes the four or sixteen bytes of an address and returns their number; 0: not an address. */
static size_t parse_address(struct text text, unsigned char out[static 16]) {
    char address[INET6_ADDRSTRLEN];
    if (text.length >= 2 && text.at[0] == '[' && text.at[text.length - 1] == ']')
        text = (struct text){text.at + 1, text.length - 2};
    if (!text_copy(text, address, sizeof address))
        return 0;
    if (inet_pton(AF_INET, address, out) == 1)
        return 4;
    return inet_pton(AF_INET6, address, out) == 1 ? 16 : 0;
}

static bool same_network(const unsigned char *a, const unsigned char *b, size_t bits) {
    size_t bytes = bits / 8, rest = bits % 8;
    if (memcmp(a, b, bytes) != 0)
        return false;
    return rest == 0 || (a[bytes] ^ b[bytes]) >> (8 - rest) == 0;
}

static bool entry_names_address(struct text entry, const unsigned char *address, size_t size) {
    unsigned char network[16];
    struct text bits_text, base = text_cut(entry, '/', &bits_text);
    uint64_t bits = size * 8;
    if (parse_address(base, network) != size)
        return false;
    if (bits_text.at && (!text_to_u64(bits_text, &bits) || bits > size * 8))
        return false;
    return same_network(address, network, (size_t)bits);
}

static bool entry_names_host(struct text entry, struct text host) {
    if (text_starts(entry, "*."))
        entry = text_from(entry, 1);
    if (text_starts(entry, "."))
        entry = text_from(entry, 1);
    if (entry.length == 0 || host.length < entry.length ||
        strncasecmp(host.at + host.length - entry.length, entry.at, entry.length) != 0)
        return false;
    return host.length == entry.length || host.at[host.length - entry.length - 1] == '.';
}

/* Cuts ":port" off an entry. False: the entry is for another port. An IPv6 address without brackets
 * has no port. */
static bool cut_port(struct text *entry, unsigned port) {
    const char *colon = memrchr(entry->at, ':', entry->length);
    if (!colon || memchr(entry->at, ':', (size_t)(colon - entry->at))) {
        bool bracketed = colon && colon > entry->at && colon[-1] == ']';
        if (!bracketed)
            return true;
    }
    uint64_t named;
    size_t before = (size_t)(colon - entry->at);
    if (!text_to_u64(text_from(*entry, before + 1), &named) || named != port)
        return false;
    entry->length = before;
    return true;
}

bool proxy_exempt(const char *list, const char *host, unsigned port) {
    struct text name = text_of(host);
    unsigned char address[16];
    if (name.length && name.at[name.length - 1] == '.')
        name.length--;
    size_t address_size = parse_address(name, address);
    for (const char *at = list; *at;) {
        size_t length = strcspn(at, ", \t");
        struct text entry = {at, length};
        at += length + (at[length] != '\0');
        if (length == 0)
            continue;
        if (text_is(entry, "*"))
            return true;
        if (!cut_port(&entry, port))
            continue;
        if (address_size ? entry_names_address(entry, address, address_size)
                         : entry_names_host(entry, name))
            return true;
    }
    return false;
}

/* The value of `lower`, else of `upper`; an empty value counts as absent. */
static const char *from_environment(const char *lower, const char *upper) {
    const char *value = getenv(lower);
    if (!value)
        value = getenv(upper);
    return value && *value ? value : NULL;
}

const char *proxy_for(const char *scheme, const char *host, unsigned port) {
    const char *proxy = strcasecmp(scheme, "https") == 0
                            ? from_environment("https_proxy", "HTTPS_PROXY")
                            : from_environment("http_proxy", "HTTP_PROXY");
    if (!proxy)
        proxy = from_environment("all_proxy", "ALL_PROXY");
    if (!proxy)
        return NULL;
    const char *exempt = from_environment("no_proxy", "NO_PROXY");
    return exempt && proxy_exempt(exempt, host, port) ? NULL : proxy;
}
