/* A snapshotter in a folder of its own for each test, with images that are named in memory. */
#ifndef TESTS_SNAPSHOT_BENCH_H
#define TESTS_SNAPSHOT_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/lock.h"
#include "node/snapshot/snapshots.h"

enum { BENCH_PATH = 256, BENCH_MOUNTS = 8 };

struct bench {
    char root[64];
    struct snapshots *snapshots;
    struct snapshots_images images;
    struct lock images_lock; /* guards what follows */
    struct condition found;  /* `finding` has changed */
    unsigned streaming;      /* chains "sha256:1" to this one are found */
    unsigned whole;          /* how many layers the image has; 0: more than are asked for */
    unsigned finds;          /* calls of find */
    unsigned finding;        /* of these, the ones under way */
    bool hold;               /* find waits until this is false, or its caller has gone */
    bool refuse_unmounts;    /* unmount fails */
    bool refuse_mounts;      /* mount fails */
    unsigned mount_calls;
    char mounted[BENCH_MOUNTS][BENCH_PATH]; /* directories, "" for none */
    unsigned mounted_layers[BENCH_MOUNTS];
};

/* For cmocka. */
int bench_setup(void **state);
int bench_teardown(void **state);

/* Closes and opens it again, as another process would. */
void bench_reopen(struct bench *bench);
/* Closes it, and opens it with images or without. */
void bench_open(struct bench *bench, bool with_images);

/* How many directories are mounted. */
unsigned bench_count_mounts(struct bench *bench);

/* Path of a file below the root. */
void bench_path(const struct bench *bench, const char *name, char out[static BENCH_PATH]);
bool bench_exists(const struct bench *bench, const char *name);
void bench_write(const struct bench *bench, const char *name, const void *bytes, size_t length);

/* Prepares without labels, or with the label of a chain ("" for none). */
enum snapshots_outcome bench_prepare(struct bench *bench, const char *key, const char *parent,
                                     const char *chain, struct error *error);
/* Prepares and commits a snapshot. */
void bench_layer(struct bench *bench, const char *name, const char *parent);
enum snapshots_outcome bench_commit(struct bench *bench, const char *name, const char *key,
                                    const char *parent, struct error *error);
/* "source options" of a snapshot's mount. */
void bench_mounts(struct bench *bench, const char *key, char *out, size_t size);
/* Whether there is a snapshot; its kind is 0 if there is none. */
enum entry_kind bench_kind(struct bench *bench, const char *key);

#endif
