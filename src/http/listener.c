/* Opens listening sockets: TCP by address or name, and Unix sockets with a file. */
#include "http/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/text.h"

enum { BACKLOG = 4096 }; /* the kernel takes the lesser of this and somaxconn */

/* ---- "host:port" ---- */

struct address {
    char host[256]; /* "" means all addresses */
    char port[6];
    bool bracketed;
};

static bool read_address(const char *string, struct address *out, struct error *error) {
    struct text whole = text_of(string);
    const char *colon = strrchr(string, ':');
    uint64_t port = 0;
    if (!colon || !text_to_u64(text_of(colon + 1), &port) || port > 65535)
        return error_set(error, ERROR_INVALID,
                         "\"%s\" is no address to listen on: it must be HOST:PORT or :PORT",
                         string);
    struct text host = {whole.at, (size_t)(colon - string)};
    out->bracketed = host.length >= 2 && host.at[0] == '[' && host.at[host.length - 1] == ']';
    if (out->bracketed)
        host = (struct text){host.at + 1, host.length - 2};
    if ((host.length && !out->bracketed && memchr(host.at, ':', host.length)) ||
        (out->bracketed && host.length == 0) || !text_copy(host, out->host, sizeof out->host))
        return error_set(error, ERROR_INVALID,
                         "\"%s\" is no address to listen on: write IPv6 as [ADDRESS]:PORT", string);
    snprintf(out->port, sizeof out->port, "%u", (unsigned)port);
    return true;
}

/* ---- one socket ---- */

/* Lets others bind a part of the same address. */
static void set_sharing(int fd, bool is_shared) {
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){is_shared}, sizeof(int));
}

static int try_socket(const struct sockaddr *address, socklen_t size, bool v6_only,
                      bool is_shared) {
    cleanup_close int fd =
        socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (is_shared)
        set_sharing(fd, true);
    if (address->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){v6_only}, sizeof(int));
    if (bind(fd, address, size) != 0 || listen(fd, BACKLOG) != 0)
        return -1;
    if (is_shared)
        set_sharing(fd, false);
    return take_fd(fd);
}

/* The listeners that are being opened. */
struct opening {
    struct listeners *made;
    const struct listeners *before; /* NULL: none */
    bool leaves[LISTENER_LIMIT];    /* which of those go */
    const char *string;             /* the address, as it was written */
    bool other_v4, is_side;
};

/* The sockets that go are shared for a moment, because both they and the new one have to be open
 * until all new ones are. Only this user's processes could come between. */
static int open_socket(const struct opening *opening, const struct sockaddr *address,
                       socklen_t size, bool v6_only) {
    const struct listeners *before = opening->before;
    int fd = try_socket(address, size, v6_only, false);
    if (fd >= 0 || errno != EADDRINUSE || !before)
        return fd;
    for (size_t i = 0; i < before->count; i++)
        if (opening->leaves[i])
            set_sharing(before->each[i].fd, true);
    fd = try_socket(address, size, v6_only, true);
    int saved = errno;
    for (size_t i = 0; i < before->count; i++)
        if (opening->leaves[i])
            set_sharing(before->each[i].fd, false);
    errno = saved;
    return fd;
}

static unsigned port_of(const struct sockaddr_storage *address) {
    if (address->ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
    return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

static void set_port(struct sockaddr_storage *address, unsigned port) {
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
}

static unsigned bound_port(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    return port_of(&address);
}

/* ---- all sockets of an address ---- */

/* Whether only clients on this machine can reach the address. */
static bool is_loopback(const struct sockaddr_storage *address) {
    if (address->ss_family != AF_INET6)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}

/* Takes the descriptor. False: no memory, and it is closed. */
static bool add(const struct opening *opening, int fd, const struct sockaddr_storage *address,
                struct error *error) {
    struct listeners *made = opening->made;
    struct listener *new = &made->each[made->count];
    *new = (struct listener){.fd = fd,
                             .address = strdup(opening->string),
                             .other_v4 = opening->other_v4,
                             .is_loopback = address && is_loopback(address),
                             .is_side = opening->is_side};
    if (!new->address) {
        close(fd);
        return error_set(error, ERROR_MEMORY, "no memory for the server");
    }
    if (!address)
        new->path = new->address + strlen("unix:");
    made->count++;
    return true;
}

static bool check_count(const struct opening *opening, struct error *error) {
    return opening->made->count < LISTENER_LIMIT ||
           error_set(error, ERROR_INVALID, "listening on %s: more than %d addresses",
                     opening->string, LISTENER_LIMIT);
}

/* Names and wildcards yield IPv6 addresses even on a machine without IPv6. */
static bool family_is_missing(int error_number) {
    return error_number == EAFNOSUPPORT || error_number == EADDRNOTAVAIL;
}

/* Name services may give an address twice. */
static bool came_before(const struct addrinfo *list, const struct addrinfo *this) {
    for (; list != this; list = list->ai_next)
        if (list->ai_addrlen == this->ai_addrlen &&
            memcmp(list->ai_addr, this->ai_addr, this->ai_addrlen) == 0)
            return true;
    return false;
}

/* *without_family: none of the addresses is of a family that this machine has. */
static bool listen_on_each(const struct opening *opening, const struct addrinfo *list, bool v6_only,
                           bool *without_family, struct error *error) {
    size_t first = opening->made->count;
    int missing = EADDRNOTAVAIL;
    unsigned port = 0;
    *without_family = false;
    for (const struct addrinfo *entry = list; entry; entry = entry->ai_next) {
        if (came_before(list, entry))
            continue;
        struct sockaddr_storage bound = {0};
        memcpy(&bound, entry->ai_addr, entry->ai_addrlen);
        if (port)
            set_port(&bound, port);
        if (!check_count(opening, error))
            return false;
        int fd = open_socket(opening, (const struct sockaddr *)&bound, entry->ai_addrlen, v6_only);
        if (fd < 0 && family_is_missing(errno)) {
            missing = errno;
            continue;
        }
        if (fd < 0)
            return error_set_errno(error, errno, "listening on %s", opening->string);
        port = bound_port(fd);
        if (!add(opening, fd, &bound, error))
            return false;
    }
    *without_family = opening->made->count == first;
    if (*without_family)
        return error_set_errno(error, missing, "listening on %s", opening->string);
    return true;
}

/* ":port": one socket for IPv6 and IPv4, or for IPv4 alone on a machine without IPv6. */
static bool listen_on_all(const struct opening *opening, const struct address *address,
                          struct error *error) {
    uint64_t port = 0;
    text_to_u64(text_of(address->port), &port);
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct addrinfo six = {.ai_addr = (struct sockaddr *)&v6, .ai_addrlen = sizeof v6};
    struct addrinfo four = {.ai_addr = (struct sockaddr *)&v4, .ai_addrlen = sizeof v4};
    bool without_family = false;
    if (listen_on_each(opening, &six, opening->other_v4, &without_family, error))
        return true;
    return without_family && listen_on_each(opening, &four, false, &without_family, error);
}

/* ---- a Unix socket ---- */

/* Makes the address of the socket file `name` in the open folder. The address goes through /proc,
 * because the system allows paths of at most 107 bytes, and ours may be longer. */
static bool name_in(int folder, const char *name, struct sockaddr_un *out) {
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length = snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/%s", folder, name);
    return length > 0 && (size_t)length < sizeof out->sun_path;
}

/* Whether a process accepts connections at the address. */
static bool is_in_use(const struct sockaddr_un *address) {
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
                       errno == EAGAIN); /* its backlog is full */
}

/* At no moment may anybody but the owner use the socket's file, so its mode is set before it has a
 * name. */
static int open_unix_socket(const struct sockaddr_un *address) {
    cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || fchmod(fd, 0600) != 0 ||
        bind(fd, (const struct sockaddr *)address, sizeof *address) != 0 ||
        listen(fd, BACKLOG) != 0)
        return -1;
    return take_fd(fd);
}

static bool listen_on_file(const struct opening *opening, const char *path, struct error *error) {
    const char *slash = strrchr(path, '/');
    struct sockaddr_un address;
    char folder[4096];
    struct stat found;
    if (!slash || !slash[1] ||
        !text_copy((struct text){path, (size_t)(slash - path) + 1}, folder, sizeof folder))
        return error_set(error, ERROR_INVALID,
                         "unix:%s is no address to listen on: write unix: and an absolute path",
                         path);
    if (!check_count(opening, error))
        return false;
    cleanup_close int directory = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return error_set_errno(error, errno, "listening on %s", path);
    if (!name_in(directory, slash + 1, &address))
        return error_set(error, ERROR_INVALID, "listening on %s: the file's name is too long",
                         path);
    if (lstat(path, &found) == 0) {
        if (!S_ISSOCK(found.st_mode))
            return error_set(error, ERROR_INVALID,
                             "listening on %s: a file of that name exists and is no socket", path);
        if (is_in_use(&address))
            return error_set(error, ERROR_BUSY, "listening on %s: another process listens there",
                             path);
        if (unlink(path) != 0 && errno != ENOENT)
            return error_set_errno(error, errno,
                                   "listening on %s: the old socket cannot be removed", path);
    }
    int fd = open_unix_socket(&address);
    if (fd < 0)
        return error_set_errno(error, errno, "listening on %s", path);
    return add(opening, fd, NULL, error);
}

/* ---- any address ---- */

static bool listen_on_host(const struct opening *opening, const struct address *address,
                           struct error *error) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    if (address->bracketed) {
        hints.ai_family = AF_INET6;
        hints.ai_flags |= AI_NUMERICHOST;
    }
    struct addrinfo *found = NULL;
    int failure = getaddrinfo(address->host, address->port, &hints, &found);
    if (failure != 0)
        return error_set(error, ERROR_INVALID, "listening on %s: %s", opening->string,
                         gai_strerror(failure));
    bool wildcard = strcmp(address->host, "::") == 0;
    bool without_family = false;
    bool done =
        listen_on_each(opening, found, !wildcard || opening->other_v4, &without_family, error);
    freeaddrinfo(found);
    return done;
}

/* Borrows the sockets of the same address. False: there are none. */
static bool borrow(const struct opening *opening, struct error *error) {
    const struct listeners *before = opening->before;
    size_t first = opening->made->count;
    for (size_t i = 0; before && i < before->count; i++) {
        const struct listener *old = &before->each[i];
        if (opening->leaves[i] || strcmp(old->address, opening->string) != 0 ||
            listeners_have(opening->made, old->fd))
            continue;
        struct listener *new = &opening->made->each[opening->made->count];
        *new = *old;
        new->is_side = opening->is_side;
        new->is_borrowed = true;
        new->address = strdup(old->address);
        if (!new->address)
            return error_set(error, ERROR_MEMORY, "no memory for the server");
        new->path = old->path ? new->address + strlen("unix:") : NULL;
        opening->made->count++;
    }
    return opening->made->count > first;
}

static bool listen_on(const struct opening *opening, struct error *error) {
    struct address address = {0};
    struct error failed = {0};
    if (borrow(opening, &failed))
        return true;
    if (failed.kind)
        return error_set(error, failed.kind, "%s", failed.text);
    if (text_starts(text_of(opening->string), "unix:"))
        return listen_on_file(opening, opening->string + strlen("unix:"), error);
    if (!read_address(opening->string, &address, error))
        return false;
    return address.host[0] ? listen_on_host(opening, &address, error)
                           : listen_on_all(opening, &address, error);
}

/* ---- all addresses ---- */

static bool names(const char *const *list, size_t count, const char *string) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i], string) == 0)
            return true;
    return false;
}

static bool has_v4_wildcard(const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (text_starts(text_of(list[i]), "0.0.0.0:"))
            return true;
    return false;
}

/* An address stays unless what it means depends on whether there is an IPv4 wildcard. */
static void find_leaving(struct opening *opening, const struct listener_addresses *addresses) {
    for (size_t i = 0; opening->before && i < opening->before->count; i++) {
        const struct listener *old = &opening->before->each[i];
        bool is_wanted = names(addresses->listen, addresses->listen_count, old->address) ||
                         names(addresses->side_listen, addresses->side_count, old->address);
        bool is_six = text_starts(text_of(old->address), "[::]:") || old->address[0] == ':';
        opening->leaves[i] = !is_wanted || (is_six && old->other_v4 != opening->other_v4);
    }
}

static bool listen_on_list(struct opening *opening, const char *const *list, size_t count,
                           bool is_side, struct error *error) {
    opening->is_side = is_side;
    for (size_t i = 0; i < count; i++) {
        opening->string = list[i];
        if (!listen_on(opening, error))
            return false;
    }
    return true;
}

struct listeners *listeners_open(const struct listener_addresses *addresses,
                                 const struct listeners *before, struct error *error) {
    struct opening opening = {.made = calloc(1, sizeof *opening.made), .before = before};
    if (!opening.made) {
        error_set(error, ERROR_MEMORY, "no memory for the server");
        return NULL;
    }
    opening.other_v4 = has_v4_wildcard(addresses->listen, addresses->listen_count) ||
                       has_v4_wildcard(addresses->side_listen, addresses->side_count);
    find_leaving(&opening, addresses);
    if (addresses->listen_count == 0)
        error_set(error, ERROR_INVALID, "no address to listen on");
    else if (listen_on_list(&opening, addresses->listen, addresses->listen_count, false, error) &&
             listen_on_list(&opening, addresses->side_listen, addresses->side_count, true, error))
        return opening.made;
    listeners_free(opening.made);
    return NULL;
}

void listeners_take_over(struct listeners *listeners, struct listeners *before) {
    for (size_t i = 0; i < before->count; i++)
        before->each[i].is_borrowed = listeners_have(listeners, before->each[i].fd);
    for (size_t i = 0; i < listeners->count; i++)
        listeners->each[i].is_borrowed = false;
}

void listeners_close(struct listeners *listeners) {
    if (listeners->are_closed)
        return;
    listeners->are_closed = true;
    for (size_t i = 0; i < listeners->count; i++) {
        const struct listener *listener = &listeners->each[i];
        if (listener->is_borrowed)
            continue;
        close(listener->fd);
        if (listener->path)
            unlink(listener->path);
    }
}

void listeners_free(struct listeners *listeners) {
    if (!listeners)
        return;
    listeners_close(listeners);
    for (size_t i = 0; i < listeners->count; i++)
        free(listeners->each[i].address);
    free(listeners);
}

bool listeners_have(const struct listeners *listeners, int fd) {
    for (size_t i = 0; i < listeners->count; i++)
        if (listeners->each[i].fd == fd)
            return true;
    return false;
}

unsigned listeners_port(const struct listeners *listeners) {
    return listeners->count && !listeners->each[0].path ? bound_port(listeners->each[0].fd) : 0;
}

void listener_name(const struct sockaddr_storage *address, char out[LISTENER_NAME_LIMIT]) {
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_UNIX) {
        text_copy(text_of("unix"), out, LISTENER_NAME_LIMIT);
        return;
    }
    bool six = address->ss_family == AF_INET6;
    if (six) {
        const struct in6_addr *v6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
        six = !IN6_IS_ADDR_V4MAPPED(v6);
        if (six)
            inet_ntop(AF_INET6, v6, host, sizeof host);
        else
            inet_ntop(AF_INET, &v6->s6_addr[12], host, sizeof host);
    } else {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, host, sizeof host);
    }
    snprintf(out, LISTENER_NAME_LIMIT, six ? "[%s]:%u" : "%s:%u", host, port_of(address));
}
