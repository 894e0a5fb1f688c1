/* A tarn that exists only in the test, with one image that can stream, and a root for spans. */
#ifndef SPANS_WORLD_H
#define SPANS_WORLD_H

#include <stdatomic.h>
#include <sys/types.h>
#include "base/buffer.h"
#include "layer/index.h"
#include "node/spans/spans.h"
#include "scripted_server.h"

enum { WORLD_LAYERS = 2, WORLD_SPANS = 6 /* at least, of the first layer */ };

#define WORLD_IMAGE "fake.test/org/app:1"

/* What the tarn does with a request for bytes of a layer. */
enum world_mood {
    WORLD_GOOD,
    WORLD_WRONG,   /* one bit of each response is another one */
    WORLD_SILENT,  /* the head never comes */
    WORLD_CUT,     /* half of the body comes */
    WORLD_WHOLE,   /* ranges are ignored */
    WORLD_SHORT,   /* a range of one byte less, well formed */
    WORLD_REFUSES, /* with `status` */
};

struct world_layer {
    struct buffer tar, blob, index;
    struct digest digest, diff_id;
    struct layer_index opened;
};

struct world_tarn {
    struct world *world;
    struct server *server;
    atomic_int mood, status;
    atomic_bool is_out;          /* every connection is cut */
    _Atomic uint64_t wrong_from; /* WORLD_WRONG: for ranges that have this byte; 0: for all */
    atomic_uint ranges;          /* requests for bytes of layers */
    _Atomic uint64_t sent;       /* bytes of layers */
    atomic_int hold;             /* while not 0, ranges wait */
    atomic_bool has_trace;
    char trace[4096]; /* what was posted */
    atomic_int posts;
    char refusal[32]; /* "": the image can stream; else the word */
    char url[64];
};

struct world {
    struct world_layer layers[WORLD_LAYERS];
    struct buffer config, manifest, index, tree;
    struct digest config_digest, digest;
    struct world_tarn tarns[2];
    const char *from[3];
    pid_t apart; /* 0: there is none */
    char root[64];
    struct spans_settings settings;
    struct spans *spans;
};

/* cmocka's setup and teardown: the image, two tarns that have it of which the first is in the
 * settings, and an empty root. The background and traces are off. */
int world_set_up(void **state);
int world_tear_down(void **state);

/* Lets another process be the first tarn from now on, a fresh one with each call, so that faults of
 * this process do not meet it. No other thread runs. */
void world_serve_apart(struct world *world);

/* Opens the root, or opens it again as another process would. */
void world_open(struct world *world);
void world_close(struct world *world);
/* Opens the image, which must work. */
struct spans_image *world_image(struct world *world);

/* Reads bytes of a layer's archive and compares them. False: the read failed, with the error. */
bool world_read(struct world *world, struct spans_image *image, size_t layer, uint64_t offset,
                size_t length, struct error *error);
/* Reads the whole archive in steps. */
void world_read_all(struct world *world, struct spans_image *image, size_t layer);
/* Where a span of a layer begins in the archive. */
uint64_t world_span(const struct world *world, size_t layer, size_t span);
/* Waits until the condition holds, or fails after some 20 seconds. */
#define world_wait(condition)                                                                      \
    do {                                                                                           \
        for (int i_ = 0; !(condition) && i_ < 4000; i_++)                                          \
            usleep(5000);                                                                          \
        assert_true(condition);                                                                    \
    } while (0)
/* Bytes that the root takes on the disk. */
uint64_t world_disk(const struct world *world);

#endif
