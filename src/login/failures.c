/* The failed logins of each client address. */
#include "login/failures.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"

enum { USER_SHOWN = 64 /* bytes of a user's name in the log */ };

struct failures *failures_new(struct error *error) {
    struct failures *failures = calloc(1, sizeof *failures);
    if (!failures) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    if (RAND_bytes((unsigned char *)&failures->key, sizeof failures->key) != 1) {
        error_set(error, ERROR_IO, "no random bytes for a key");
        free(failures);
        return NULL;
    }
    atomic_init(&failures->references, 1);
    failures_change(failures, UINT_MAX, 0);
    failures->failed = metric_get(METRIC_COUNTER, "tarn_failed_logins_total",
                                  "Logins with a wrong password or an unknown user.", "");
    failures->locked_out = metric_get(METRIC_COUNTER, METRIC_REFUSED, METRIC_REFUSED_HELP,
                                      "reason=\"login_failures\"");
    atomic_init(&failures->locked_until_ms, 0);
    lock_init(&failures->table_lock);
    return failures;
}

struct failures *failures_hold(struct failures *failures) {
    atomic_fetch_add(&failures->references, 1);
    return failures;
}

void failures_release(struct failures *failures) {
    if (!failures || atomic_fetch_sub(&failures->references, 1) > 1)
        return;
    lock_finish(&failures->table_lock);
    OPENSSL_cleanse(failures, sizeof *failures);
    free(failures);
}

void failures_change(struct failures *failures, unsigned most, int64_t within_ms) {
    atomic_store(&failures->most, most);
    atomic_store(&failures->within_ms, within_ms);
}

static struct siphash_tag tag_of(const struct failures *failures,
                                 const struct http_address *address) {
    return siphash_tag_of(&failures->key, address->bytes, sizeof address->bytes);
}

/* NULL: the address has no entry that counts. */
static struct failures_entry *find(struct failures *failures, const struct siphash_tag *tag,
                                   int64_t now) REQUIRES(failures->table_lock) {
    struct failures_entry *set = failures->table[tag->parts[0] % FAILURES_SETS];
    for (int i = 0; i < FAILURES_WAYS; i++)
        if (now < set[i].until_ms && memcmp(&set[i].address, tag, sizeof *tag) == 0)
            return &set[i];
    return NULL;
}

static struct failures_entry *add(struct failures *failures, const struct siphash_tag *tag,
                                  int64_t now) REQUIRES(failures->table_lock) {
    struct failures_entry *set = failures->table[tag->parts[0] % FAILURES_SETS], *chosen = set;
    for (int i = 0; i < FAILURES_WAYS && now < chosen->until_ms; i++)
        if (now >= set[i].until_ms || set[i].count < chosen->count)
            chosen = &set[i];
    *chosen = (struct failures_entry){.address = *tag, .until_ms = now + failures->within_ms};
    return chosen;
}

int64_t failures_locked_ms(struct failures *failures, const struct http_address *address) {
    int64_t now = clock_ms();
    if (!address || now >= atomic_load(&failures->locked_until_ms))
        return 0;
    struct siphash_tag tag = tag_of(failures, address);
    lock_acquire(&failures->table_lock);
    const struct failures_entry *entry = find(failures, &tag, now);
    int64_t left_ms = entry && entry->is_locked_out ? entry->until_ms - now : 0;
    lock_release(&failures->table_lock);
    return left_ms;
}

bool failures_count(struct failures *failures, const struct http_address *address) {
    if (!address)
        return false;
    int64_t now = clock_ms();
    struct siphash_tag tag = tag_of(failures, address);
    lock_acquire(&failures->table_lock);
    struct failures_entry *entry = find(failures, &tag, now);
    if (!entry)
        entry = add(failures, &tag, now);
    bool is_locked_now = ++entry->count >= failures->most && !entry->is_locked_out;
    if (is_locked_now) {
        entry->is_locked_out = true;
        entry->until_ms = now + failures->within_ms;
        if (entry->until_ms > atomic_load(&failures->locked_until_ms))
            atomic_store(&failures->locked_until_ms, entry->until_ms);
    }
    lock_release(&failures->table_lock);
    return is_locked_now;
}

struct clients_answer failures_check(struct failures *failures, const struct clients_login *login) {
    int64_t ms = failures_locked_ms(failures, login->address);
    if (ms == 0)
        return (struct clients_answer){CLIENTS_LOGGED_IN, 0};
    metric_add(failures->locked_out, 1);
    return (struct clients_answer){CLIENTS_LOCKED_OUT, (int)((ms + 999) / 1000)};
}

void failures_report(struct failures *failures, const struct clients_login *login, struct text user,
                     const char *why) {
    char message[128];
    user.length = user.length < USER_SHOWN ? user.length : USER_SHOWN;
    snprintf(message, sizeof message, "a login failed: %s", why);
    metric_add(failures->failed, 1);
    log_at(LOG_INFO, message, LOG_SLICE("user", user), LOG_STRING("client", login->client));
    if (failures_count(failures, login->address))
        log_at(LOG_WARN, "too many failed logins: this client's address is locked out for a while",
               LOG_STRING("client", login->client),
               LOG_NUMBER("seconds", (double)failures->within_ms / 1000));
}
