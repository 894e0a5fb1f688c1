/* A bucket "s3://cache/tarn" that really is a scripted server, which answers what a test has lined
 * up. */
#ifndef TESTS_BUCKET_BENCH_H
#define TESTS_BUCKET_BENCH_H

#include <semaphore.h>
#include "bucket/bucket.h"
#include "client/client.h"
#include "scripted_server.h"

enum { REPLIES = 32 };

/* One answer. Zeroed: 200 without a body. */
struct reply {
    int status;
    const char *headers; /* whole lines; NULL: none */
    const char *body;
    bool raw;             /* `body` is sent as it is, head and all, and the connection is cut */
    bool silent;          /* no answer comes */
    void (*before)(void); /* called before the answer is sent; may be NULL */
};

struct bench {
    struct client *client;
    struct server *server;
    char endpoint[64], secret_file[40];
    struct bucket_settings settings;
    struct bucket *bucket;
    struct reply replies[REPLIES]; /* in turn; behind the last one, that one again */
    unsigned count, next;
    sem_t ended; /* posted for answers that do not come */
    struct bucket_answer answer;
    struct error error;
    char body[4096]; /* of the last bench_get() */
    size_t length;
    struct bucket_head head;
    unsigned heads;
};

int bench_setup(void **state);
int bench_teardown(void **state);
#define WITH_BENCH(test) cmocka_unit_test_setup_teardown(test, bench_setup, bench_teardown)

/* Makes the bucket of the settings. */
void bench_open(struct bench *bench);
void bench_line_up(struct bench *bench, int status, const char *headers, const char *body);
void bench_line_up_silence(struct bench *bench);
void bench_line_up_raw(struct bench *bench, const char *bytes);
/* Gets "blobs/x" into bench->body. */
bool bench_get(struct bench *bench, const struct bucket_range *range,
               const struct bucket_limits *limits);
/* The nth request of all. */
const char *bench_request(struct bench *bench, unsigned nth);
unsigned bench_requests(struct bench *bench);

#endif
