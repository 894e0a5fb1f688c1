/* Names of hosts, repositories, tags and images: their grammar. */
#include "oci/reference.h"

#include <arpa/inet.h>

enum { DNS_LABEL_LIMIT = 63 /* RFC 1035 §2.3.4 */, PORT_DIGITS = 5 };

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_lower_or_digit(char c) {
    return (c >= 'a' && c <= 'z') || is_digit(c);
}

static bool is_letter_or_digit(char c) {
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

/* One path component: runs of [a-z0-9]+ with one separator between two of them. */
static bool is_component(struct text part) {
    size_t i = 0;
    for (;;) {
        size_t run = i;
        while (i < part.length && is_lower_or_digit(part.at[i]))
            i++;
        if (i == run)
            return false;
        if (i == part.length)
            return true;
        char separator = part.at[i++];
        if (separator == '_' && i < part.length && part.at[i] == '_')
            i++;
        else if (separator == '-')
            while (i < part.length && part.at[i] == '-')
                i++;
        else if (separator != '_' && separator != '.')
            return false;
    }
}

bool reference_is_repository(struct text text) {
    if (text.length == 0 || text.length > NAME_LIMIT)
        return false;
    struct text rest = text;
    do {
        if (!is_component(text_cut(rest, '/', &rest)))
            return false;
    } while (rest.at);
    return true;
}

bool reference_is_tag(struct text text) {
    if (text.length == 0 || text.length > TAG_LIMIT)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.at[i];
        if (!is_letter_or_digit(c) && c != '_' && (i == 0 || (c != '.' && c != '-')))
            return false;
    }
    return true;
}

static bool is_port(struct text text) {
    uint64_t port;
    return text.length >= 1 && text.length <= PORT_DIGITS && text.at[0] != '0' &&
           text_to_u64(text, &port) && port <= 65535;
}

static bool is_dns_label(struct text label) {
    if (label.length == 0 || label.length > DNS_LABEL_LIMIT || label.at[0] == '-' ||
        label.at[label.length - 1] == '-')
        return false;
    for (size_t i = 0; i < label.length; i++) {
        if (!is_letter_or_digit(label.at[i]) && label.at[i] != '-')
            return false;
    }
    return true;
}

/* Whether resolvers read a last label as a number ("1", "0x7f"). They take such a host for an IPv4
 * address. */
static bool is_number_label(struct text label) {
    if (text_starts(label, "0x") || text_starts(label, "0X"))
        return true;
    for (size_t i = 0; i < label.length; i++) {
        if (!is_digit(label.at[i]))
            return false;
    }
    return true;
}

static bool is_address(int family, struct text text) {
    char string[INET6_ADDRSTRLEN];
    unsigned char address[sizeof(struct in6_addr)];
    return text_copy(text, string, sizeof string) && inet_pton(family, string, address) == 1;
}

/* DNS labels, or an IPv4 address in its canonical spelling. Other spellings are refused, because
 * "127.1" and "0x7f000001" also mean 127.0.0.1, and a rule about addresses would miss them. */
static bool is_name_or_ipv4(struct text text) {
    struct text rest = text, label;
    do {
        label = text_cut(rest, '.', &rest);
        if (!is_dns_label(label))
            return false;
    } while (rest.at);
    return !is_number_label(label) || is_address(AF_INET, text);
}

bool reference_is_host(struct text text) {
    struct text port;
    if (text.length == 0 || text.length > HOST_LIMIT)
        return false;
    if (text.at[0] == '[') {
        struct text after, address = text_cut(text_from(text, 1), ']', &after);
        if (!after.at || !is_address(AF_INET6, address))
            return false;
        return after.length == 0 || (after.at[0] == ':' && is_port(text_from(after, 1)));
    }
    struct text name = text_cut(text, ':', &port);
    return is_name_or_ipv4(name) && (!port.at || is_port(port));
}

bool reference_looks_like_host(struct text part) {
    return text_is(part, "localhost") || (part.length && (memchr(part.at, '.', part.length) ||
                                                          memchr(part.at, ':', part.length)));
}

bool repository_name_equal(const struct repository_name *a, const struct repository_name *b) {
    return strcmp(a->host, b->host) == 0 && strcmp(a->path, b->path) == 0;
}

bool repository_name_parse(struct text host, struct text path, struct repository_name *out) {
    *out = (struct repository_name){0};
    if (!reference_is_host(host) || !reference_is_repository(path))
        return false;
    return text_copy(host, out->host, sizeof out->host) &&
           text_copy(path, out->path, sizeof out->path);
}

bool reference_parse(struct text text, struct reference *out) {
    struct reference parsed = {0};
    if (text.length && memchr(text.at, ':', text.length)) {
        parsed.is_digest = true;
        if (!digest_parse(text, &parsed.digest))
            return false;
    } else if (!reference_is_tag(text) || !text_copy(text, parsed.tag, sizeof parsed.tag)) {
        return false;
    }
    *out = parsed;
    return true;
}

bool image_name_parse(struct text text, struct image_name *out, struct error *error) {
    enum { LONGEST = HOST_LIMIT + 1 + NAME_LIMIT + 1 + TAG_LIMIT + 1 + DIGEST_STRING_SIZE };
    struct image_name parsed = {0};
    if (text.length == 0)
        return error_set(error, ERROR_INVALID,
                         "image name is empty: expected "
                         "[HOST/]NAME[:TAG][@DIGEST]");
    if (text.length > LONGEST)
        return error_set(error, ERROR_INVALID, "image name of %zu bytes is too long", text.length);

    struct text digest, after, tag;
    struct text name = text_cut(text, '@', &digest);
    struct text first = text_cut(name, '/', &after);
    if (after.at && (reference_looks_like_host(first) || first.at[0] == '[')) {
        if (!reference_is_host(first))
            return error_set(error, ERROR_INVALID,
                             "image name %.*s: \"%.*s\" is not a host name or address",
                             TEXT_PRINT(text), TEXT_PRINT(first));
        text_copy(first, parsed.host, sizeof parsed.host);
        name = after;
    }
    name = text_cut(name, ':', &tag);
    if (!reference_is_repository(name))
        return error_set(error, ERROR_INVALID,
                         "image name %.*s: \"%.*s\" is not a repository name (lower-case letters, "
                         "digits, and single . _ __ - between them, parts separated by /)",
                         TEXT_PRINT(text), TEXT_PRINT(name));
    text_copy(name, parsed.repository, sizeof parsed.repository);
    if (tag.at && !reference_is_tag(tag))
        return error_set(
            error, ERROR_INVALID,
            "image name %.*s: \"%.*s\" is not a tag (at most %d letters, digits, _ . -, "
            "not starting with . or -)",
            TEXT_PRINT(text), TEXT_PRINT(tag), TAG_LIMIT);
    if (digest.at) {
        parsed.reference.is_digest = true;
        if (!digest_parse(digest, &parsed.reference.digest))
            return error_set(
                error, ERROR_INVALID,
                "image name %.*s: \"%.*s\" is not a digest (sha256: and 64, or sha512: "
                "and 128 lower-case hex digits)",
                TEXT_PRINT(text), TEXT_PRINT(digest));
    } else {
        text_copy(tag.at ? tag : text_of("latest"), parsed.reference.tag,
                  sizeof parsed.reference.tag);
    }
    *out = parsed;
    return true;
}
