/* An upstream "origin.example" that really is a scripted server, and what a request to it brings.
 */
#ifndef TESTS_UPSTREAM_BENCH_H
#define TESTS_UPSTREAM_BENCH_H

#include "client/client.h"
#include "scripted_server.h"
#include "upstream/current.h"

#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define BLOB   "/v2/org/app/blobs/" DIGEST

/* What came of one request. */
struct got {
    struct upstream_head head;
    unsigned heads;
    char body[1 << 16];
    size_t length;
    size_t stop_after; /* bytes after which on_bytes refuses; 0: never */
    bool head_first;   /* no byte came before the head */
};

struct bench {
    struct client *client;
    struct upstream_settings settings; /* the defaults, until a test changes them */
    struct server *server;
    char url[64];           /* the server's */
    struct server *other;   /* another host, which is another port here */
    char password_file[32]; /* "": there is none */
    struct current_upstreams *current;
    const struct upstreams *upstreams; /* its set, held */
    struct upstream *upstream;
    struct got got; /* of the last bench_ask() */
    struct error error;
};

/* For cmocka: the teardown stops and frees whatever a test left open. */
int bench_setup(void **state);
int bench_teardown(void **state);
#define WITH_BENCH(test) cmocka_unit_test_setup_teardown(test, bench_setup, bench_teardown)

/* Starts the server and makes the upstream of `bench->settings`. */
void bench_open(struct bench *bench, server_answer *answer, void *context);
/* Makes the upstreams of `settings`, until bench_close(). False: bench->error says why. */
bool bench_make(struct bench *bench, const struct upstream_settings *settings, size_t count);
/* Stops and frees both, and forgets the settings: another bench_open() may follow. */
void bench_close(struct bench *bench);

/* Starts the other host. */
struct server *bench_start_other(struct bench *bench, server_answer *answer, void *context);

/* A source with the user "user" and the password "secret". */
struct credential_source *bench_password(struct bench *bench);

/* A file with this content, which takes the place of the password file. */
const char *bench_write_file(struct bench *bench, const char *content);

/* Asks, and checks that an error names the upstream. */
bool bench_ask(struct bench *bench, const struct upstream_request *request);

/* Has up to 16 threads ask for the blob at the same time; each must get it. */
void bench_ask_at_once(struct bench *bench, unsigned threads);

/* The blob and the manifest org/app:1.2, with one attempt. */
extern const struct upstream_request bench_blob, bench_manifest;

/* 200 "hello" with its head for the manifest, 404 for all else. */
bool answer_hello(struct server *server, int fd, const char *head);

#endif
