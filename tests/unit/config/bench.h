/*
 * What a test gives to the configuration's loader, and what it got. bench_setup() makes one for
 * each test, bench_teardown() releases it with all that was loaded.
 */
#ifndef TESTS_UNIT_CONFIG_BENCH_H
#define TESTS_UNIT_CONFIG_BENCH_H

#include "base/buffer.h"
#include "config/config.h"

struct bench {
    const char *const *environment; /* for the next load; NULL-terminated; at first only HOME */
    struct config_flags flags;      /* for the next load; at first none */
    struct config *config;          /* of the last load; NULL: it was refused */
    struct buffer problems;         /* of the last load */
    char folder[32];                /* for write_file() */
    char paths[8][64];
    size_t path_count;
};

int bench_setup(void **state);
int bench_teardown(void **state);
#define with_bench(test) cmocka_unit_test_setup_teardown(test, bench_setup, bench_teardown)

/* The flags for the next load, instead of those before. */
#define give_flags(bench, ...) bench_give_flags(bench, (const char *const[]){__VA_ARGS__, NULL})
void bench_give_flags(struct bench *bench, const char *const *arguments);

/* A JWK set with one key. */
#define BENCH_JWKS                                                                                 \
    "{\"keys\": [{\"kty\": \"EC\", \"crv\": \"P-256\", "                                           \
    "\"x\": \"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\", "                                     \
    "\"y\": \"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}]}"

/* Loads `text` as a file named f.yaml. NULL: it was refused. */
const struct config *try_load(struct bench *bench, const char *text);
/* The same; the test fails if it is refused. */
const struct config *load(struct bench *bench, const char *text);
/* The same; the test fails unless it is refused with exactly these problems. */
void assert_refused(struct bench *bench, const char *text, const char *problems);
/* Loads the file that the flags or the environment name. NULL: it was refused. */
const struct config *load_named(struct bench *bench);

/* Writes a file into the bench's folder. The path is valid until the end of the test. */
const char *write_file(struct bench *bench, const char *name, const char *content);

/* The upstream with this host; the test fails if there is none. */
const struct upstream_settings *upstream(const struct config *config, const char *host);
/* Returns the host of the only default upstream; "none" if there is none. */
const char *default_host(const struct config *config);

#endif
