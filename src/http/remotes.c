/* The table of the client addresses that have a connection. */
#include "http/remotes.h"

#include <netinet/in.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MOST = 1 << 16 };

bool remotes_init(struct remotes *remotes, unsigned most, struct error *error) {
    remotes->bucket_count = 16;
    while (remotes->bucket_count < most && remotes->bucket_count < BUCKETS_MOST)
        remotes->bucket_count *= 2;
    lock_init(&remotes->table_lock);
    remotes->buckets = calloc(remotes->bucket_count, sizeof(struct remote *));
    if (!remotes->buckets)
        return error_set(error, ERROR_MEMORY, "no memory for the table of clients");
    if (RAND_bytes((unsigned char *)&remotes->key, sizeof remotes->key) != 1)
        return error_set(error, ERROR_IO, "no random bytes for a key");
    return true;
}

void remotes_finish(struct remotes *remotes) {
    free(remotes->buckets);
    remotes->buckets = NULL;
    if (remotes->bucket_count > 0)
        lock_finish(&remotes->table_lock);
    remotes->bucket_count = 0;
}

/* False: the client has no address. */
static bool read_address(const struct sockaddr_storage *from, struct http_address *out) {
    *out = (struct http_address){{0}};
    if (from->ss_family == AF_INET) {
        const struct in_addr *v4 = &((const struct sockaddr_in *)from)->sin_addr;
        memset(out->bytes + 10, 0xff, 2); /* as an IPv6 socket shows it */
        memcpy(out->bytes + 12, v4, 4);
        return true;
    }
    if (from->ss_family != AF_INET6)
        return false;
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)from)->sin6_addr;
    memcpy(out->bytes, v6, IN6_IS_ADDR_V4MAPPED(v6) ? 16 : 8);
    return true;
}

static struct remote **bucket_of(struct remotes *remotes, const struct http_address *address)
    REQUIRES(remotes->table_lock) {
    uint64_t hash = siphash_of(&remotes->key, address->bytes, sizeof address->bytes);
    return &remotes->buckets[hash & (remotes->bucket_count - 1)];
}

/* NULL: out of memory. */
static struct remote *find_or_add(struct remotes *remotes, const struct http_address *address)
    REQUIRES(remotes->table_lock) {
    struct remote **bucket = bucket_of(remotes, address);
    for (struct remote *remote = *bucket; remote; remote = remote->next)
        if (memcmp(&remote->address, address, sizeof *address) == 0)
            return remote;
    struct remote *added = calloc(1, sizeof *added);
    if (!added)
        return NULL;
    added->address = *address;
    added->table = remotes;
    added->next = *bucket;
    *bucket = added;
    atomic_fetch_add(&remotes->count, 1);
    return added;
}

struct remote *remotes_enter(struct remotes *remotes, const struct sockaddr_storage *address) {
    struct http_address key;
    if (!read_address(address, &key))
        return NULL;
    lock_acquire(&remotes->table_lock);
    struct remote *remote = find_or_add(remotes, &key);
    if (remote)
        remote->references++;
    lock_release(&remotes->table_lock);
    return remote;
}

static void remove_remote(struct remotes *remotes, struct remote *remote)
    REQUIRES(remotes->table_lock) {
    struct remote **place = bucket_of(remotes, &remote->address);
    while (*place != remote)
        place = &(*place)->next;
    *place = remote->next;
    atomic_fetch_sub(&remotes->count, 1);
}

void remote_leave(struct remote *remote) {
    if (!remote)
        return;
    struct remotes *remotes = remote->table;
    lock_acquire(&remotes->table_lock);
    bool is_last = --remote->references == 0;
    if (is_last)
        remove_remote(remotes, remote);
    lock_release(&remotes->table_lock);
    if (is_last)
        free(remote);
}
