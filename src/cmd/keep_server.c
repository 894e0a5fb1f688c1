/* The HTTP server of tarn keep. */
#include "cmd/keep_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/lock.h"
#include "http/http.h"
#include "keep/pages.h"
#include "login/clients.h"

/* Who may ask, and for what. A request has a copy of it. */
struct door {
    struct clients *clients;   /* of `clients:`; NULL: everybody may read */
    struct clients *operators; /* of `keep.operators`; NULL: see may_anyone */
    bool may_anyone;           /* change what is kept */
    char prefix[KEEP_NAME_LIMIT + 1];
};

struct keep_server {
    struct keeper *keeper;
    struct lock door_lock;
    struct door door GUARDED_BY(door_lock);
    struct http_server *http;
};

struct keep_server_change {
    struct door door;
    struct http_change *http;
};

/* ---- doors ---- */

static void door_close(struct door *door) {
    clients_release(door->clients);
    clients_release(door->operators);
    *door = (struct door){0};
}

/* The door in use, until door_close(). */
static struct door door_hold(struct keep_server *server) {
    lock_acquire(&server->door_lock);
    struct door door = server->door;
    clients_hold(door.clients);
    clients_hold(door.operators);
    lock_release(&server->door_lock);
    return door;
}

/* `before`: the door in whose place it is to be. */
static bool door_open(struct door *door, const struct config *config,
                      const struct keep_settings *keep, const struct door *before,
                      struct error *error) {
    const struct clients_settings settings = {.htpasswd = config->clients_htpasswd,
                                              .realm = config->clients_realm,
                                              .token = config->clients_token,
                                              .certificates = config->clients_ca != NULL,
                                              .limits = config->logins};
    const struct clients_settings operators = {
        .htpasswd = keep->operators, .realm = "tarn keep", .limits = config->logins};
    *door = (struct door){0};
    snprintf(door->prefix, sizeof door->prefix, "%s", keep->prefix);
    door->may_anyone = keep->operators && strcmp(keep->operators, "anyone") == 0;
    if (clients_are_asked(&settings) &&
        !(door->clients = clients_new(&settings, before->clients, error)))
        return false;
    return !keep->operators || door->may_anyone ||
           (door->operators = clients_new(&operators, before->operators, error));
}

/* ---- who may ask ---- */

static bool client_is_there(void *context) {
    return http_client_is_there(context);
}

/* False: the exchange has its response. */
static bool admit(struct clients *clients, struct http_exchange *exchange) {
    const struct http_request *request = http_exchange_request(exchange);
    const struct cancel cancel = {.is_wanted = client_is_there, .context = exchange};
    const struct clients_login login = {
        .authorization = http_field(request, "Authorization"),
        .certificate = http_exchange_certificate_user(exchange),
        .client = http_exchange_client(exchange),
        .address = http_exchange_address(exchange),
        .cancel = &cancel,
    };
    struct clients_identity who;
    const struct clients_answer answer = clients_identify(clients, &login, &who);
    cleanup_buffer struct buffer value = {0};
    switch (answer.verdict) {
    case CLIENTS_LOGGED_IN:
        return true;
    case CLIENTS_GONE:
        http_abort(exchange);
        return false;
    case CLIENTS_LOCKED_OUT:
    case CLIENTS_TOO_MANY:
        http_add_field(exchange, "Retry-After", "%d", answer.retry_after_s);
        keep_pages_refuse(exchange, 429, NULL);
        return false;
    case CLIENTS_ANONYMOUS:
    case CLIENTS_REFUSED:
    case CLIENTS_MUST_CHECK:
        break;
    }
    const char *fault = answer.verdict == CLIENTS_REFUSED ? "invalid_token" : NULL;
    if (clients_challenge(clients, (struct text){0}, fault, true, &value))
        http_add_field(exchange, "WWW-Authenticate", "%s", value.bytes);
    keep_pages_refuse(exchange, 401, clients_advice(clients));
    return false;
}

static bool may_change(const struct door *door, struct http_exchange *exchange) {
    if (door->may_anyone)
        return !door->clients || admit(door->clients, exchange);
    if (door->operators)
        return admit(door->operators, exchange);
    keep_pages_refuse(exchange, 403,
                      "nobody may change what is kept; set keep.operators to an htpasswd file, or "
                      "to anyone");
    return false;
}

static void handle(void *context, struct http_exchange *exchange) {
    struct keep_server *server = context;
    const struct http_request *request = http_exchange_request(exchange);
    struct door door = door_hold(server);
    bool admitted = true;
    if (!keep_pages_is_open(request)) {
        if (keep_pages_is_change(request))
            admitted = may_change(&door, exchange);
        else
            admitted = !door.clients || admit(door.clients, exchange);
    }
    if (admitted)
        keep_pages_respond(server->keeper, door.prefix, exchange);
    door_close(&door);
}

static void write_error(int status, const char *why, const char *id, char *out, size_t size) {
    (void)id;
    snprintf(out, size, "%d: %s", status, why);
}

/* ---- life ---- */

static struct http_server_settings http_settings(struct keep_server *server,
                                                 const struct config *config,
                                                 const struct keep_settings *keep) {
    struct http_server_settings settings = http_server_settings_default();
    size_t count = 0;
    while (keep->listen[count])
        count++;
    settings.listen = keep->listen;
    settings.listen_count = count;
    settings.fields = config->headers;
    settings.max_connections = 1000;
    settings.max_workers = 64;
    settings.grace_ms = (int)config->grace_ms;
    settings.tls_certificate = config->tls_certificate;
    settings.tls_key = config->tls_key;
    settings.tls_client_ca = config->clients_ca;
    settings.tls_minimum = config->tls_minimum;
    settings.handle = handle;
    settings.error_body = write_error;
    settings.context = server;
    return settings;
}

static bool open_http(struct keep_server *server, const struct config *config,
                      const struct keep_settings *keep, struct error *error) {
    const struct http_server_settings settings = http_settings(server, config, keep);
    server->http = http_server_new(&settings, error);
    return server->http != NULL;
}

struct keep_server *keep_server_new(struct keeper *keeper, const struct config *config,
                                    const struct keep_settings *keep, struct error *error) {
    static const struct door none;
    struct door door;
    struct keep_server *server = calloc(1, sizeof *server);
    if (!server) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    server->keeper = keeper;
    lock_init(&server->door_lock);
    bool opened = door_open(&door, config, keep, &none, error);
    lock_acquire(&server->door_lock);
    server->door = door;
    lock_release(&server->door_lock);
    if (opened && open_http(server, config, keep, error))
        return server;
    keep_server_free(server);
    return NULL;
}

void keep_server_free(struct keep_server *server) {
    if (!server)
        return;
    http_server_free(server->http);
    lock_acquire(&server->door_lock);
    struct door door = server->door;
    lock_release(&server->door_lock);
    door_close(&door);
    lock_finish(&server->door_lock);
    free(server);
}

/* ---- other settings ---- */

void keep_server_give_up(struct keep_server_change *change) {
    if (!change)
        return;
    door_close(&change->door);
    http_server_give_up(change->http);
    free(change);
}

struct keep_server_change *keep_server_prepare(struct keep_server *server,
                                               const struct config *config,
                                               const struct keep_settings *keep,
                                               struct error *error) {
    struct keep_server_change *change = calloc(1, sizeof *change);
    if (!change) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    const struct http_server_settings settings = http_settings(server, config, keep);
    struct door before = door_hold(server);
    bool done = door_open(&change->door, config, keep, &before, error) &&
                (change->http = http_server_prepare(server->http, &settings, error));
    door_close(&before);
    if (done)
        return change;
    keep_server_give_up(change);
    return NULL;
}

void keep_server_change(struct keep_server *server, struct keep_server_change *change) {
    struct door before;
    lock_acquire(&server->door_lock);
    before = server->door;
    server->door = change->door;
    lock_release(&server->door_lock);
    if (change->door.clients)
        clients_begin(change->door.clients);
    if (change->door.operators)
        clients_begin(change->door.operators);
    http_server_change(server->http, change->http);
    door_close(&before);
    free(change);
}

/* ---- running ---- */

unsigned keep_server_port(const struct keep_server *server) {
    return http_server_port(server->http);
}

bool keep_server_run(struct keep_server *server, struct error *error) {
    return http_server_run(server->http, error);
}

void keep_server_stop(struct keep_server *server) {
    http_server_stop(server->http);
}
