/* Opens listening sockets: TCP by address or name, and Unix sockets with a file. */
#include "http/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
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

static int open_socket(const struct sockaddr *address, socklen_t size, bool v6_only) {
    cleanup_close int fd =
        socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (address->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){v6_only}, sizeof(int));
    if (bind(fd, address, size) != 0 || listen(fd, BACKLOG) != 0)
        return -1;
    return take_fd(fd);
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

static void close_from(struct listeners *listeners, size_t first) {
    while (listeners->count > first) {
        size_t last = --listeners->count;
        close(listeners->fds[last]);
        if (listeners->paths[last])
            unlink(listeners->paths[last]);
    }
}

/* Names and wildcards yield IPv6 addresses even on a machine without IPv6. */
static bool family_is_missing(int error_number) {
    return error_number == EAFNOSUPPORT || error_number == EADDRNOTAVAIL;
}

/* Whether only clients on this machine can reach the address. */
static bool is_loopback(const struct sockaddr_storage *address) {
    if (address->ss_family != AF_INET6)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
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
static bool listen_on_each(struct listeners *listeners, const struct addrinfo *list, bool v6_only,
                           bool *without_family, const char *string, struct error *error) {
    size_t first = listeners->count;
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
        if (listeners->count == LISTENER_LIMIT) {
            close_from(listeners, first);
            return error_set(error, ERROR_INVALID, "listening on %s: more than %d addresses",
                             string, LISTENER_LIMIT);
        }
        int fd = open_socket((const struct sockaddr *)&bound, entry->ai_addrlen, v6_only);
        if (fd < 0 && family_is_missing(errno)) {
            missing = errno;
            continue;
        }
        if (fd < 0) {
            int error_number = errno;
            close_from(listeners, first);
            return error_set_errno(error, error_number, "listening on %s", string);
        }
        listeners->paths[listeners->count] = NULL;
        listeners->loopback[listeners->count] = is_loopback(&bound);
        listeners->fds[listeners->count++] = fd;
        port = bound_port(fd);
    }
    *without_family = listeners->count == first;
    if (*without_family)
        return error_set_errno(error, missing, "listening on %s", string);
    return true;
}

/* ":port": one socket for IPv6 and IPv4, or for IPv4 alone on a machine without IPv6. */
static bool listen_on_all(struct listeners *listeners, const struct address *address, bool other_v4,
                          const char *string, struct error *error) {
    uint64_t port = 0;
    text_to_u64(text_of(address->port), &port);
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct addrinfo six = {.ai_addr = (struct sockaddr *)&v6, .ai_addrlen = sizeof v6};
    struct addrinfo four = {.ai_addr = (struct sockaddr *)&v4, .ai_addrlen = sizeof v4};
    bool without_family = false;
    if (listen_on_each(listeners, &six, other_v4, &without_family, string, error))
        return true;
    return without_family &&
           listen_on_each(listeners, &four, false, &without_family, string, error);
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

static bool listen_on_file(struct listeners *listeners, const char *path, struct error *error) {
    const char *slash = strrchr(path, '/');
    struct sockaddr_un address;
    char folder[4096];
    struct stat found;
    if (!slash || !slash[1] ||
        !text_copy((struct text){path, (size_t)(slash - path) + 1}, folder, sizeof folder))
        return error_set(error, ERROR_INVALID,
                         "unix:%s is no address to listen on: write unix: and an absolute path",
                         path);
    if (listeners->count == LISTENER_LIMIT)
        return error_set(error, ERROR_INVALID, "listening on %s: more than %d addresses", path,
                         LISTENER_LIMIT);
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
    listeners->paths[listeners->count] = path;
    listeners->loopback[listeners->count] = false;
    listeners->fds[listeners->count++] = fd;
    return true;
}

/* ---- any address ---- */

bool listeners_add(struct listeners *listeners, const char *string, bool other_v4,
                   struct error *error) {
    struct address address = {0};
    if (text_starts(text_of(string), "unix:"))
        return listen_on_file(listeners, string + strlen("unix:"), error);
    if (!read_address(string, &address, error))
        return false;
    if (address.host[0] == '\0')
        return listen_on_all(listeners, &address, other_v4, string, error);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    if (address.bracketed) {
        hints.ai_family = AF_INET6;
        hints.ai_flags |= AI_NUMERICHOST;
    }
    struct addrinfo *found = NULL;
    int failure = getaddrinfo(address.host, address.port, &hints, &found);
    if (failure != 0)
        return error_set(error, ERROR_INVALID, "listening on %s: %s", string,
                         gai_strerror(failure));
    bool wildcard = strcmp(address.host, "::") == 0;
    bool without_family = false;
    bool done =
        listen_on_each(listeners, found, !wildcard || other_v4, &without_family, string, error);
    freeaddrinfo(found);
    return done;
}

void listeners_close(struct listeners *listeners) {
    close_from(listeners, 0);
}

unsigned listeners_port(const struct listeners *listeners) {
    return listeners->count && !listeners->paths[0] ? bound_port(listeners->fds[0]) : 0;
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
