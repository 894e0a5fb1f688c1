/*
 * Which names a client may give to a tarn that listens on loopback (DNS rebinding).
 *
 * A web page may let its own name resolve to 127.0.0.1. The browser then takes tarn's responses for
 * the page's own, and the page can read images that tarn may read. Such a request carries the
 * page's name in Host, so a name that cannot be meant for this tarn is refused.
 */
#include <arpa/inet.h>
#include <strings.h>
#include "registry/call.h"

/* The name in a value of Host, without the port and a dot at the end; "[::1]" keeps its brackets.
 * Empty: the value has another form. */
static struct text name_in(struct text host) {
    struct text name = host;
    const char *end = host.length && host.at[0] == '[' ? memchr(host.at, ']', host.length) : NULL;
    const char *colon =
        memchr(end ? end : host.at, ':', host.length - (size_t)((end ? end : host.at) - host.at));
    if (colon)
        name.length = (size_t)(colon - host.at);
    for (size_t i = name.length + 1; i < host.length; i++) {
        if (host.at[i] < '0' || host.at[i] > '9')
            return (struct text){host.at, 0};
    }
    if (name.length > 1 && name.at[name.length - 1] == '.')
        name.length--;
    return name;
}

static bool is_address(struct text name) {
    char string[INET6_ADDRSTRLEN];
    unsigned char address[sizeof(struct in6_addr)];
    bool six = name.length > 2 && name.at[0] == '[' && name.at[name.length - 1] == ']';
    if (six)
        name = (struct text){name.at + 1, name.length - 2};
    return text_copy(name, string, sizeof string) &&
           inet_pton(six ? AF_INET6 : AF_INET, string, address) == 1;
}

static bool is_server_name(const struct registry_view *view, struct text name) {
    const char *const *listed = view->settings.server_names;
    for (; listed && *listed; listed++) {
        struct text own = name_in(text_of(*listed));
        if (own.length == name.length && strncasecmp(own.at, name.at, name.length) == 0)
            return true;
    }
    return false;
}

bool call_check_host(struct call *call) {
    struct text host = http_field(call->request, "Host");
    if (!host.at || !http_exchange_is_loopback(call->exchange)) /* HTTP/1.0 has no Host */
        return true;
    struct text name = name_in(host);
    if (text_is_nocase(name, "localhost") || is_address(name) || is_server_name(call->view, name) ||
        upstreams_know(call->view->upstreams, name))
        return true;
    call_fail(call, 421, "DENIED",
              "\"%.*s\" is no name of this tarn, which listens for this machine only: ask for "
              "localhost or an address, or add the name to `server_names:`",
              host.length < HOST_LIMIT ? (int)host.length : HOST_LIMIT, host.at);
    return false;
}
