/* Opens the connection to the kernel: the mount, the first exchange, the channels. */
#include "node/agent/fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "node/agent/mountinfo.h"

/* The header of Debian 12 (Linux 6.1) does not have it: Linux 6.9. */
#define NOTIFY_RESEND 7

enum {
    BUFFER = 64 << 10, /* more than FUSE_MIN_READ_BUFFER */
    INIT_WAIT_MS = 10000,
    WRITE_LIMIT = 4096, /* nobody writes; the least that the kernel takes */
    BACKGROUND = 256,   /* reads ahead that the kernel keeps under way */
};

static bool answer_init(int fd, const struct fuse_in_header *head, const struct fuse_init_in *asked,
                        struct error *error) {
    const struct fuse_init_out init = {
        .major = FUSE_KERNEL_VERSION,
        .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = FUSE_READ_LIMIT,
        .flags = asked->flags & (FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |
                                 FUSE_MAX_PAGES | FUSE_EXPORT_SUPPORT),
        .max_background = BACKGROUND,
        .congestion_threshold = BACKGROUND,
        .max_write = WRITE_LIMIT,
        .time_gran = 1,
        .max_pages = FUSE_READ_LIMIT / 4096,
    };
    struct {
        struct fuse_out_header head;
        struct fuse_init_out init;
    } answer = {{.len = sizeof answer, .unique = head->unique}, init};
    return write(fd, &answer, sizeof answer) == (ssize_t)sizeof answer ||
           error_set_errno(error, errno, "answering the kernel's first request");
}

/* Takes the kernel's first request, which comes by itself after the mount. */
static bool take_init(int fd, struct error *error) {
    static char bytes[BUFFER];
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    const struct fuse_in_header *head = (const void *)bytes;
    if (poll(&ready, 1, INIT_WAIT_MS) <= 0)
        return error_set(error, ERROR_TIMEOUT, "the kernel does not send its first request");
    ssize_t length = read(fd, bytes, sizeof bytes);
    if (length < 0)
        return error_set_errno(error, errno, "reading the kernel's first request");
    if ((size_t)length < sizeof *head + 4 * sizeof(uint32_t) || head->opcode != FUSE_INIT)
        return error_set(error, ERROR_IO, "the kernel's first request is another one");
    return answer_init(fd, head, (const void *)(bytes + sizeof *head), error);
}

static bool open_channel(int first, int *out, struct error *error) {
    uint32_t number = (uint32_t)first;
    *out = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    return (*out >= 0 && ioctl(*out, FUSE_DEV_IOC_CLONE, &number) == 0) ||
           error_set_errno(error, errno, "opening another channel of /dev/fuse");
}

/* How far the kernel reads ahead. Without it reads have 128 KiB. The folder itself is not looked
 * at, because nobody answers yet. */
static void set_readahead(const char *folder) {
    cleanup_mountinfo struct mountinfo mountinfo = {0};
    char path[64], text[16];
    if (!mountinfo_read(&mountinfo, NULL))
        return;
    const struct mountinfo_entry *mounted = mountinfo_find(&mountinfo, folder);
    snprintf(path, sizeof path, "/sys/class/bdi/%.20s/read_ahead_kb",
             mounted ? mounted->device : "");
    cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    snprintf(text, sizeof text, "%d", FUSE_READ_LIMIT >> 10);
    if (fd >= 0)
        file_write_all(fd, text, strlen(text), NULL);
}

static bool mount_it(int fd, const char *folder, struct error *error) {
    char options[128];
    snprintf(options, sizeof options,
             "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,max_read=%d", fd,
             FUSE_READ_LIMIT);
    return mount("tarn", folder, "fuse.tarn", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
                 options) == 0 ||
           error_set_errno(error, errno, "mounting the files of images at %s", folder);
}

bool fuse_open(struct fuse *connection, const char *folder, struct error *error) {
    *connection = (struct fuse){.is_open = true};
    for (int i = 0; i <= FUSE_CHANNELS; i++)
        connection->fds[i] = -1;
    int first = connection->fds[0] = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    bool ok = first >= 0 || error_set_errno(error, errno, "opening /dev/fuse");
    ok = ok && mount_it(first, folder, error) && take_init(first, error);
    for (int i = 1; ok && i <= FUSE_CHANNELS; i++)
        ok = open_channel(first, &connection->fds[i], error);
    if (!ok) {
        fuse_close(connection);
        return false;
    }
    set_readahead(folder);
    return true;
}

void fuse_close(struct fuse *connection) {
    for (int i = 0; connection->is_open && i <= FUSE_CHANNELS; i++)
        if (connection->fds[i] >= 0)
            close(connection->fds[i]);
    *connection = (struct fuse){0};
}

bool fuse_resend(const struct fuse *connection) {
    const struct fuse_out_header head = {.len = sizeof head, .error = NOTIFY_RESEND};
    return write(connection->fds[0], &head, sizeof head) == (ssize_t)sizeof head;
}
