/* Hands the channels over. */
#include "node/agent/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/thread.h"
#include "node/agent/descriptors.h"

enum {
    GIVE_MS = 3000, /* how long a worker may take to give its channels */
    END_MS = 5000,  /* how long a killed worker may take to be gone */
    FDS = 1 + FUSE_CHANNELS,
};

#define SOCKET_NAME "takeover.sock"
#define LOCK_NAME   "worker.lock"

/* The path of a socket is limited to 107 bytes: through a descriptor it is short. */
static bool name_socket(int folder, struct sockaddr_un *out) {
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length =
        snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/" SOCKET_NAME, folder);
    return length > 0 && (size_t)length < sizeof out->sun_path;
}

/* ---- the worker ---- */

static bool take_lock(struct takeover *takeover, int folder, struct error *error) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    takeover->lock = openat(folder, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (takeover->lock < 0)
        return error_set_errno(error, errno, "opening " LOCK_NAME);
    return fcntl(takeover->lock, F_SETLK, &whole) == 0 ||
           error_set(error, ERROR_BUSY, "another worker holds " LOCK_NAME);
}

static bool make_socket(struct takeover *takeover, int folder, struct error *error) {
    struct sockaddr_un address;
    if (!name_socket(folder, &address))
        return error_set(error, ERROR_INVALID, "the name of " SOCKET_NAME " is too long");
    unlinkat(folder, SOCKET_NAME, 0);
    takeover->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    return (takeover->socket >= 0 && fchmod(takeover->socket, 0600) == 0 &&
            bind(takeover->socket, (const struct sockaddr *)&address, sizeof address) == 0 &&
            listen(takeover->socket, 4) == 0) ||
           error_set_errno(error, errno, "listening on " SOCKET_NAME);
}

bool takeover_open(struct takeover *takeover, const char *run, const struct fuse *connection,
                   struct error *error) {
    *takeover = (struct takeover){.lock = -1, .socket = -1, .connection = connection};
    cleanup_close int folder = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return error_set_errno(error, errno, "opening the folder %s", run);
    if (take_lock(takeover, folder, error) && make_socket(takeover, folder, error))
        return true;
    takeover_close(takeover);
    return error_wrap(error, "%s", run);
}

static void give(void *context) {
    const struct takeover *takeover = context;
    int fd;
    while ((fd = accept4(takeover->socket, NULL, NULL, SOCK_CLOEXEC)) >= 0 ||
           (errno != EINVAL && errno != EBADF)) {
        struct ucred peer;
        socklen_t size = sizeof peer;
        if (fd < 0)
            continue;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid())
            descriptors_send(fd, "", 1, takeover->connection->fds, FDS);
        close(fd);
    }
}

bool takeover_start(struct takeover *takeover, struct error *error) {
    takeover->started =
        thread_start("takeover", THREAD_STACK, give, takeover, &takeover->thread, error);
    return takeover->started;
}

void takeover_close(struct takeover *takeover) {
    if (takeover->started) {
        shutdown(takeover->socket, SHUT_RDWR); /* accept() then fails */
        pthread_join(takeover->thread, NULL);
    }
    if (takeover->socket >= 0)
        close(takeover->socket);
    if (takeover->lock >= 0)
        close(takeover->lock);
    *takeover = (struct takeover){.lock = -1, .socket = -1};
}

/* ---- the supervisor ---- */

/* The process that holds the lock; 0: there is none. */
static pid_t find_worker(int folder) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    cleanup_close int fd = openat(folder, LOCK_NAME, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_GETLK, &whole) != 0 || whole.l_type == F_UNLCK)
        return 0;
    return whole.l_pid;
}

static bool ask(int folder, struct fuse *out) {
    struct sockaddr_un address;
    const struct timeval patience = {.tv_sec = GIVE_MS / 1000};
    cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    char byte;
    int count = FDS;
    if (fd < 0 || !name_socket(folder, &address) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return false;
    if (descriptors_receive(fd, &byte, 1, out->fds, &count) == 1 && count == FDS) {
        out->is_open = true;
        return true;
    }
    for (int i = 0; i < count; i++)
        close(out->fds[i]);
    return false;
}

bool takeover_take(const char *run, struct fuse *out) {
    cleanup_close int folder = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    pid_t pid = folder >= 0 ? find_worker(folder) : 0;
    cleanup_close int process = pid > 0 ? pidfd_open(pid, 0) : -1;
    *out = (struct fuse){0};
    if (process < 0 || find_worker(folder) != pid) /* it ended, and the number is another's */
        return false;
    bool taken = ask(folder, out);
    struct pollfd ended = {.fd = process, .events = POLLIN};
    pidfd_send_signal(process, SIGKILL, NULL, 0);
    poll(&ended, 1, END_MS);
    return taken;
}
