/* Who asks, and what he may read. */
#include "login/clients.h"
#include "registry/call.h"

/* Health and metrics need no login, because probes have none and learn no secret. */
static bool is_probe(enum route_kind kind) {
    return kind == ROUTE_LIVE || kind == ROUTE_READY || kind == ROUTE_METRICS;
}

static struct clients_answer ask_who(struct call *call) {
    struct clients *clients = call->registry->settings.clients;
    const struct clients_login login = {
        .authorization = http_field(call->request, "Authorization"),
        .client = http_exchange_client(call->exchange),
        .address = http_exchange_address(call->exchange),
        .cancel = &call->cancel,
    };
    if (call->must_not_wait)
        return clients_known(clients, &login, &call->who);
    return clients_identify(clients, &login, &call->who);
}

/* Asks for a login. */
static enum admission challenge(struct call *call) {
    http_add_field(call->exchange, "WWW-Authenticate", "Basic realm=\"tarn\"");
    call_fail(call, 401, "UNAUTHORIZED", "tarn needs a user and password (docker login)");
    return ADMISSION_REFUSED;
}

static enum admission refuse_for_now(struct call *call, int retry_after_s, const char *why) {
    http_add_field(call->exchange, "Retry-After", "%d", retry_after_s);
    call_fail(call, 429, "TOOMANYREQUESTS", "%s", why);
    return ADMISSION_REFUSED;
}

/* Whether the rules say what a client without a login gets. Clients learn at /v2/ that there is a
 * login, so that always wants one; and the pages for people want one. */
static bool rules_decide(const struct call *call) {
    const struct rules *rules = call->registry->settings.rules;
    if (!rules || call_is_writing(call))
        return false;
    switch (call->route.kind) {
    case ROUTE_MANIFEST:
    case ROUTE_BLOB:
    case ROUTE_TAGS:
    case ROUTE_REFERRERS:
        return true;
    case ROUTE_CATALOG:
        return rules_allow_anonymous(rules);
    default:
        return false;
    }
}

enum admission call_admit(struct call *call) {
    if (!call->registry->settings.clients || is_probe(call->route.kind))
        return ADMISSION_GIVEN;
    const struct clients_answer answer = ask_who(call);
    switch (answer.verdict) {
    case CLIENTS_LOGGED_IN:
        return ADMISSION_GIVEN;
    case CLIENTS_MUST_CHECK:
        return ADMISSION_MUST_WAIT;
    case CLIENTS_LOCKED_OUT:
        return refuse_for_now(call, answer.retry_after_s,
                              "too many failed logins from this client's address");
    case CLIENTS_TOO_MANY:
        return refuse_for_now(call, answer.retry_after_s, "too many logins at once");
    case CLIENTS_GONE:
        call_drop(call);
        return ADMISSION_REFUSED;
    case CLIENTS_ANONYMOUS:
        return rules_decide(call) ? ADMISSION_GIVEN : challenge(call);
    case CLIENTS_REFUSED:
        break;
    }
    return challenge(call);
}

bool call_may_read(const struct call *call, const struct repository_name *repository) {
    const struct rules *rules = call->registry->settings.rules;
    return !rules || rules_allow(rules, call->who.user, repository);
}

bool call_sees_all(const struct call *call) {
    return !call->registry->settings.rules;
}

bool call_check_rules(struct call *call) {
    const struct registry_settings *settings = &call->registry->settings;
    const struct repository_name *name = &call->repository.name;
    if (call_may_read(call, name))
        return true;
    if (settings->clients && !call->who.user[0] && rules_allow_somebody(settings->rules, name))
        challenge(call);
    else if (call->who.user[0])
        call_fail(call, 403, "DENIED", "user %.64s may not read %s/%s: no rule of tarn allows it",
                  call->who.user, name->host, name->path);
    else
        call_fail(call, 403, "DENIED", "nobody may read %s/%s: no rule of tarn allows it",
                  name->host, name->path);
    return false;
}
