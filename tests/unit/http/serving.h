/*
 * The HTTP server under test, on a free port of loopback, and a plain client of it.
 *
 * A test sets what it needs in `settings`, calls start(), and stop() at its end; SERVING_TEST()
 * puts the default settings back before each test, and stops the server of a test that failed.
 *
 * The server's handler answers: /hello, /echo/..., /client (the client's address), /file (FILE_SIZE
 * bytes), /chunked, /nothing (304), in place /now, /now/count (how many requests were `handled`
 * before), /now/large (shared content) and /now/hold (after a wait while `held`), /large (shared
 * content, from a worker), /copied (the same content, without an owner), /body (echoes the
 * request's), /hold (waits while `held`), /watch (waits until the client leaves), and in wrong ways
 * /file/short, /abort, /incomplete and /toolong; for any other path the handler makes no response.
 */
#ifndef TESTS_HTTP_SERVING_H
#define TESTS_HTTP_SERVING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "http/http.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

#define SERVING_TEST(test) cmocka_unit_test_setup_teardown(test, serving_reset, serving_end)

enum {
    FILE_SIZE = 9 << 20,
    CONTENT_SIZE = 8 << 20, /* of /now/large; more than a socket takes at once */
};

extern int file; /* byte i of its content is pattern(i) */
unsigned char pattern(uint64_t offset);
void check_file(const char *bytes, size_t length); /* fails unless they are the whole file */

/* What the next start() starts; every test finds the defaults. */
extern struct http_server_settings settings;
extern const char *const listen_on_any_port[1];
extern struct http_server *server; /* NULL: it does not run */

extern atomic_int handled;           /* requests that have come to the handler */
extern atomic_bool held;             /* /hold waits until it is false */
extern atomic_int holding;           /* requests that wait at /hold or /now/hold */
extern atomic_int gone_seen;         /* /watch has seen its client leave */
extern atomic_int parked;            /* how often /file has waited without a worker */
extern atomic_int now_threads;       /* threads that have answered /now */
extern atomic_int copied_done;       /* requests for /copied that their worker has left */
extern atomic_int large_kept;        /* responses that hold the content of /now/large */
extern atomic_int sending_failed_as; /* the kind of error that ended /file; -1: it has not ended */

int serving_begin(void **state); /* for the group of tests */
int serving_reset(void **state); /* before each test */
int serving_end(void **state);   /* after each test */

void make_server(void); /* for a test that needs the server before it runs; start() follows */
void start(void);
void stop(void);

bool becomes(atomic_int *value, int wanted); /* waits for up to 5 s */
void connections_become(unsigned wanted);    /* the same; fails if they do not */
void workers_become_idle(void); /* all connections are parked; fails if they are not in 10 s */

/* ---- a client ---- */

int dial(void);
int dial_with(int receive_buffer);  /* a small one stands for a slow client */
int dial_from(const char *address); /* "127.0.0.2": another client's address */
void send_text(int fd, const char *string);

/* Reads until the server closes; *reset: it closed by an RST. The caller frees the result. */
char *receive_all(int fd, size_t *length, bool *reset);

/* Reads exactly one response with a Content-Length (its head into `head`). Returns its body's
 * length. */
size_t receive_response(int fd, char *head, size_t size, char *body, size_t body_size,
                        bool is_head);

/* Sends a request on a new connection and expects a response that begins so, then a close. */
void expect_response(const char *request, const char *begin);

bool is_closed_within(int fd, int ms);

#endif
