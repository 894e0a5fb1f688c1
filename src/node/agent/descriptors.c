/* Hands descriptors to another process. */
#include "node/agent/descriptors.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Room for the descriptors, aligned as the kernel wants it. */
union control {
    char bytes[CMSG_SPACE(sizeof(int) * DESCRIPTORS_LIMIT)];
    struct cmsghdr aligned;
};

bool descriptors_send(int socket, const void *bytes, size_t length, const int *fds, int count) {
    union control control = {0};
    struct iovec part = {(void *)(size_t)bytes, length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0 && count <= DESCRIPTORS_LIMIT) {
        const size_t size = sizeof(int) * (size_t)count;
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(head), fds, size);
    }
    ssize_t sent;
    while ((sent = sendmsg(socket, &message, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        continue;
    return sent == (ssize_t)length;
}

/* Takes the descriptors of a message. Returns how many of them were kept. */
static int keep_fds(struct msghdr *message, int *fds, int most) {
    int kept = 0;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
            if (kept < most)
                fds[kept++] = fd;
            else
                close(fd);
        }
    }
    return kept;
}

ssize_t descriptors_receive(int socket, void *bytes, size_t length, int *fds, int *count) {
    union control control = {0};
    struct iovec part = {bytes, length};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t received;
    while ((received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        continue;
    *count = received < 0 ? 0 : keep_fds(&message, fds, *count);
    return received;
}
