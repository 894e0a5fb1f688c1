/* Turns hosts into upstreams. */
#include "copy/hosts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "auth/google/google.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "catalog/artifact_name.h"
#include "client/address.h"
#include "client/origin.h"
#include "upstream/current.h"

enum { URL_SIZE = HOST_LIMIT + 16 };

/* A host that is not configured. */
struct other {
    struct current_upstreams *current;
    const struct upstreams *set;
    struct other *next;
};

struct copy_hosts {
    struct client *client;
    struct current_upstreams *current; /* the configuration's; NULL: everything goes via a tarn */
    const struct upstreams *set;
    char *via; /* owned; NULL: none */
    bool plain_http;
    const atomic_bool *stop;
    struct upstream_settings others_settings; /* without a host */
    struct credential_source *docker, *google, *via_source;
    struct lock others_lock;
    struct other *others GUARDED_BY(others_lock);
};

/* ---- Docker's credentials for the one host that everything goes through ---- */

struct via_source {
    struct credential_source *docker;
    char host[ORIGIN_HOST_SIZE];
};

static bool via_get(void *context, const char *host, bool renew, struct credential *out,
                    struct error *error) {
    const struct via_source *own = context;
    (void)host;
    return credential_source_get(own->docker, own->host, renew, INT64_MAX, out, error);
}

static void via_free(void *context) {
    struct via_source *own = context;
    credential_source_free(own->docker);
    free(own);
}

static struct credential_source *via_source_new(const char *url, struct credential_source *docker,
                                                struct error *error) {
    static const struct credential_source_kind kind = {
        .name = "docker", .may_hang = true, .get = via_get, .free_context = via_free};
    struct origin origin;
    struct via_source *own = calloc(1, sizeof *own);
    if (!own) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    if (!origin_parse(url, &origin)) {
        free(own);
        error_set(error, ERROR_INVALID, "via: it is not the http or https URL of a tarn");
        return NULL;
    }
    own->docker = credential_source_keep(docker);
    origin_host(&origin, own->host);
    struct credential_source *source = credential_source_new(&kind, own);
    if (!source)
        error_set(error, ERROR_MEMORY, "out of memory");
    return source;
}

/* ---- its life ---- */

struct copy_hosts *copy_hosts_new(struct client *client, const struct copy_hosts_settings *settings,
                                  struct error *error) {
    struct copy_hosts *hosts = calloc(1, sizeof *hosts);
    if (!hosts) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    lock_init(&hosts->others_lock);
    hosts->client = client;
    hosts->plain_http = settings->plain_http;
    hosts->stop = settings->stop;
    hosts->others_settings = settings->others ? *settings->others : upstream_settings_default();
    const struct google_settings search = {0};
    hosts->docker = credential_source_docker(NULL);
    hosts->google = google_credential_source(&search);
    bool ok = (hosts->docker && hosts->google) || error_set(error, ERROR_MEMORY, "out of memory");
    if (ok && settings->via) {
        hosts->via = text_dup(text_of(settings->via));
        hosts->via_source = via_source_new(settings->via, hosts->docker, error);
        ok = hosts->via_source && (hosts->via || error_set(error, ERROR_MEMORY, "out of memory"));
    } else if (ok) {
        hosts->current =
            current_upstreams_new(client, settings->configured, settings->count, error);
        hosts->set = hosts->current ? current_upstreams_hold(hosts->current) : NULL;
        ok = hosts->set != NULL;
    }
    if (ok)
        return hosts;
    copy_hosts_free(hosts);
    return NULL;
}

static void free_set(struct current_upstreams *current, const struct upstreams *set) {
    upstreams_release(set);
    if (current)
        current_upstreams_free(current);
}

void copy_hosts_free(struct copy_hosts *hosts) {
    if (!hosts)
        return;
    while (hosts->others) {
        struct other *other = hosts->others;
        hosts->others = other->next;
        free_set(other->current, other->set);
        free(other);
    }
    free_set(hosts->current, hosts->set);
    credential_source_free(hosts->via_source);
    credential_source_free(hosts->docker);
    credential_source_free(hosts->google);
    lock_finish(&hosts->others_lock);
    free(hosts->via);
    free(hosts);
}

const atomic_bool *copy_hosts_stop(const struct copy_hosts *hosts) {
    return hosts->stop;
}

int64_t copy_hosts_patience_ms(const struct repository *repository) {
    return upstream_settings(repository->upstream)->push_patience_ms;
}

/* ---- one host ---- */

/* Whether a registry of this host is on this machine, so that it is asked by http. */
static bool is_local(const char *host) {
    char name[HOST_LIMIT + 1];
    snprintf(name, sizeof name, "%s", host);
    char *colon = strrchr(name, ':');
    if (colon && !strchr(colon, ']'))
        *colon = '\0';
    return strcmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0 ||
           (strncmp(name, "127.", 4) == 0 && strspn(name, "0123456789.") == strlen(name));
}

static struct other *make(struct copy_hosts *hosts, const char *host, struct error *error) {
    struct upstream_settings settings = hosts->others_settings;
    char url[URL_SIZE];
    settings.host = host;
    if (hosts->via) {
        settings.url = hosts->via;
        settings.prefix = host;
        settings.credentials = hosts->via_source;
    } else {
        snprintf(url, sizeof url, "http://%s", host);
        settings.url = hosts->plain_http || is_local(host) ? url : NULL;
        settings.credentials = artifact_name_is_host(text_of(host)) ? hosts->google : hosts->docker;
    }
    struct other *other = calloc(1, sizeof *other);
    if (!other) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    other->current = current_upstreams_new(hosts->client, &settings, 1, error);
    if (!other->current) {
        free(other);
        return NULL;
    }
    other->set = current_upstreams_hold(other->current);
    return other;
}

static struct upstream *find_made(struct copy_hosts *hosts, const char *host,
                                  char canonical[static HOST_LIMIT + 1]) {
    struct upstream *found = NULL;
    lock_acquire(&hosts->others_lock);
    for (struct other *other = hosts->others; other && !found; other = other->next)
        found = upstreams_find(other->set, text_of(host), canonical);
    lock_release(&hosts->others_lock);
    return found;
}

/* Two threads may make the same one: then the later one is used from then on, and both stay. */
static struct upstream *find_other(struct copy_hosts *hosts, const char *host,
                                   char canonical[static HOST_LIMIT + 1], struct error *error) {
    struct upstream *found = find_made(hosts, host, canonical);
    struct other *made = found ? NULL : make(hosts, host, error);
    if (!made)
        return found;
    found = upstreams_find(made->set, text_of(host), canonical);
    lock_acquire(&hosts->others_lock);
    made->next = hosts->others;
    hosts->others = made;
    lock_release(&hosts->others_lock);
    return found;
}

bool copy_hosts_find(struct copy_hosts *hosts, const struct repository_name *name,
                     struct repository *out, struct error *error) {
    char canonical[HOST_LIMIT + 1];
    *out = (struct repository){.name = *name};
    struct upstream *upstream =
        hosts->set ? upstreams_find(hosts->set, text_of(name->host), canonical) : NULL;
    if (upstream) {
        /* What a cache may serve says nothing about what its operator may copy. */
        struct upstream *serving = upstream_for(hosts->set, upstream, name->path);
        out->upstream = serving ? serving : upstream;
    } else {
        if (!reference_looks_like_host(text_of(name->host)))
            return error_set(error, ERROR_INVALID,
                             "%s/%s: %s is no host of a registry; write HOST/NAME, for example "
                             "docker.io/library/alpine",
                             name->host, name->path, name->host);
        out->upstream = find_other(hosts, name->host, canonical, error);
    }
    if (out->upstream)
        memcpy(out->name.host, canonical, sizeof out->name.host);
    return out->upstream != NULL;
}

bool copy_hosts_are_one(const struct repository *a, const struct repository *b) {
    return strcmp(a->name.host, b->name.host) == 0;
}
