/* Members' addresses in their one form, and lists of them. */
#include "replica/member.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

static bool write_v4(const struct in_addr *address, unsigned port, struct member *out) {
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, address, text, sizeof text);
    snprintf(out->text, sizeof out->text, "%s:%u", text, port);
    return true;
}

static bool write_v6(const struct in6_addr *address, unsigned port, struct member *out) {
    char text[INET6_ADDRSTRLEN];
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        struct in_addr inner;
        memcpy(&inner, &address->s6_addr[12], sizeof inner);
        return write_v4(&inner, port, out);
    }
    inet_ntop(AF_INET6, address, text, sizeof text);
    snprintf(out->text, sizeof out->text, "[%s]:%u", text, port);
    return true;
}

static bool read_port(struct text text, unsigned *port) {
    uint64_t number;
    if (text.length == 0 || text.length > 5 || !text_to_u64(text, &number) || number < 1 ||
        number > 65535)
        return false;
    *port = (unsigned)number;
    return true;
}

/* Parts "[ADDRESS]:PORT", "ADDRESS:PORT" and "ADDRESS"; port->at NULL: there is none. */
static bool split(struct text text, struct text *address, struct text *port) {
    struct text rest;
    *port = (struct text){0};
    if (text_starts(text, "[")) {
        *address = text_cut(text_from(text, 1), ']', &rest);
        if (!rest.at || (rest.length && rest.at[0] != ':'))
            return false;
        if (rest.length)
            *port = text_from(rest, 1);
        return true;
    }
    *address = text_cut(text, ':', port);
    if (port->at && memchr(port->at, ':', port->length)) { /* an IPv6 address without brackets */
        *address = text;
        *port = (struct text){0};
    }
    return true;
}

bool member_parse(struct text text, unsigned port, struct member *out) {
    struct text address, own_port;
    char copy[INET6_ADDRSTRLEN];
    struct in_addr v4;
    struct in6_addr v6;
    if (!split(text, &address, &own_port) || !text_copy(address, copy, sizeof copy))
        return false;
    if (own_port.at ? !read_port(own_port, &port) : port == 0)
        return false;
    const bool in_brackets = text_starts(text, "[");
    if (!in_brackets && inet_pton(AF_INET, copy, &v4) == 1)
        return write_v4(&v4, port, out);
    return inet_pton(AF_INET6, copy, &v6) == 1 && write_v6(&v6, port, out);
}

bool member_of_socket(const struct sockaddr *address, unsigned port, struct member *out) {
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        return write_v4(&v4.sin_addr, port, out);
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        return write_v6(&v6.sin6_addr, port, out);
    }
    return false;
}

bool member_list_add(struct member_list *list, const struct member *member) {
    size_t at = list->count;
    while (at > 0 && strcmp(list->each[at - 1].text, member->text) > 0)
        at--;
    if (at > 0 && member_equal(&list->each[at - 1], member))
        return false;
    if (at == MEMBERS_LIMIT)
        return false;
    if (list->count == MEMBERS_LIMIT)
        list->count--;
    memmove(&list->each[at + 1], &list->each[at], (list->count - at) * sizeof list->each[0]);
    list->each[at] = *member;
    list->count++;
    return true;
}

int member_list_find(const struct member_list *list, const struct member *member) {
    for (size_t i = 0; i < list->count; i++) {
        if (member_equal(&list->each[i], member))
            return (int)i;
    }
    return -1;
}

bool member_list_equal(const struct member_list *a, const struct member_list *b) {
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (!member_equal(&a->each[i], &b->each[i]))
            return false;
    }
    return true;
}
