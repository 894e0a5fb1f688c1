/* Receives requests from the kernel, and answers them. */
#include "node/agent/reads.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utlist.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/text.h"
#include "base/thread.h"

enum {
    REQUEST_LIMIT = 16 << 10, /* of what is received: names, and no bytes of files */
    VALID_S = 3600,           /* how long the kernel may keep what it has learnt of a file */
    FOLDER = 1,               /* low bits of a folder's node ID; a file's are FIRST_FILE and more */
    FIRST_FILE = 2,
    NODE_BITS = 16,
    WAKE_SIGNAL = SIGUSR2, /* makes a thread leave read() */
    WAKE_MS = 5,
    STATUS_LIMIT = 64 << 10, /* of /proc/THREAD/status */
};

struct channel {
    struct reads *reads;
    int fd;
    pthread_t thread;
    bool started;
    atomic_bool ended;
    char *bytes; /* FUSE_READ_LIMIT, for answers */
};

struct reads {
    struct reads_source source;
    atomic_bool stop;
    struct lock waiting_lock;
    struct condition waiting_ended;
    struct waiting *list GUARDED_BY(waiting_lock); /* reads that wait */
    unsigned waiting GUARDED_BY(waiting_lock);     /* how many */
    struct channel channels[FUSE_CHANNELS];
};

struct request {
    const struct fuse_in_header *head;
    const void *body;
    size_t length; /* of the body */
};

/* A read that waits on a thread of its own. */
struct waiting {
    struct reads *reads;
    int fd;
    uint64_t unique;
    uint32_t thread; /* of the reader; 0: one of the kernel */
    struct reads_read read;
    struct waiting *prev, *next;
};

/* ---- node IDs ---- */

static uint64_t node_of(uint32_t number, uint32_t low) {
    return (uint64_t)number << NODE_BITS | low;
}

static uint32_t number_of(uint64_t node) {
    return (uint32_t)(node >> NODE_BITS);
}

static uint32_t low_of(uint64_t node) {
    return (uint32_t)(node & ((1u << NODE_BITS) - 1));
}

/* ---- answers ---- */

/* An answer to a request that the kernel has given up, or that another worker has answered, is not
 * taken (ENOENT). That is right. */
static void answer(int fd, uint64_t unique, int failure, const void *bytes, size_t length) {
    struct fuse_out_header head = {.unique = unique, .error = -failure};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)(uintptr_t)bytes, length}};
    head.len = (uint32_t)(sizeof head + length);
    while (writev(fd, parts, length ? 2 : 1) < 0 && errno == EINTR)
        continue;
}

static bool fill_attributes(const struct reads *reads, uint64_t node, struct fuse_attr *out) {
    const uint32_t number = number_of(node), low = low_of(node);
    uint64_t size = 0;
    *out = (struct fuse_attr){.ino = node, .mode = S_IFDIR | 0500, .nlink = 2, .blksize = 4096};
    if (node == FUSE_ROOT_ID)
        return true;
    if (!reads->source.size(reads->source.context, number, low >= FIRST_FILE ? low - FIRST_FILE : 0,
                            &size))
        return false;
    if (low < FIRST_FILE)
        return low == FOLDER;
    out->mode = S_IFREG | 0400;
    out->nlink = 1;
    out->size = size;
    out->blocks = (size + 511) / 512;
    return true;
}

/* The node of a name in a folder; 0: there is none. */
static uint64_t find_node(uint64_t folder, struct text name) {
    uint64_t number = 0;
    char digits[TEXT_NUMBER_LIMIT];
    if (!text_to_u64(name, &number) || number > UINT32_MAX)
        return 0;
    struct text canonical = text_of_number(number, digits);
    if (canonical.length != name.length)
        return 0;
    if (folder == FUSE_ROOT_ID)
        return number ? node_of((uint32_t)number, FOLDER) : 0;
    if (low_of(folder) != FOLDER || number >= READS_FILE_LIMIT)
        return 0;
    return node_of(number_of(folder), FIRST_FILE + (uint32_t)number);
}

static void answer_lookup(const struct channel *channel, const struct request *request) {
    const char *name = request->body;
    size_t length = strnlen(name, request->length);
    struct fuse_entry_out out = {.entry_valid = VALID_S, .attr_valid = VALID_S};
    out.nodeid = find_node(request->head->nodeid, (struct text){name, length});
    if (!out.nodeid || !fill_attributes(channel->reads, out.nodeid, &out.attr))
        answer(channel->fd, request->head->unique, ENOENT, NULL, 0);
    else
        answer(channel->fd, request->head->unique, 0, &out, sizeof out);
}

static void answer_attributes(const struct channel *channel, const struct request *request) {
    struct fuse_attr_out out = {.attr_valid = VALID_S};
    if (!fill_attributes(channel->reads, request->head->nodeid, &out.attr))
        answer(channel->fd, request->head->unique, ENOENT, NULL, 0);
    else
        answer(channel->fd, request->head->unique, 0, &out, sizeof out);
}

static void answer_open(const struct channel *channel, const struct request *request) {
    const struct fuse_open_in *asked = request->body;
    struct fuse_open_out out = {.open_flags = FOPEN_KEEP_CACHE};
    struct fuse_attr attributes;
    int failure = 0;
    if (!fill_attributes(channel->reads, request->head->nodeid, &attributes))
        failure = ENOENT;
    else if (request->length < sizeof *asked || (asked->flags & O_ACCMODE) != O_RDONLY)
        failure = EROFS;
    answer(channel->fd, request->head->unique, failure, failure ? NULL : &out,
           failure ? 0 : sizeof out);
}

/* ---- reads ---- */

/* Whether the thread is being killed, or is gone. */
static bool is_killed(uint32_t thread) {
    char path[40];
    snprintf(path, sizeof path, "/proc/%" PRIu32 "/status", thread);
    cleanup_free char *status = file_read_small(path, STATUS_LIMIT, FILE_ANY, NULL, NULL, NULL);
    const char *pending = status ? strstr(status, "\nSigPnd:") : NULL;
    return thread &&
           (!status ||
            (pending && (strtoull(pending + strlen("\nSigPnd:"), NULL, 16) >> (SIGKILL - 1) & 1)));
}

/* The reader got a signal. A read goes on then, because a page that fails would be an error to
 * others as well, unless the reader is being killed: without an answer it could not end. Its thread
 * here waits on, and what comes is kept. */
static void take_interrupt(const struct channel *channel, const struct request *request) {
    const struct fuse_interrupt_in *asked = request->body;
    struct reads *reads = channel->reads;
    uint32_t thread = 0;
    int fd = -1;
    if (request->length < sizeof *asked)
        return;
    lock_acquire(&reads->waiting_lock);
    for (const struct waiting *each = reads->list; each; each = each->next) {
        if (each->unique == asked->unique) {
            thread = each->thread;
            fd = each->fd; /* a request is answered on the channel that it came by */
        }
    }
    lock_release(&reads->waiting_lock);
    if (fd >= 0 && is_killed(thread))
        answer(fd, asked->unique, EINTR, NULL, 0);
}

static void wait_for_read(void *context) {
    struct waiting *waiting = context;
    struct reads *reads = waiting->reads;
    cleanup_free char *bytes = malloc(waiting->read.length);
    enum reads_outcome outcome =
        bytes ? reads->source.read(reads->source.context, &waiting->read, bytes) : READS_FAILED;
    /* What fails because this worker ends is left to the next one. */
    if (outcome == READS_DONE)
        answer(waiting->fd, waiting->unique, 0, bytes, waiting->read.length);
    else if (!atomic_load(&reads->stop))
        answer(waiting->fd, waiting->unique, EIO, NULL, 0);
    lock_acquire(&reads->waiting_lock);
    DL_DELETE(reads->list, waiting);
    reads->waiting--;
    condition_broadcast(&reads->waiting_ended);
    lock_release(&reads->waiting_lock);
    free(waiting);
}

/* Hands the read to a thread of its own. False: there can be no more. */
static bool hand_on(struct reads *reads, const struct waiting *read) {
    struct waiting *waiting = malloc(sizeof *waiting);
    if (!waiting)
        return false;
    *waiting = *read;
    waiting->read.may_wait = true;
    lock_acquire(&reads->waiting_lock);
    bool ok = reads->waiting < READS_WAITING_LIMIT;
    if (ok) {
        reads->waiting++;
        DL_APPEND(reads->list, waiting);
    }
    lock_release(&reads->waiting_lock);
    /* Its interrupt may have come before it was in the list. */
    if (ok && is_killed(waiting->thread))
        answer(waiting->fd, waiting->unique, EINTR, NULL, 0);
    if (ok && thread_start_detached("read waits", wait_for_read, waiting, NULL))
        return true;
    lock_acquire(&reads->waiting_lock);
    if (ok) {
        reads->waiting--;
        DL_DELETE(reads->list, waiting);
    }
    lock_release(&reads->waiting_lock);
    free(waiting);
    return false;
}

static void answer_read(struct channel *channel, const struct request *request) {
    struct reads *reads = channel->reads;
    const struct fuse_read_in *asked = request->body;
    const uint64_t node = request->head->nodeid, unique = request->head->unique;
    struct fuse_attr attributes;
    if (request->length < sizeof *asked || low_of(node) < FIRST_FILE ||
        !fill_attributes(reads, node, &attributes)) {
        answer(channel->fd, unique, EIO, NULL, 0);
        return;
    }
    uint64_t left = asked->offset < attributes.size ? attributes.size - asked->offset : 0;
    struct waiting read = {reads, channel->fd, unique, request->head->pid, {0}, NULL, NULL};
    read.read = (struct reads_read){.number = number_of(node),
                                    .file = low_of(node) - FIRST_FILE,
                                    .offset = asked->offset,
                                    .length = asked->size < left ? asked->size : (size_t)left,
                                    .stop = &reads->stop};
    if (read.read.length > FUSE_READ_LIMIT)
        read.read.length = FUSE_READ_LIMIT;
    enum reads_outcome outcome =
        read.read.length ? reads->source.read(reads->source.context, &read.read, channel->bytes)
                         : READS_DONE;
    if (outcome == READS_MUST_WAIT) {
        if (hand_on(reads, &read))
            return;
        read.read.may_wait = true;
        outcome = reads->source.read(reads->source.context, &read.read, channel->bytes);
    }
    if (outcome == READS_DONE)
        answer(channel->fd, unique, 0, channel->bytes, read.read.length);
    else if (!atomic_load(&reads->stop))
        answer(channel->fd, unique, EIO, NULL, 0);
}

/* ---- requests ---- */

static void answer_request(struct channel *channel, const struct request *request) {
    const struct fuse_statfs_out statistics = {.st = {.bsize = 4096, .namelen = 255}};
    const uint64_t unique = request->head->unique;
    switch (request->head->opcode) {
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
        return; /* they have no answer */
    case FUSE_LOOKUP:
        answer_lookup(channel, request);
        return;
    case FUSE_GETATTR:
        answer_attributes(channel, request);
        return;
    case FUSE_OPEN:
        answer_open(channel, request);
        return;
    case FUSE_READ:
        answer_read(channel, request);
        return;
    case FUSE_STATFS:
        answer(channel->fd, unique, 0, &statistics, sizeof statistics);
        return;
    case FUSE_OPENDIR: {
        const struct fuse_open_out out = {0};
        answer(channel->fd, unique, 0, &out, sizeof out);
        return;
    }
    case FUSE_READDIR: /* the folders look empty, so that nobody walks through them */
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_DESTROY:
        answer(channel->fd, unique, 0, NULL, 0);
        return;
    case FUSE_INTERRUPT:
        take_interrupt(channel, request);
        return; /* it has no answer */
    default:
        answer(channel->fd, unique, ENOSYS, NULL, 0);
    }
}

static void run_channel(void *context) {
    struct channel *channel = context;
    struct reads *reads = channel->reads;
    char bytes[REQUEST_LIMIT] __attribute__((aligned(8)));
    sigset_t wake;
    sigemptyset(&wake);
    sigaddset(&wake, WAKE_SIGNAL);
    pthread_sigmask(SIG_UNBLOCK, &wake, NULL);
    while (!atomic_load(&reads->stop)) {
        ssize_t length = read(channel->fd, bytes, sizeof bytes);
        if (length < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
            continue; /* ENOENT: the request was given up while it was received */
        if (length < (ssize_t)sizeof(struct fuse_in_header)) {
            if (length < 0 && errno != ENODEV) /* ENODEV: the file system was unmounted */
                log_at(LOG_ERROR, "requests cannot be received",
                       LOG_STRING("error", strerror(errno)));
            break;
        }
        const struct request request = {(const void *)bytes, bytes + sizeof(struct fuse_in_header),
                                        (size_t)length - sizeof(struct fuse_in_header)};
        answer_request(channel, &request);
    }
    atomic_store(&channel->ended, true);
}

/* ---- life ---- */

static void wake(int number) {
    (void)number;
}

struct reads *reads_start(const struct fuse *connection, const struct reads_source *source,
                          struct error *error) {
    const struct sigaction action = {.sa_handler = wake}; /* read() is not restarted */
    struct reads *reads = calloc(1, sizeof *reads);
    if (!reads) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    sigaction(WAKE_SIGNAL, &action, NULL);
    reads->source = *source;
    lock_init(&reads->waiting_lock);
    condition_init(&reads->waiting_ended);
    bool ok = true;
    for (int i = 0; ok && i < FUSE_CHANNELS; i++) {
        struct channel *channel = &reads->channels[i];
        channel->reads = reads;
        channel->fd = connection->fds[1 + i];
        channel->bytes = malloc(FUSE_READ_LIMIT);
        ok = channel->bytes || error_set(error, ERROR_MEMORY, "out of memory");
        ok = ok &&
             thread_start("reads", THREAD_STACK, run_channel, channel, &channel->thread, error);
        channel->started = ok;
    }
    if (ok)
        return reads;
    reads_free(reads);
    return NULL;
}

static void end_channel(struct channel *channel) {
    if (channel->started) {
        /* A signal that comes just before read() is lost, so it is sent until the thread ends. */
        while (!atomic_load(&channel->ended)) {
            pthread_kill(channel->thread, WAKE_SIGNAL);
            clock_sleep_ms(WAKE_MS);
        }
        pthread_join(channel->thread, NULL);
    }
    free(channel->bytes);
}

void reads_free(struct reads *reads) {
    if (!reads)
        return;
    atomic_store(&reads->stop, true);
    for (int i = 0; i < FUSE_CHANNELS; i++)
        end_channel(&reads->channels[i]);
    lock_acquire(&reads->waiting_lock);
    while (reads->waiting)
        condition_wait(&reads->waiting_ended, &reads->waiting_lock);
    lock_release(&reads->waiting_lock);
    condition_finish(&reads->waiting_ended);
    lock_finish(&reads->waiting_lock);
    free(reads);
}
