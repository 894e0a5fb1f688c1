/* A location's addresses and the pauses that it asks for. */
#include "upstream/location.h"

#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "upstream/health.h"

static bool begins_api(const char *path) {
    return strncmp(path, "/v2", 3) == 0 && (path[3] == '/' || path[3] == '\0');
}

/* Cuts "/v2" and "/v2/PREFIX" off the base: people who know a cache behind a prefix by the URL that
 * clients ask for write that URL. */
static bool cut_prefix(struct location *location, struct error *error) {
    char *path = strchr(strstr(location->base, "://") + 3, '/');
    while (path && !begins_api(path))
        path = strchr(path + 1, '/');
    if (!path)
        return true;
    const char *prefix = path[3] ? path + 4 : NULL;
    if (prefix && !reference_is_repository(text_of(prefix)))
        return error_set(error, ERROR_INVALID,
                         "%.200s: what follows /v2/ is no beginning of repository names",
                         location->base);
    if (prefix && !(location->prefix = text_dup(text_of(prefix))))
        return error_set(error, ERROR_MEMORY, "out of memory");
    *path = '\0';
    return true;
}

const struct breaker_rule location_breaker_rule = {
    .failures = 5,
    .span_ms = 1000,
    .first_pause_ms = 1000,
    .most_pause_ms = 30000,
};

bool location_init(struct location *location, const char *url, const char *prefix,
                   struct error *error) {
    breaker_init(&location->breaker, &location_breaker_rule);
    if (!origin_parse(url, &location->origin) || strpbrk(url, "?#"))
        return error_set(error, ERROR_INVALID,
                         "%.200s is not an http or https URL without user, query and fragment",
                         strchr(url, '@') ? "the URL (not shown: it may hold a password)" : url);
    struct text base = text_of(url);
    while (text_ends(base, "/"))
        base.length--;
    location->base = text_dup(base);
    location->pauses = malloc(sizeof *location->pauses);
    if (location->pauses)
        pauses_init(location->pauses);
    if (!location->base || !location->pauses)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (!cut_prefix(location, error))
        return false;
    if (prefix && location->prefix)
        return error_set(error, ERROR_INVALID, "prefix is set, and the URL has another after /v2/");
    if (prefix && !(location->prefix = text_dup(text_of(prefix))))
        return error_set(error, ERROR_MEMORY, "out of memory");
    origin_host(&location->origin, location->service);
    origin_host(&location->origin, location->credential_host);
    if (address_is_literal(location->origin.host) ||
        address_classify_host(location->origin.host) != ADDRESS_ORDINARY)
        location_responded(location, address_classify_host(location->origin.host));
    return true;
}

void location_finish(struct location *location) {
    health_forget(location->health, &location->breaker);
    breaker_finish(&location->breaker);
    free(location->base);
    free(location->prefix);
    if (location->pauses)
        pauses_finish(location->pauses);
    free(location->pauses);
    location->pauses = NULL;
    location->base = location->prefix = NULL;
}

/* An operator may write down a link-local address as an upstream's url. A name that resolves to a
 * link-local address is refused all the same, because that may be an attack. */
static bool own_is_link_local(const struct location *location) {
    return location->configured &&
           address_classify_host(location->origin.host) == ADDRESS_LINK_LOCAL;
}

struct address_rule location_addresses_own(const struct location *location) {
    if (location->led_from)
        return location_addresses_redirect(location->led_from, &location->origin);
    return (struct address_rule){
        .allow_private = true,
        .allow_loopback = location->configured,
        .allow_link_local = own_is_link_local(location),
    };
}

struct address_rule location_addresses_elsewhere(const struct location *location,
                                                 const char *host) {
    if (location->led_from)
        return location_addresses_elsewhere(location->led_from, host);
    bool is_inside = !atomic_load(&location->is_public);
    bool is_loopback = is_inside && atomic_load(&location->is_loopback);
    return (struct address_rule){
        .allow_private = is_loopback || (is_inside && atomic_load(&location->is_private)),
        .allow_loopback = is_loopback,
        .allow_link_local = own_is_link_local(location) && strcmp(host, location->origin.host) == 0,
    };
}

struct address_rule location_addresses_redirect(const struct location *location,
                                                const struct origin *target) {
    struct address_rule rule = location_addresses_elsewhere(location, target->host);
    if (origin_is_listed(target, location->settings->redirect_hosts) == ORIGIN_UNLISTED)
        return rule;
    rule.allow_private = rule.allow_loopback = true;
    /* A name may resolve to any address, but an address that is written down is meant. */
    rule.allow_link_local |= address_classify_host(target->host) == ADDRESS_LINK_LOCAL;
    return rule;
}

void location_responded(struct location *location, enum address_class class) {
    if (class == ADDRESS_ORDINARY)
        atomic_store(&location->is_public, true);
    else if (class == ADDRESS_LOOPBACK && location->configured)
        atomic_store(&location->is_loopback, true);
    else
        atomic_store(&location->is_private, true);
}

void location_refused(struct location *location, const char *request, struct error *error) {
    bool paused = error->kind == ERROR_RATE_LIMITED ||
                  (error->kind == ERROR_UNAVAILABLE && error->retry_after_s > 0);
    if (!paused)
        return;
    const int status = error->kind == ERROR_RATE_LIMITED ? 429 : 503;
    error->retry_after_s =
        pauses_begin(location->pauses, request, status, error->retry_after_s, clock_ms());
}

bool location_check_pause(struct location *location, const char *request, struct error *error) {
    int status, seconds = pauses_left(location->pauses, request, &status, clock_ms());
    if (seconds == 0)
        return true;
    error_set(error, status == 429 ? ERROR_RATE_LIMITED : ERROR_UNAVAILABLE,
              "it wants this request not to be repeated in the next %d s (%d)", seconds, status);
    error->retry_after_s = seconds;
    error->status = status;
    return false;
}
