/* Asks the system's resolver for members, and the network interfaces for this machine's own. */
#include "replica/resolve.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>

/* Adds the addresses of one answer. Returns how many did not fit. */
static size_t add_all(const struct addrinfo *found, unsigned port, struct member_list *list) {
    size_t left_out = 0;
    struct member member;
    for (; found; found = found->ai_next) {
        if (!member_of_socket(found->ai_addr, port, &member) ||
            member_list_find(list, &member) >= 0)
            continue;
        left_out += list->count == MEMBERS_LIMIT;
        member_list_add(list, &member);
    }
    return left_out;
}

bool resolve_members(const char *name, unsigned port, struct member_list *list, size_t *left_out,
                     struct error *error) {
    const struct addrinfo wanted = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    *list = (struct member_list){0};
    *left_out = 0;
    const int code = getaddrinfo(name, NULL, &wanted, &found);
    if (code == 0) {
        *left_out = add_all(found, port, list);
        freeaddrinfo(found);
    }
    if (list->count)
        return true;
    if (code == EAI_SYSTEM)
        return error_set_errno(error, errno, "resolving %s", name);
    return error_set(error, code == 0 || code == EAI_NONAME ? ERROR_NOT_FOUND : ERROR_UNAVAILABLE,
                     "%s: %s", name, code ? gai_strerror(code) : "no address");
}

bool resolve_own_member(const struct member_list *list, unsigned port, struct member *own) {
    struct ifaddrs *interfaces = NULL;
    bool is_found = false;
    if (getifaddrs(&interfaces) < 0)
        return false;
    for (const struct ifaddrs *each = interfaces; each && !is_found; each = each->ifa_next)
        is_found = each->ifa_addr && member_of_socket(each->ifa_addr, port, own) &&
                   member_list_find(list, own) >= 0;
    freeifaddrs(interfaces);
    return is_found;
}
