#include "upstream/location.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "upstream/token.h"

bool location_init(struct location *location, const char *url,
                   const struct upstream_settings *settings, bool configured, struct error *error) {
    if (!origin_parse(url, &location->origin) || strpbrk(url, "?#"))
        return error_set(error, ERROR_INVALID,
                         "%.200s is no http or https URL without user, query and fragment", url);
    struct text base = text_of(url);
    while (text_ends(base, "/"))
        base.length--;
    location->base = text_dup(base);
    if (!location->base)
        return error_set(error, ERROR_MEMORY, "out of memory");
    location->settings = settings;
    location->configured = configured;
    origin_host(&location->origin, location->service);
    origin_host(&location->origin, location->credential_host);
    pthread_mutex_init(&location->challenge_lock, NULL);
    pthread_mutex_init(&location->tokens_lock, NULL);
    pthread_cond_init(&location->token_settled, NULL);
    atomic_init(&location->is_loopback,
                configured && address_classify_host(location->origin.host) == ADDRESS_LOOPBACK);
    return true;
}

void location_finish(struct location *location) {
    if (!location->base)
        return;
    tokens_free(location);
    pthread_cond_destroy(&location->token_settled);
    pthread_mutex_destroy(&location->tokens_lock);
    pthread_mutex_destroy(&location->challenge_lock);
    free(location->base);
    location->base = NULL;
}

/* An operator may point an upstream at a link-local address by writing it down; a name that merely
 * resolves to one is a trap. */
static bool own_is_link_local(const struct location *location) {
    return location->configured &&
           address_classify_host(location->origin.host) == ADDRESS_LINK_LOCAL;
}

struct address_rule location_addresses_own(const struct location *location) {
    return (struct address_rule){
        .allow_loopback = location->configured,
        .allow_link_local = own_is_link_local(location),
    };
}

struct address_rule location_addresses_elsewhere(const struct location *location,
                                                 const char *host) {
    return (struct address_rule){
        .allow_loopback = atomic_load(&location->is_loopback),
        .allow_link_local = own_is_link_local(location) && strcmp(host, location->origin.host) == 0,
    };
}

void location_quieten(struct location *location, int seconds) {
    int64_t until = clock_ms() + (int64_t)seconds * 1000;
    int64_t held = atomic_load(&location->quiet_until_ms);
    while (held < until && !atomic_compare_exchange_weak(&location->quiet_until_ms, &held, until))
        ;
}

int location_quiet_for(const struct location *location) {
    int64_t left = atomic_load(&location->quiet_until_ms) - clock_ms();
    return left > 0 ? (int)((left + 999) / 1000) : 0;
}
