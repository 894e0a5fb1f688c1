/*
 * A scripted server in a process of its own, so that calls of the test's process that are made to
 * fail do not fail in the server. Started before the process has further threads.
 */
#ifndef TESTS_SERVER_PROCESS_H
#define TESTS_SERVER_PROCESS_H

#include <stdatomic.h>
#include <sys/types.h>
#include "scripted_server.h"

struct server_process {
    unsigned port;
    atomic_uint *counts; /* SERVER_COUNTS numbers that both processes see: the server's context */
    pid_t process;
    int end; /* a pipe; closed: the process ends */
};

enum { SERVER_COUNTS = 4 };

void server_process_start(struct server_process *server, server_answer *answer);
void server_process_stop(struct server_process *server);

#endif
