/*
 * Counts the failed logins of each client address, and locks an address out that has had too many.
 *
 * When an address has had `most` failures within `within_ms`, it is locked out for `within_ms`, as
 * fail2ban and similar programs do: until then every login from it is refused, also with a right
 * password. If a right one were let in, somebody who is locked out could go on guessing.
 *
 * The table has a fixed size, and its hash is keyed. A new address takes the entry that matters
 * least of the few that it may have: one whose time is over, else the one with the fewest failures.
 *
 * The limits may change. Who is locked out stays locked out for the time that was said.
 *
 * Threads: any. No function waits for more than a short lock.
 */
#ifndef LOGIN_FAILURES_H
#define LOGIN_FAILURES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/lock.h"
#include "base/metric.h"
#include "base/siphash.h"
#include "login/clients.h"

enum { FAILURES_SETS = 1024, FAILURES_WAYS = 4 };

struct failures {
    atomic_uint references;
    atomic_uint most;
    _Atomic int64_t within_ms;
    struct siphash_key key; /* random; also keys what else is remembered of logins */
    struct metric *failed, *locked_out;
    _Atomic int64_t locked_until_ms; /* of all addresses; before it no lock is taken to look */
    struct lock table_lock;
    struct failures_entry {
        struct siphash_tag address;
        int64_t until_ms; /* when the entry no longer counts */
        unsigned count;
        bool is_locked_out;
    } table[FAILURES_SETS][FAILURES_WAYS] GUARDED_BY(table_lock);
};

/* The caller has the one reference. NULL: an error is set. */
struct failures *failures_new(struct error *error);
struct failures *failures_hold(struct failures *failures); /* one more reference */
void failures_release(struct failures *failures);          /* NULL is allowed */

/* From now on `most` failures within `within_ms` lock an address out. */
void failures_change(struct failures *failures, unsigned most, int64_t within_ms);

/* CLIENTS_LOGGED_IN: the client is not locked out. Else CLIENTS_LOCKED_OUT, which is counted. */
struct clients_answer failures_check(struct failures *failures, const struct clients_login *login);

/* Counts and logs a failed login, and locks the address out if it is one too many. `user` is as the
 * client gave it; `why` is a few words. */
void failures_report(struct failures *failures, const struct clients_login *login, struct text user,
                     const char *why);

/* For how many milliseconds the address is still locked out; 0: it is not. An address of NULL never
 * is, here and below. */
int64_t failures_locked_ms(struct failures *failures, const struct http_address *address);

/* Counts a failure. True: with this one the address is locked out. */
bool failures_count(struct failures *failures, const struct http_address *address);

#endif
