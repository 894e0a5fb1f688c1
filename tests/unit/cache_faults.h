/*
 * Makes calls of tarn fail. The linker redirects each call from tarn's objects to a function that
 * meson.build lists (--wrap) to the __wrap_ function in cache_faults.c. Calls that libraries make
 * inside do not fail; a function of jansson or OpenSSL that tarn calls fails as a whole. Calls of
 * the test and of its upstream never fail: their threads increment `fault_exempt` meanwhile.
 */
#ifndef TESTS_UNIT_CACHE_FAULTS_H
#define TESTS_UNIT_CACHE_FAULTS_H

#include "cache_world.h"

enum {
    FAULT_MEMORY = 1,
    FAULT_THREAD = 2,
    FAULT_DISK_READ = 4,
    FAULT_DISK_WRITE = 8,
    FAULT_ANY = 15,
    FAULT_OPEN = 16 /* to open or make a file */
};

/* Which calls fail. */
struct fault {
    atomic_bool armed;
    unsigned what;    /* of the enum above */
    bool lasting;     /* all calls from the nth on, and not the nth alone */
    int reason;       /* errno of a disk */
    int nth;          /* from 1 */
    int second;       /* this one as well; 0: none */
    atomic_int calls; /* calls that could have failed so far */
    const char *scenario;
};
extern struct fault fault;

extern _Thread_local int fault_exempt; /* not 0: calls of this thread do not fail */

/* The blob's bytes. The bytes that a partial records are compared with them; NULL: they are not. */
extern const unsigned char *fault_recorded_bytes;
extern atomic_bool fault_recorded_falsely; /* bytes were recorded that are not on the disk */

extern atomic_bool fault_has_referrers; /* the upstream knows the endpoint of referrers */

void fault_prepare(void); /* once, before anything else */

/* client_read() on a thread of its own; starting it does not fail. */
int fault_start_client(pthread_t *thread, struct client *client);

#endif
