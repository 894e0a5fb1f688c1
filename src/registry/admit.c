/* Who asks, and what he may read. */
#include <stdio.h>
#include <string.h>
#include "login/clients.h"
#include "registry/call.h"

static struct clients_answer ask_who(struct call *call) {
    struct clients *clients = call->view->settings.clients;
    const struct clients_login login = {
        .authorization = http_field(call->request, "Authorization"),
        .certificate = http_exchange_certificate_user(call->exchange),
        .client = http_exchange_client(call->exchange),
        .address = http_exchange_address(call->exchange),
        .cancel = &call->cancel,
    };
    if (call->must_not_wait)
        return clients_known(clients, &login, &call->who);
    return clients_identify(clients, &login, &call->who);
}

/* ---- what a token has to grant ---- */

enum { SCOPED_NAME_SIZE = 2 * (HOST_LIMIT + 1) + NAME_LIMIT + 1 };

/* The repository as the client names it: the name in the path, and in front of it the host that the
 * request names elsewhere. So a token for a name means one repository, whatever else a request
 * says. False: the request names none. */
static bool name_as_asked(const struct call *call, char out[static SCOPED_NAME_SIZE]) {
    const struct route *route = &call->route;
    const char *host = route->host[0] ? route->host : call->ns;
    size_t length = strlen(host);
    bool has_host = strncmp(route->name, host, length) == 0 && route->name[length] == '/';
    snprintf(out, SCOPED_NAME_SIZE, "%s%s%s", has_host ? "" : host, length && !has_host ? "/" : "",
             route->name);
    return route->name[0] && route->fault != ROUTE_BAD_NAME;
}

/* What a token has to let its client do. */
static enum clients_action action_of(const struct call *call) {
    if (!call_is_writing(call))
        return CLIENTS_PULL;
    return call->request->method == HTTP_DELETE && call->route.kind != ROUTE_UPLOAD ? CLIENTS_DELETE
                                                                                    : CLIENTS_PUSH;
}

static const char *actions_of(const struct call *call) {
    enum clients_action action = action_of(call);
    return action == CLIENTS_PULL ? "pull" : action == CLIENTS_PUSH ? "pull,push" : "pull,delete";
}

/* The scope of a challenge: "repository:org/app:pull". Characters that a name cannot have would end
 * the field's quotes, so such a name gets no scope. */
static void write_scope(const struct call *call, char *out, size_t size) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:[]";
    char name[SCOPED_NAME_SIZE];
    *out = '\0';
    if (call->route.kind == ROUTE_CATALOG)
        snprintf(out, size, "registry:catalog:*");
    else if (name_as_asked(call, name) && strspn(name, allowed) == strlen(name))
        snprintf(out, size, "repository:%s:%s", name, actions_of(call));
}

/* Whether the client's token, if it has one, grants the repository that the request names. */
static bool is_granted(const struct call *call, enum clients_action action) {
    const struct clients *clients = call->view->settings.clients;
    char asked[SCOPED_NAME_SIZE], whole[SCOPED_NAME_SIZE];
    if (!call->who.is_by_token)
        return true;
    snprintf(whole, sizeof whole, "%s/%s", call->repository.name.host, call->repository.name.path);
    return clients_grants_action(clients, &call->who, text_of(whole), action) ||
           (name_as_asked(call, asked) &&
            clients_grants_action(clients, &call->who, text_of(asked), action));
}

/* ---- refusals ---- */

/* Asks for a login. `fault` is what is wrong with a token that was sent, or NULL. */
static enum admission challenge(struct call *call, const char *fault) {
    const struct clients *clients = call->view->settings.clients;
    const enum route_kind kind = call->route.kind;
    cleanup_buffer struct buffer value = {0};
    char scope[SCOPED_NAME_SIZE + 32];
    write_scope(call, scope, sizeof scope);
    if (clients_challenge(clients, text_of(scope), fault,
                          kind == ROUTE_PAGE || kind == ROUTE_FLIGHTS || kind == ROUTE_REPLICAS,
                          &value))
        http_add_field(call->exchange, "WWW-Authenticate", "%s", value.bytes);
    call_fail(call, 401, "UNAUTHORIZED", "%s", clients_advice(clients));
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
    const struct rules *rules = call->view->rules;
    if (!rules || call_is_writing(call))
        return false;
    switch (call->route.kind) {
    case ROUTE_MANIFEST:
    case ROUTE_BLOB:
    case ROUTE_TAGS:
    case ROUTE_REFERRERS:
    case ROUTE_IMAGES:
    case ROUTE_STREAM_LAYER:
    case ROUTE_STREAM_IMAGE:
    case ROUTE_STREAM_COPY:
    case ROUTE_STREAM_TRACE:
    case ROUTE_STREAM_CHAIN:
        return true;
    case ROUTE_CATALOG:
        return rules_allow_anonymous(rules);
    default:
        return false;
    }
}

enum admission call_admit(struct call *call) {
    if (call->ask != REPLICA_ASK_NONE)
        return call_may_ask(call) ? ADMISSION_GIVEN : ADMISSION_REFUSED;
    /* Probes have no login, and learn no secret. */
    if (!call->view->settings.clients || route_is_for_probes(call->route.kind))
        return ADMISSION_GIVEN;
    const struct clients_answer answer = ask_who(call);
    switch (answer.verdict) {
    case CLIENTS_LOGGED_IN:
        return call->route.kind == ROUTE_CATALOG && call->who.is_by_token && !call->who.may_list
                   ? challenge(call, "insufficient_scope")
                   : ADMISSION_GIVEN;
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
        return rules_decide(call) ? ADMISSION_GIVEN : challenge(call, NULL);
    case CLIENTS_REFUSED:
        break;
    }
    return challenge(call, "invalid_token");
}

/* What the client's token says about a repository that is to be listed. */
static bool may_see_by_token(const struct call *call, const struct repository_name *repository) {
    char name[SCOPED_NAME_SIZE];
    snprintf(name, sizeof name, "%s/%s", repository->host, repository->path);
    return call->who.may_list ||
           clients_grants(call->view->settings.clients, &call->who, text_of(name));
}

static bool rules_let_read(const struct call *call, const struct repository_name *repository) {
    const struct rules *rules = call->view->rules;
    return !rules || rules_allow(rules, call->who.user, repository);
}

bool call_may_read(const struct call *call, const struct repository_name *repository) {
    return (!call->who.is_by_token || may_see_by_token(call, repository)) &&
           rules_let_read(call, repository);
}

bool call_sees_all(const struct call *call) {
    return !call->view->rules && !call->who.is_by_token;
}

bool call_may_list_some(struct call *call) {
    const struct rules *rules = call->view->rules;
    if (!call->view->settings.clients || call->who.user[0] || call->who.is_by_token || !rules ||
        rules_allow_anonymous(rules))
        return true;
    challenge(call, NULL);
    return false;
}

bool call_check_rules_of_list(struct call *call) {
    const struct repository_name *name = &call->repository.name;
    if (rules_let_read(call, name) && is_granted(call, CLIENTS_PULL))
        return true;
    if (call->who.is_by_token)
        challenge(call, "insufficient_scope");
    else if (call->view->settings.clients && !call->who.user[0])
        challenge(call, NULL);
    else
        call_fail(call, 403, "DENIED", "no rule of tarn allows you to read any image of %s/%s",
                  name->host, name->path);
    return false;
}

/* The replica that asks has checked what its client may read. */
static bool check_rules_of_replica(struct call *call) {
    const struct repository_name *name = &call->repository.name;
    if (!call->view->rules || rules_allow_somebody(call->view->rules, name))
        return true;
    call_fail(call, 403, "DENIED", "nobody may read %s/%s: no rule of tarn allows it", name->host,
              name->path);
    return false;
}

bool call_check_rules(struct call *call) {
    const struct repository_name *name = &call->repository.name;
    if (call->ask != REPLICA_ASK_NONE)
        return check_rules_of_replica(call);
    bool is_let = rules_let_read(call, name), has_user = call->who.user[0];
    if (is_let && is_granted(call, CLIENTS_PULL))
        return true;
    if (is_let) /* another token would do */
        challenge(call, "insufficient_scope");
    else if (call->view->settings.clients && !has_user &&
             rules_allow_somebody(call->view->rules, name))
        challenge(call, call->who.is_by_token ? "insufficient_scope" : NULL);
    else if (has_user)
        call_fail(call, 403, "DENIED", "user %.64s may not read %s/%s: no rule of tarn allows it",
                  call->who.user, name->host, name->path);
    else
        call_fail(call, 403, "DENIED", "nobody may read %s/%s: no rule of tarn allows it",
                  name->host, name->path);
    return false;
}

/* ---- writing ---- */

/* Whether the rules let the client write: whoever has logged in where there are none. */
static bool rules_let_push(const struct call *call) {
    const struct rules *rules = call->view->rules;
    return call->who.user[0] &&
           (!rules || rules_allow_push(rules, call->who.user, &call->repository.name));
}

bool call_may_push(const struct call *call) {
    return call->view->settings.clients && upstream_settings(call->repository.upstream)->push &&
           rules_let_push(call) && is_granted(call, CLIENTS_PUSH);
}

bool call_check_push(struct call *call) {
    const struct repository_name *name = &call->repository.name;
    if (call->ask == REPLICA_ASK_UPLOAD) /* the replica that asks has checked it */
        return true;
    bool is_let = rules_let_push(call);
    if (is_let && is_granted(call, action_of(call)))
        return true;
    if (is_let) /* another token would do */
        challenge(call, "insufficient_scope");
    else if (!call->who.user[0])
        challenge(call, call->who.is_by_token ? "insufficient_scope" : NULL);
    else
        call_fail(call, 403, "DENIED",
                  "user %.64s may not push to %s/%s: no rule of tarn allows it", call->who.user,
                  name->host, name->path);
    return false;
}
