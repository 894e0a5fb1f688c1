/* Runs a small program: its pipes, its start, its output, its end. */
#include "auth/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include "base/cleanup.h"
#include "base/clock.h"

extern char **environ;

struct running_program {
    pid_t pid;
    int pidfd, out, err;
};

/* Writes the input before the program starts, while this process holds the reading end: the input
 * fits into the pipe's buffer, so that a program that does not read it can neither block the write
 * nor cause SIGPIPE. */
static bool fill_input(const char *input, int pipe_fds[2], struct error *error) {
    size_t length = strlen(input);
    if (length > PROGRAM_INPUT_LIMIT)
        return error_set(error, ERROR_INVALID, "input of %zu bytes is too long", length);
    if (write(pipe_fds[1], input, length) != (ssize_t)length)
        return error_set_errno(error, errno, "write to a pipe");
    return true;
}

/* What is to be started. */
struct program {
    const char *const *arguments;
    char *const *environment;
    const char *input;
};

static int spawn(const struct program *program, int in, int out, int err, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    if (posix_spawn_file_actions_init(&actions) != 0)
        return ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setpgroup(&attributes, 0); /* its own group, so that all of it can be killed */
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                              POSIX_SPAWN_SETPGROUP);
    int code = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (code == 0)
        code = posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
    if (code == 0)
        code = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    if (code == 0)
        code = posix_spawnp(pid, program->arguments[0], &actions, &attributes,
                            (char *const *)program->arguments, program->environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

static bool start(const struct program *program, struct running_program *running,
                  struct error *error) {
    cleanup_close int in_read = -1;
    cleanup_close int in_write = -1;
    cleanup_close int out_write = -1;
    cleanup_close int err_write = -1;
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "make a pipe");
    in_read = fds[0];
    in_write = fds[1];
    if (!fill_input(program->input, fds, error))
        return false;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "make a pipe");
    running->out = fds[0];
    out_write = fds[1];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "make a pipe");
    running->err = fds[0];
    err_write = fds[1];
    fcntl(running->out, F_SETFL, O_NONBLOCK);
    fcntl(running->err, F_SETFL, O_NONBLOCK);
    int code = spawn(program, in_read, out_write, err_write, &running->pid);
    if (code == ENOENT)
        return error_set(error, ERROR_IO, "no such program on PATH");
    if (code == EPERM) /* see cmd/confine.h */
        return error_set(error, ERROR_IO,
                         "tarn may start no programs, because none was configured when it started "
                         "(start it again)");
    if (code != 0)
        return error_set_errno(error, code, "start it");
    running->pidfd = pidfd_open(running->pid, 0);
    return true;
}

/* Reads what has arrived; false at the end of the stream. Bytes beyond the buffer's limit are read
 * and dropped, so that the program does not block. */
static bool drain(int fd, struct buffer *into) {
    char bytes[4096];
    ssize_t got;
    do {
        got = read(fd, bytes, sizeof bytes);
        if (got > 0)
            buffer_append(into, bytes, (size_t)got);
    } while (got > 0 || (got < 0 && errno == EINTR));
    bool open = got < 0 && errno == EAGAIN;
    explicit_bzero(bytes, sizeof bytes);
    return open;
}

/* Reads until the program ends. It does not wait for the end of its output, because a process that
 * the program left behind may hold that open for ever. */
static bool follow(struct running_program *running, int timeout_ms, struct program_result *result,
                   struct buffer *complaint, struct error *error) {
    int64_t deadline = clock_ms() + timeout_ms;
    struct pollfd fds[3] = {
        {running->pidfd, POLLIN, 0}, {running->out, POLLIN, 0}, {running->err, POLLIN, 0}};
    for (;;) {
        int64_t left = deadline - clock_ms();
        if (left <= 0)
            return error_set(error, ERROR_TIMEOUT, "it did not end within %d s", timeout_ms / 1000);
        if (poll(fds, 3, (int)left) < 0 && errno != EINTR)
            return error_set_errno(error, errno, "wait for it");
        bool ended = fds[0].revents != 0;
        if (fds[1].fd >= 0 && !drain(running->out, &result->out))
            fds[1].fd = -1;
        if (fds[2].fd >= 0 && !drain(running->err, complaint))
            fds[2].fd = -1;
        if (result->out.failed)
            return error_set(error, ERROR_INVALID, "it printed more than %d bytes",
                             PROGRAM_OUTPUT_LIMIT);
        if (ended)
            return true;
    }
}

static int reap(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void close_running(struct running_program *running) {
    if (running->pidfd >= 0)
        close(running->pidfd);
    if (running->out >= 0)
        close(running->out);
    if (running->err >= 0)
        close(running->err);
}

#define cleanup_running __attribute__((cleanup(close_running)))

static bool run(const struct program *program, int timeout_ms, struct program_result *result,
                struct error *error) {
    cleanup_running struct running_program running = {.pidfd = -1, .out = -1, .err = -1};
    *result = (struct program_result){.out.limit = PROGRAM_OUTPUT_LIMIT};
    if (!start(program, &running, error))
        return error_wrap(error, "%s", program->arguments[0]);
    cleanup_buffer struct buffer complaint = {.limit = 16384};
    bool ok = running.pidfd >= 0 || error_set_errno(error, errno, "watch it");
    ok = ok && follow(&running, timeout_ms, result, &complaint, error);
    if (!ok)
        kill(-running.pid, SIGKILL);
    result->exit_status = reap(running.pid);
    struct text rest,
        line = text_cut((struct text){complaint.bytes, complaint.length}, '\n', &rest);
    if (line.length >= sizeof result->complaint)
        line.length = sizeof result->complaint - 1;
    if (line.length)
        text_copy(line, result->complaint, sizeof result->complaint);
    return ok || error_wrap(error, "%s", program->arguments[0]);
}

bool program_run(const char *const *arguments, const char *input, int timeout_ms,
                 struct program_result *result, struct error *error) {
    const struct program program = {arguments, environ, input};
    return run(&program, timeout_ms, result, error);
}

/* Whether one of the variables has the name of `assignment`. */
static bool has_name(const char *const *variables, const char *assignment) {
    size_t length = strcspn(assignment, "=") + 1;
    for (; *variables; variables++) {
        if (strncmp(*variables, assignment, length) == 0)
            return true;
    }
    return false;
}

bool program_run_in(const char *const *arguments, const char *const *variables, const char *input,
                    int timeout_ms, struct program_result *result, struct error *error) {
    size_t count = 1, used = 0;
    for (char **own = environ; *own; own++)
        count++;
    for (const char *const *more = variables; *more; more++)
        count++;
    *result = (struct program_result){0};
    cleanup_free char **environment = calloc(count, sizeof *environment);
    if (!environment)
        return error_set(error, ERROR_MEMORY, "out of memory");
    for (char **own = environ; *own; own++) {
        if (!has_name(variables, *own))
            environment[used++] = *own;
    }
    for (const char *const *more = variables; *more; more++)
        environment[used++] = (char *)*more;
    const struct program program = {arguments, environment, input};
    return run(&program, timeout_ms, result, error);
}

void program_result_finish(struct program_result *result) {
    if (result->out.bytes)
        explicit_bzero(result->out.bytes, result->out.capacity);
    buffer_finish(&result->out);
    *result = (struct program_result){0};
}
