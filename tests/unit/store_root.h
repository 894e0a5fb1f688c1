/* A store in a directory of its own for each test, and ways to look at and spoil its files. */
#ifndef TEST_STORE_ROOT_H
#define TEST_STORE_ROOT_H

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/cleanup.h"
#include "oci/digest.h"
#include "store/blobs.h"
#include "store/partials.h"
#include "store/records.h"
#include "store/store.h"
#include "store/usage.h"

struct fixture {
    char root[64];
    struct store *store;
};

/* Make `*state` a fixture with an open store, and delete all of it. */
int store_root_setup(void **state);
int store_root_teardown(void **state);
#define STORE_TEST(test)                                                                           \
    cmocka_unit_test_setup_teardown(test, store_root_setup, store_root_teardown)

/* Deletes all files, and opens the store anew. */
void clear_root(struct fixture *fixture);
/* Closes the store and opens it again, as a new process would: the same files, nothing in memory.
 */
void reopen(struct fixture *fixture);

/* ---- the files, by their names below the root ---- */

void path_in(const struct fixture *fixture, const char *name, char out[1024]);
bool exists(const struct fixture *fixture, const char *name);
void write_raw(const struct fixture *fixture, const char *name, const void *bytes, size_t length);
size_t read_raw(const struct fixture *fixture, const char *name, char *out, size_t size);
void set_age(const struct fixture *fixture, const char *name, int64_t age_s);
int64_t age_of(const struct fixture *fixture, const char *name);

/* ---- blobs and repositories ---- */

struct digest digest_of_text(const char *text);
/* Opens and closes the blob, which is a use. */
void use_blob(const struct fixture *fixture, const struct digest *digest);
/* "blobs/sha256/ab/abcd…"; until the next call. */
const char *blob_name(const struct digest *digest);
/* FOLDER "/sha256-abcd…" SUFFIX; until the next call. */
const char *flat_name(const char *folder, const struct digest *digest, const char *suffix);
/* Puts the bytes of `text`. */
struct digest put_text(const struct fixture *fixture, const char *text);
/* The name of a repository; until the next call of this thread. */
const struct repository_name *repository_named(const char *host, const char *path);
void scan(const struct fixture *fixture);

/* Asserts that each blob of the index is on the disk with that size; `all`: and no other blob. */
void assert_index_is_what_is_on_disk(const struct fixture *fixture, bool all);

#endif
