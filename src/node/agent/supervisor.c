/* Holds the channels, starts workers, and starts a process for each order. */
#include "node/agent/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "node/agent/takeover.h"

enum {
    END_MS = 8000, /* how long a worker may take to end, before it is killed */
    SHORT_LIFE_MS = 5000,
    PAUSE_MS = 50, /* before the third worker of those that lived so short; then doubled */
    LONGEST_PAUSE_MS = 800,
};

struct supervisor {
    const struct supervisor_settings *settings;
    struct mount_order_place place;
    struct fuse connection;
    sigset_t signals;
    int lock, signal_fd;
    pid_t worker; /* 0: there is none now */
    int socket;   /* to it; -1: it has closed it */
    bool is_taken, is_ready, is_stopping;
    unsigned restarts, short_lives;
    int ended_by, status; /* of the last worker */
    int64_t began_ms;     /* the worker */
    int64_t due_ms;       /* when the next one is started, or the one that shall end is killed */
};

bool supervisor_write_pid(const char *run, const char *name, pid_t pid, struct error *error) {
    char text[24], temporary[64];
    cleanup_close int folder = open(run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(text, sizeof text, "%d\n", (int)pid);
    snprintf(temporary, sizeof temporary, ".%s.%d", name, (int)getpid());
    cleanup_close int fd =
        folder < 0 ? -1 : openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0 || !file_write_all(fd, text, strlen(text), error) ||
        renameat(folder, temporary, folder, name) != 0)
        return error_set_errno(error, errno, "writing %s/%s", run, name);
    return true;
}

/* ---- orders ---- */

/* The process that carries an order out: it has no channel and no lock. */
static _Noreturn void run_order(struct supervisor *supervisor, const struct mount_order *order,
                                int outcome) {
    const int kept = 3;
    sigset_t none;
    prctl(PR_SET_NAME, "tarn mount");
    if (outcome != kept && dup3(outcome, kept, O_CLOEXEC) < 0)
        _exit(1);
    close_range(kept + 1, ~0U, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    mount_order_perform(&supervisor->place, order, kept);
    _exit(0);
}

static void take_order(struct supervisor *supervisor) {
    static const struct error done;
    struct mount_order order;
    int outcome, received = mount_order_receive(supervisor->socket, &order, &outcome);
    if (received == 0) {
        close(supervisor->socket);
        supervisor->socket = -1;
        return;
    }
    if (received < 0)
        return;
    if (order.kind == MOUNT_ORDER_READY) {
        supervisor->is_ready = true;
        file_write_all(outcome, &done, sizeof done, NULL);
    } else if (fork() == 0) {
        run_order(supervisor, &order, outcome);
    }
    close(outcome); /* if there is no process, the worker sees that the pipe is closed */
}

/* ---- the worker ---- */

static _Noreturn void run_worker(struct supervisor *supervisor, int socket) {
    const struct supervisor_worker worker = {
        .place = &supervisor->place,
        .connection = &supervisor->connection,
        .supervisor = socket,
        .is_taken = supervisor->is_taken || supervisor->restarts > 0,
        .restarts = supervisor->restarts,
        .ended_by = supervisor->ended_by,
    };
    close(supervisor->lock);
    close(supervisor->signal_fd);
    exit(supervisor->settings->work(supervisor->settings->context, &worker));
}

static void start_worker(struct supervisor *supervisor) {
    int ends[2];
    supervisor->began_ms = clock_ms();
    supervisor->due_ms = INT64_MAX;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        supervisor->due_ms = clock_ms() + LONGEST_PAUSE_MS;
        return;
    }
    supervisor->worker = fork();
    if (supervisor->worker == 0) {
        close(ends[0]);
        run_worker(supervisor, ends[1]);
    }
    close(ends[1]);
    supervisor->socket = ends[0];
    if (supervisor->worker < 0) {
        close(supervisor->socket);
        supervisor->socket = -1;
        supervisor->worker = 0;
        supervisor->due_ms = clock_ms() + LONGEST_PAUSE_MS;
    }
}

static void note_end(struct supervisor *supervisor, int status) {
    const bool was_short = clock_ms() - supervisor->began_ms < SHORT_LIFE_MS;
    int64_t pause_ms = 0;
    supervisor->worker = 0;
    supervisor->ended_by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    supervisor->status = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    supervisor->restarts++;
    supervisor->short_lives = was_short ? supervisor->short_lives + 1 : 0;
    if (supervisor->short_lives > 2) {
        pause_ms = supervisor->short_lives > 8 ? LONGEST_PAUSE_MS
                                               : PAUSE_MS << (supervisor->short_lives - 3);
        pause_ms = pause_ms > LONGEST_PAUSE_MS ? LONGEST_PAUSE_MS : pause_ms;
    }
    supervisor->due_ms = clock_ms() + pause_ms;
    if (supervisor->socket >= 0)
        close(supervisor->socket);
    supervisor->socket = -1;
}

static void reap(struct supervisor *supervisor) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == supervisor->worker)
            note_end(supervisor, status);
}

/* ---- running ---- */

static void take_signal(struct supervisor *supervisor) {
    struct signalfd_siginfo signal;
    if (read(supervisor->signal_fd, &signal, sizeof signal) != (ssize_t)sizeof signal)
        return;
    if (signal.ssi_signo == SIGCHLD) {
        reap(supervisor);
    } else if (!supervisor->is_stopping) {
        supervisor->is_stopping = true;
        supervisor->due_ms = clock_ms() + END_MS;
        if (supervisor->worker)
            kill(supervisor->worker, SIGTERM);
    }
}

/* What is due: a worker is started, or killed. */
static void act(struct supervisor *supervisor) {
    if (clock_ms() < supervisor->due_ms)
        return;
    supervisor->due_ms = INT64_MAX;
    if (supervisor->is_stopping && supervisor->worker)
        kill(supervisor->worker, SIGKILL);
    else if (!supervisor->is_stopping && !supervisor->worker)
        start_worker(supervisor);
}

/* Whether the supervisor goes on. */
static bool goes_on(const struct supervisor *supervisor) {
    if (supervisor->worker)
        return true;
    /* A worker that cannot begin ends the supervisor as well, unless containers depend on it. */
    return !supervisor->is_stopping &&
           (supervisor->is_ready || supervisor->is_taken || supervisor->restarts == 0);
}

static int loop(struct supervisor *supervisor) {
    start_worker(supervisor);
    while (goes_on(supervisor)) {
        struct pollfd ready[] = {{.fd = supervisor->signal_fd, .events = POLLIN},
                                 {.fd = supervisor->socket, .events = POLLIN}};
        int64_t left = supervisor->due_ms == INT64_MAX ? -1 : supervisor->due_ms - clock_ms();
        poll(ready, 2, left < 0 ? (supervisor->due_ms == INT64_MAX ? -1 : 0) : (int)left);
        if (ready[0].revents)
            take_signal(supervisor);
        if (ready[1].revents && supervisor->socket >= 0)
            take_order(supervisor);
        act(supervisor);
    }
    return supervisor->is_stopping ? 0 : supervisor->status;
}

/* ---- beginning ---- */

static bool make_folder(const char *path, char out[static PATH_MAX], struct error *error) {
    char copy[PATH_MAX];
    if (!text_copy(text_of(path), copy, sizeof copy))
        return error_set(error, ERROR_INVALID, "%.100s…: the path is too long", path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(copy, 0755);
        *slash = '/';
    }
    if (mkdir(copy, 0700) != 0 && errno != EEXIST)
        return error_set_errno(error, errno, "making the folder %s", path);
    return realpath(copy, out) || error_set_errno(error, errno, "the folder %s", path);
}

static bool take_lock(struct supervisor *supervisor, struct error *error) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/" SUPERVISOR_LOCK, supervisor->place.run);
    supervisor->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (supervisor->lock < 0)
        return error_set_errno(error, errno, "opening %s", path);
    if (fcntl(supervisor->lock, F_OFD_SETLK, &whole) == 0)
        return true;
    return errno == EAGAIN || errno == EACCES
               ? error_set(error, ERROR_BUSY,
                           "another tarn node runs on %s; name another folder "
                           "with --run, or end that one",
                           supervisor->place.run)
               : error_set_errno(error, errno, "locking %s", path);
}

static bool open_connection(struct supervisor *supervisor, struct error *error) {
    char path[PATH_MAX + 32];
    supervisor->is_taken = takeover_take(supervisor->place.run, &supervisor->connection);
    if (supervisor->is_taken)
        return true;
    mount_order_clear(&supervisor->place, false);
    snprintf(path, sizeof path, "%s/images", supervisor->place.run);
    if (mkdir(path, 0711) != 0 && errno != EEXIST)
        return error_set_errno(error, errno, "making the folder %s", path);
    snprintf(path, sizeof path, "%s/files", supervisor->place.run);
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return error_set_errno(error, errno, "making the folder %s", path);
    return fuse_open(&supervisor->connection, path, error);
}

static bool watch_signals(struct supervisor *supervisor, struct error *error) {
    sigemptyset(&supervisor->signals);
    sigaddset(&supervisor->signals, SIGTERM);
    sigaddset(&supervisor->signals, SIGINT);
    sigaddset(&supervisor->signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &supervisor->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    supervisor->signal_fd = signalfd(-1, &supervisor->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    return supervisor->signal_fd >= 0 || error_set_errno(error, errno, "waiting for signals");
}

/* When memory runs out, the kernel ends others first: without the agent no container can read. */
static void protect_from_shortage(void) {
    cleanup_close int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        file_write_all(fd, "-999", 4, NULL);
}

/* Removes what would mislead others. The mounts that people see stay where they are, and fail,
 * because an empty folder in their place would look like an image without files. */
static void clean_up(const struct supervisor *supervisor) {
    static const char *const names[] = {"node.pid", "supervisor.pid"};
    cleanup_close int folder = open(supervisor->place.run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; folder >= 0 && i < sizeof names / sizeof *names; i++)
        unlinkat(folder, names[i], 0);
    mount_order_clear(&supervisor->place, supervisor->is_ready);
}

int supervisor_run(const struct supervisor_settings *settings) {
    char run[PATH_MAX], root[PATH_MAX];
    struct supervisor supervisor = {
        .settings = settings, .place = {run, root}, .lock = -1, .signal_fd = -1, .socket = -1};
    struct error error = {0};
    int status = 1;
    bool ok = make_folder(settings->run, run, &error) &&
              make_folder(settings->root, root, &error) && take_lock(&supervisor, &error);
    if (ok)
        protect_from_shortage();
    ok = ok && watch_signals(&supervisor, &error) && open_connection(&supervisor, &error) &&
         supervisor_write_pid(run, "supervisor.pid", getpid(), &error);
    if (ok) {
        status = loop(&supervisor);
        clean_up(&supervisor);
    } else {
        fprintf(stderr, "tarn node: %s\n", error.text);
    }
    fuse_close(&supervisor.connection);
    if (supervisor.signal_fd >= 0)
        close(supervisor.signal_fd);
    if (supervisor.lock >= 0)
        close(supervisor.lock);
    return status;
}
