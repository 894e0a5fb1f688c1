/* A scripted server in a child process. */
#include "server_process.h"

#include <assert.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void serve(const struct server_process *process, server_answer *answer, int port, int end) {
    char ignored;
    const struct server *server = server_start(answer, process->counts);
    if (write(port, &server->port, sizeof server->port) != (ssize_t)sizeof server->port)
        _exit(1);
    while (read(end, &ignored, 1) > 0)
        ;
    _exit(0);
}

void server_process_start(struct server_process *server, server_answer *answer) {
    int end[2], port[2];
    *server = (struct server_process){.process = -1};
    server->counts = mmap(NULL, SERVER_COUNTS * sizeof *server->counts, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(server->counts != MAP_FAILED);
    int code = pipe(end) + pipe(port);
    assert(code == 0);
    server->process = fork();
    assert(server->process >= 0);
    if (server->process == 0) {
        close(end[1]);
        close(port[0]);
        serve(server, answer, port[1], end[0]);
    }
    close(end[0]);
    close(port[1]);
    server->end = end[1];
    ssize_t got = read(port[0], &server->port, sizeof server->port);
    assert(got == (ssize_t)sizeof server->port);
    (void)got;
    close(port[0]);
}

void server_process_stop(struct server_process *server) {
    close(server->end);
    kill(server->process, SIGKILL); /* its threads may stand still on purpose */
    waitpid(server->process, NULL, 0);
    munmap(server->counts, SERVER_COUNTS * sizeof *server->counts);
}
