/* Exchanges what of the configuration a request needs. */
#include <stdlib.h>
#include <string.h>
#include "registry/call.h"

struct registry_view_settings registry_view_settings_default(void) {
    return (struct registry_view_settings){.log_requests = true, .images_ttl_ms = 60000};
}

struct registry_view *registry_prepare(const struct registry_view_settings *settings) {
    struct registry_view *view = calloc(1, sizeof *view);
    if (!view)
        return NULL;
    view->settings = *settings;
    view->settings.server_names = text_list_dup(settings->server_names);
    view->settings.clients = clients_hold(settings->clients);
    view->settings.path_prefix = settings->path_prefix ? strdup(settings->path_prefix) : NULL;
    if (settings->rules)
        view->rules = rules_new(settings->rules, settings->rule_count);
    if (view->settings.server_names && (view->rules || !settings->rules) &&
        (view->settings.path_prefix || !settings->path_prefix))
        return view;
    registry_give_up(view);
    return NULL;
}

void registry_give_up(struct registry_view *prepared) {
    if (!prepared)
        return;
    upstreams_release(prepared->upstreams);
    rules_free(prepared->rules);
    clients_release(prepared->settings.clients);
    free((void *)prepared->settings.server_names);
    free((void *)prepared->settings.path_prefix);
    free(prepared);
}

static void free_view(struct shared_value *value) {
    registry_give_up((struct registry_view *)value);
}

static void take_upstreams(const struct registry *registry, struct registry_view *view) {
    view->upstreams = current_upstreams_hold(registry->settings.upstreams);
    access_prepare_upstreams(view->upstreams);
}

bool view_init(struct registry *registry) {
    struct registry_view *first = registry_prepare(&registry->settings.view);
    registry->settings.view = (struct registry_view_settings){0}; /* the view has a copy */
    if (!first)
        return false;
    take_upstreams(registry, first);
    shared_init(&registry->view, &first->value);
    return true;
}

void view_finish(struct registry *registry) {
    shared_finish(&registry->view, free_view);
}

const struct registry_view *view_hold(struct registry *registry) {
    return (const struct registry_view *)shared_hold(&registry->view);
}

const struct registry_view *view_keep(const struct registry_view *view) {
    shared_keep(&((struct registry_view *)view)->value);
    return view;
}

void view_release(const struct registry_view *view) {
    shared_release(&((struct registry_view *)view)->value);
}

void registry_change(struct registry *registry, struct registry_view *prepared) {
    take_upstreams(registry, prepared);
    if (prepared->settings.clients)
        clients_begin(prepared->settings.clients);
    shared_exchange(&registry->view, &prepared->value);
}

void registry_sweep(struct registry *registry) {
    shared_sweep(&registry->view, free_view);
}
