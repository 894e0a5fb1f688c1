/* The HTTP server of tarn keep. */
#include "cmd/keep_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "http/http.h"
#include "keep/pages.h"
#include "login/clients.h"

struct keep_server {
    struct keeper *keeper;
    const struct keep_settings *keep;
    struct clients *clients;   /* of `clients:`; NULL: everybody may read */
    struct clients *operators; /* of `keep.operators`; NULL: see may_anyone */
    bool may_anyone;           /* change what is kept */
    struct http_server *http;
};

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

static bool may_change(struct keep_server *server, struct http_exchange *exchange) {
    if (server->may_anyone)
        return !server->clients || admit(server->clients, exchange);
    if (server->operators)
        return admit(server->operators, exchange);
    keep_pages_refuse(exchange, 403,
                      "nobody may change what is kept; set keep.operators to an htpasswd file, or "
                      "to anyone");
    return false;
}

static void handle(void *context, struct http_exchange *exchange) {
    struct keep_server *server = context;
    const struct http_request *request = http_exchange_request(exchange);
    bool admitted = true;
    if (!keep_pages_is_open(request)) {
        if (keep_pages_is_change(request))
            admitted = may_change(server, exchange);
        else
            admitted = !server->clients || admit(server->clients, exchange);
    }
    if (admitted)
        keep_pages_respond(server->keeper, server->keep->prefix, exchange);
}

static void write_error(int status, const char *why, const char *id, char *out, size_t size) {
    (void)id;
    snprintf(out, size, "%d: %s", status, why);
}

/* ---- life ---- */

static bool open_clients(struct keep_server *server, const struct config *config,
                         struct error *error) {
    const struct clients_settings settings = {.htpasswd = config->clients_htpasswd,
                                              .realm = config->clients_realm,
                                              .token = config->clients_token,
                                              .certificates = config->clients_ca != NULL,
                                              .limits = config->logins};
    const struct clients_settings operators = {
        .htpasswd = server->keep->operators, .realm = "tarn keep", .limits = config->logins};
    server->may_anyone = server->keep->operators && strcmp(server->keep->operators, "anyone") == 0;
    if (clients_are_asked(&settings) && !(server->clients = clients_new(&settings, NULL, error)))
        return false;
    return !server->keep->operators || server->may_anyone ||
           (server->operators = clients_new(&operators, NULL, error));
}

static bool open_http(struct keep_server *server, const struct config *config,
                      struct error *error) {
    struct http_server_settings settings = http_server_settings_default();
    size_t count = 0;
    while (server->keep->listen[count])
        count++;
    settings.listen = server->keep->listen;
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
    server->http = http_server_new(&settings, error);
    return server->http != NULL;
}

struct keep_server *keep_server_new(struct keeper *keeper, const struct config *config,
                                    const struct keep_settings *keep, struct error *error) {
    struct keep_server *server = calloc(1, sizeof *server);
    if (!server) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    server->keeper = keeper;
    server->keep = keep;
    if (open_clients(server, config, error) && open_http(server, config, error))
        return server;
    keep_server_free(server);
    return NULL;
}

void keep_server_free(struct keep_server *server) {
    if (!server)
        return;
    http_server_free(server->http);
    clients_release(server->clients);
    clients_release(server->operators);
    free(server);
}

unsigned keep_server_port(const struct keep_server *server) {
    return http_server_port(server->http);
}

bool keep_server_run(struct keep_server *server, struct error *error) {
    return http_server_run(server->http, error);
}

void keep_server_stop(struct keep_server *server) {
    http_server_stop(server->http);
}
