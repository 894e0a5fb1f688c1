/* tarn mirror: makes a tarn the mirror of this machine's container engines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/arguments.h"
#include "cmd/commands.h"
#include "cmd/mirror_report.h"
#include "config/config.h"
#include "node/tree.h"
#include "node/watch.h"
#include "oci/reference.h"
#include "upstream/upstream.h"

#define DOCKER_HUB "docker.io"

enum { REGISTRY_LIMIT = 1000, EVERY_MOST_MS = 60000, AFTER_MOST = 1000 };

/* What a command line asks for. */
struct order {
    const struct arguments *arguments;
    struct mirror_settings settings;
    struct config *config; /* owned; NULL for remove, which needs none */
    struct mirror_registry registries[REGISTRY_LIMIT];
    char *texts[2 * REGISTRY_LIMIT]; /* owned; what `registries` points to */
    size_t text_count;
    char url[512];
};

static void order_free(struct order *order) {
    if (!order)
        return;
    for (size_t i = 0; i < order->text_count; i++)
        free(order->texts[i]);
    config_free(order->config);
    free(order);
}

static void cleanup_order_call(struct order **order) {
    order_free(*order);
}
#define cleanup_order __attribute__((cleanup(cleanup_order_call)))

/* ---- the options ---- */

static bool is_verb(const struct order *order, const char *verb) {
    return strcmp(order->arguments->operands[0], verb) == 0;
}

static int read_engines(struct order *order) {
    size_t at = 0;
    for (const char *value; (value = arguments_next(order->arguments, "for", &at));) {
        for (struct text rest = text_of(value); rest.at;) {
            struct text name = text_trim(text_cut(rest, ',', &rest));
            if (text_is(name, "containerd"))
                order->settings.engines |= MIRROR_CONTAINERD;
            else if (text_is(name, "docker"))
                order->settings.engines |= MIRROR_DOCKER;
            else if (text_is(name, "containers"))
                order->settings.engines |= MIRROR_CONTAINERS;
            else
                return command_refuse(order->arguments->command,
                                      "--for: \"%.*s\" is none of containerd, docker, containers",
                                      TEXT_PRINT(name));
        }
    }
    if (!order->settings.engines)
        order->settings.engines = MIRROR_CONTAINERD | MIRROR_DOCKER | MIRROR_CONTAINERS;
    return 0;
}

/* A path on the node begins with '/' and does not lead up. */
static int read_path(const struct order *order, const char *option, const char **path) {
    const char *value = arguments_string(order->arguments, option);
    if (!value)
        return 0;
    if (!tree_is_path(value))
        return command_refuse(order->arguments->command,
                              "--%s: \"%.200s\" is no path from / on without \"..\"", option,
                              value);
    *path = value;
    return 0;
}

static int read_url(struct order *order) {
    const char *url = arguments_string(order->arguments, "url");
    struct error error;
    if (!url && is_verb(order, "remove"))
        return 0;
    if (!url)
        return command_refuse(order->arguments->command,
                              "--url is missing: the address of tarn, for example "
                              "http://127.0.0.1:5000");
    if (!mirror_url(url, order->url, sizeof order->url, &error))
        return command_refuse(order->arguments->command, "--url %s", error.text);
    order->settings.url = order->url;
    return 0;
}

static int check_verb(const struct order *order) {
    const struct arguments *arguments = order->arguments;
    bool is_watch = is_verb(order, "watch");
    if (!is_watch && !is_verb(order, "install") && !is_verb(order, "remove"))
        return command_refuse(arguments->command, "\"%.100s\" is none of install, remove, watch",
                              arguments->operands[0]);
    if (!is_watch && arguments_string(arguments, "listen"))
        return command_refuse(arguments->command, "--listen is for tarn mirror watch");
    if (!is_watch &&
        (arguments_number(arguments, "every", 0) || arguments_number(arguments, "after", 0)))
        return command_refuse(arguments->command, "--every and --after are for tarn mirror watch");
    if (is_watch && arguments_number(arguments, "every", EVERY_MOST_MS) < WATCH_EVERY_LEAST_MS)
        return command_refuse(arguments->command, "--every is at least %d ms",
                              WATCH_EVERY_LEAST_MS);
    if (is_watch && (arguments_number(arguments, "every", 1) > EVERY_MOST_MS ||
                     arguments_number(arguments, "after", 1) > AFTER_MOST))
        return command_refuse(arguments->command, "--every is at most 1m, and --after at most %d",
                              AFTER_MOST);
    if (is_watch && (arguments_flag(arguments, "dry-run") || arguments_flag(arguments, "json")))
        return command_refuse(arguments->command,
                              "--dry-run and --json are not for tarn mirror watch");
    return 0;
}

static int read_options(struct order *order) {
    int status = check_verb(order);
    status = status ? status : read_url(order);
    status = status ? status : read_engines(order);
    status = status ? status : read_path(order, "certs-dir", &order->settings.certs_dir);
    status =
        status ? status : read_path(order, "containerd-config", &order->settings.containerd_config);
    status = status ? status : read_path(order, "ca", &order->settings.ca_file);
    order->settings.folder = arguments_string(order->arguments, "destdir");
    order->settings.dial_timeout_ms = arguments_number(order->arguments, "dial-timeout", 0);
    order->settings.dry_run = arguments_flag(order->arguments, "dry-run");
    if (!status && order->settings.ca_file && strncmp(order->url, "https://", 8) != 0 &&
        *order->url)
        return command_refuse(order->arguments->command, "--ca is for an https URL");
    return status;
}

/* ---- the registries ---- */

static const char *keep(struct order *order, char *text) {
    if (text)
        order->texts[order->text_count++] = text;
    return text;
}

static bool add(struct order *order, const char *host, const struct upstream_settings *upstream) {
    for (size_t i = 0; i < order->settings.registry_count; i++) {
        if (strcmp(order->registries[i].host, host) == 0)
            return true;
    }
    if (order->settings.registry_count == REGISTRY_LIMIT)
        return false;
    struct mirror_registry *registry = &order->registries[order->settings.registry_count];
    char *url = NULL;
    if (strcmp(host, DOCKER_HUB) == 0)
        url = strdup("https://registry-1.docker.io");
    else if (asprintf(&url, "https://%s", host) < 0)
        url = NULL;
    registry->host = keep(order, strdup(host));
    registry->url = keep(order, url);
    if (upstream) {
        registry->url = upstream->url ? upstream->url : registry->url;
        registry->prefix = upstream->prefix;
        registry->ca_file = upstream->ca_file;
    }
    order->settings.registry_count += registry->host && registry->url;
    return registry->host && registry->url;
}

/* The upstream of the configuration with this very host; NULL: there is none. */
static const struct upstream_settings *find_upstream(const struct order *order, const char *host) {
    for (size_t i = 0; order->config && i < order->config->upstream_count; i++) {
        if (strcmp(order->config->upstreams[i].host, host) == 0)
            return &order->config->upstreams[i];
    }
    return NULL;
}

static bool add_all(struct order *order) {
    order->settings.has_default = true;
    for (size_t i = 0; order->config && i < order->config->upstream_count; i++) {
        const struct upstream_settings *upstream = &order->config->upstreams[i];
        if (!strchr(upstream->host, '*') && !add(order, upstream->host, upstream))
            return false;
    }
    return true;
}

/* One value of --registry. */
static int add_given(struct order *order, struct text name) {
    char host[HOST_LIMIT + 1];
    bool added = true;
    if (text_is(name, "*"))
        added = add_all(order);
    else if (memchr(name.at, '*', name.length))
        order->settings.has_default = true; /* containerd knows no patterns */
    else if (!upstream_canonical_host(name, host))
        return command_refuse(order->arguments->command,
                              "--registry: \"%.*s\" is neither a host nor *",
                              (int)(name.length < 200 ? name.length : 200), name.at);
    else
        added = add(order, host, find_upstream(order, host));
    if (added)
        return 0;
    fprintf(stderr, "tarn mirror: out of memory, or more than %d registries\n", REGISTRY_LIMIT);
    return 1;
}

static int read_registries(struct order *order) {
    size_t at = 0;
    int status = 0;
    bool is_given = false;
    order->settings.only_listed = true;
    for (const char *value; (value = arguments_next(order->arguments, "registry", &at));) {
        for (struct text rest = text_of(value); rest.at && !status;) {
            struct text name = text_trim(text_cut(rest, ',', &rest));
            is_given = true;
            if (text_is(name, "*"))
                order->settings.only_listed = false;
            status = add_given(order, name);
        }
    }
    if (!is_given) {
        order->settings.only_listed = false;
        status = add_given(order, text_of("*"));
    }
    order->settings.registries = order->registries;
    return status;
}

/* ---- what Docker can do ---- */

static bool lists_docker_hub(const struct order *order) {
    for (size_t i = 0; i < order->settings.registry_count; i++) {
        if (strcmp(order->registries[i].host, DOCKER_HUB) == 0)
            return true;
    }
    return false;
}

/* Docker uses mirrors for Docker Hub alone, and does not name it to them. */
static int decide_docker(struct order *order) {
    struct mirror_settings *settings = &order->settings;
    const struct upstream_settings *hub = find_upstream(order, DOCKER_HUB);
    const char *why = NULL;
    if (!(settings->engines & MIRROR_DOCKER))
        return 0;
    if (!lists_docker_hub(order))
        why = "Docker uses a mirror for docker.io only, which is not among the registries";
    else if (order->config && !(hub && hub->is_default))
        why = "Docker does not name the registry to a mirror, and docker.io is not the default "
              "upstream of this configuration";
    settings->has_docker = !why;
    if (!why || is_verb(order, "remove"))
        return 0;
    fprintf(stderr, "tarn mirror: nothing is done for Docker: %s\n", why);
    return settings->engines == MIRROR_DOCKER ? 1 : 0;
}

static int load_config(struct order *order) {
    const struct config_flags flags = {.file = arguments_string(order->arguments, "config")};
    cleanup_buffer struct buffer problems = {0};
    if (is_verb(order, "remove"))
        return 0;
    order->config = config_load(&flags, environ, &problems);
    if (order->config)
        return 0;
    fputs(problems.bytes ? problems.bytes : "tarn mirror: out of memory\n", stderr);
    return 1;
}

/* ---- the command ---- */

static int watch(const struct order *order) {
    struct error error = {0};
    struct watch_settings settings = {
        .mirror = order->settings,
        .listen = arguments_string(order->arguments, "listen"),
        .client = client_new(),
        .every_ms = arguments_number(order->arguments, "every", 0),
        .after = (unsigned)arguments_number(order->arguments, "after", 0),
    };
    log_configure(order->config->log_level, order->config->log_format);
    mirror_report_log_advice(&order->settings);
    bool ok = watch_run(&settings, &error);
    client_free(settings.client);
    if (!ok)
        fprintf(stderr, "tarn mirror: %s\n", error.text);
    return ok ? 0 : 1;
}

static int change(struct order *order) {
    struct error error = {0};
    struct mirror_report report = {
        .json = arguments_flag(order->arguments, "json"),
        .dry_run = order->settings.dry_run,
    };
    order->settings.on_change = mirror_report_change;
    order->settings.context = &report;
    bool installs = is_verb(order, "install");
    bool ok = installs ? mirror_install(&order->settings, &error)
                       : mirror_remove(&order->settings, &error);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("tarn mirror: writing the result");
        return 1;
    }
    if (!ok)
        fprintf(stderr, "tarn mirror: %s\n", error.text);
    else if (installs)
        mirror_report_advice(&report, &order->settings);
    return ok ? 0 : 1;
}

static int run(const struct arguments *arguments) {
    cleanup_order struct order *order = calloc(1, sizeof *order);
    if (!order) {
        fputs("tarn mirror: out of memory\n", stderr);
        return 1;
    }
    order->arguments = arguments;
    order->settings.certs_dir = MIRROR_CERTS_DIR;
    int status = read_options(order);
    status = status ? status : load_config(order);
    status = status ? status : read_registries(order);
    status = status ? status : decide_docker(order);
    if (status)
        return status;
    return is_verb(order, "watch") ? watch(order) : change(order);
}

static const char *const engines[] = {"containerd", "docker", "containers", NULL};

static const struct command_option options[] = {
    {"url", OPTION_STRING, "URL", "where the machine reaches tarn: http://HOST:PORT",
     .variable = "TARN_MIRROR_URL"},
    {"config", OPTION_STRING, "FILE",
     "the configuration of tarn, which names the registries; default: as for tarn serve"},
    {"for", OPTION_LIST, "ENGINE",
     "only for these engines: containerd, docker, containers (Podman, CRI-O, skopeo, Buildah)",
     engines, .variable = "TARN_MIRROR_FOR"},
    {"registry", OPTION_LIST, "HOST",
     "only for these registries; *, the default, is each upstream of the configuration, and for "
     "containerd all other registries too",
     .variable = "TARN_MIRROR_REGISTRY"},
    {"certs-dir", OPTION_STRING, "FOLDER",
     "the folder of containerd's hosts.toml files; default: " MIRROR_CERTS_DIR,
     .variable = "TARN_MIRROR_CERTS_DIR"},
    {"containerd-config", OPTION_STRING, "FILE",
     "containerd's own configuration, which must name that folder; default: config.toml beside the "
     "folder, in /etc/containerd, or where k3s and RKE2 have it",
     .variable = "TARN_MIRROR_CONTAINERD_CONFIG"},
    {"dial-timeout", OPTION_DURATION, "TIME",
     "how long containerd 2.1 and newer wait for a connection to tarn",
     .variable = "TARN_MIRROR_DIAL_TIMEOUT"},
    {"ca", OPTION_STRING, "FILE",
     "PEM file on the machine with the authorities of tarn's certificate",
     .variable = "TARN_MIRROR_CA"},
    {"destdir", OPTION_STRING, "FOLDER",
     "the folder where the machine's files are; all paths are below it",
     .variable = "TARN_MIRROR_DESTDIR"},
    {"listen", OPTION_STRING, "ADDRESS",
     "where watch serves /livez, /readyz and /metrics: HOST:PORT; default: nowhere",
     .variable = "TARN_MIRROR_LISTEN"},
    {"every", OPTION_DURATION, "TIME", "how often watch asks tarn; default: 5s",
     .variable = "TARN_MIRROR_EVERY"},
    {"after", OPTION_COUNT, "N",
     "after how many failures in a row watch takes the files out; default: 3",
     .variable = "TARN_MIRROR_AFTER"},
    {"dry-run", OPTION_FLAG, NULL, "print the files and change nothing",
     .variable = "TARN_MIRROR_DRY_RUN"},
    {"json", OPTION_FLAG, NULL, "print a line of JSON for each file",
     .variable = "TARN_MIRROR_JSON"},
};

const struct command mirror_command = {
    .name = "mirror",
    .arguments = "install|remove|watch",
    .least = 1,
    .most = 1,
    .summary = "make container engines on this machine pull through tarn",
    .text =
        "With install, containerd gets hosts.toml files, Podman and CRI-O get\n"
        "registries.conf.d/tarn.conf, and Docker gets registry-mirrors in daemon.json. The "
        "engines\n"
        "go on with the registry itself when tarn does not serve. A file that tarn did not write,\n"
        "or that somebody edited, is left alone; then nothing is changed, and the exit status is "
        "1.\n"
        "With remove and the same options, the files are as they were before; without --url,\n"
        "whichever tarn they lead to.\n"
        "With watch, the files are in place while tarn's /readyz says 200. They are taken out "
        "when\n"
        "it fails three times in 15 s, and when SIGTERM ends the watch. What somebody edits there "
        "is\n"
        "put back. A configuration of containerd that does not name the files' folder is "
        "reported;\n"
        "nothing is restarted.\n"
        "Docker and CRI-O read their files only when they are reloaded.\n",
    COMMAND_OPTIONS(options),
    .run = run,
};
