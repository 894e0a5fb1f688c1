/* Writes the configuration files of containerd and of Podman, CRI-O, skopeo and Buildah. */
#include "node/render.h"

#include <string.h>
#include "base/units.h"
#include "client/origin.h"

/* A string of TOML: what JSON escapes, TOML escapes in the same way. */
static void append_string(struct buffer *out, const char *name, struct text value) {
    buffer_printf(out, "%s\"", name);
    buffer_append_json(out, value);
    buffer_append_string(out, "\"\n");
}

/* The URL without slashes at its end. */
static struct text base_of(const struct mirror_registry *registry) {
    struct text base = text_of(registry->url);
    while (text_ends(base, "/"))
        base.length--;
    return base;
}

/* What follows "/v2/" in the URL, for people who write the URL that clients ask for; NULL: the URL
 * has no "/v2". */
static const char *find_api_path(const char *url) {
    const char *path = strstr(url, "://");
    for (path = path ? strchr(path + 3, '/') : NULL; path; path = strchr(path + 1, '/')) {
        if (strncmp(path, "/v2", 3) == 0 && (path[3] == '/' || path[3] == '\0'))
            return path[3] ? path + 4 : path + 3;
    }
    return NULL;
}

/* ---- containerd ---- */

static void append_server(struct buffer *out, const struct mirror_registry *registry) {
    cleanup_buffer struct buffer url = {0};
    struct text base = base_of(registry);
    if (registry->prefix && text_ends(base, "/v2"))
        base.length -= strlen("/v2");
    buffer_append(&url, base.at, base.length);
    if (registry->prefix)
        buffer_printf(&url, "/v2/%s", registry->prefix);
    out->failed |= url.failed;
    append_string(out, "server = ", (struct text){url.bytes, url.length});
    if (url.bytes && find_api_path(url.bytes) && *find_api_path(url.bytes))
        buffer_append_string(out, "override_path = true\n");
    if (registry->ca_file)
        append_string(out, "ca = ", text_of(registry->ca_file));
    buffer_append_string(out, "\n");
}

bool render_hosts_toml(const struct mirror_settings *settings,
                       const struct mirror_registry *registry, struct buffer *out) {
    if (registry)
        append_server(out, registry);
    buffer_append_string(out, "[host.\"");
    buffer_append_json(out, text_of(settings->url));
    buffer_append_string(out, "\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    if (settings->ca_file)
        append_string(out, "  ca = ", text_of(settings->ca_file));
    if (settings->dial_timeout_ms) {
        char time[40];
        units_format_duration(settings->dial_timeout_ms, time, sizeof time);
        append_string(out, "  dial_timeout = ", text_of(time));
    }
    return !out->failed;
}

/* ---- Podman, CRI-O, skopeo, Buildah ---- */

/* Whether the clients reach the registry by its name alone. Docker Hub's other name is known to
 * them. */
static bool is_at_its_name(const struct mirror_registry *registry, const struct origin *origin) {
    char host[ORIGIN_HOST_SIZE];
    bool is_hub = strcmp(registry->host, "docker.io") == 0 &&
                  strcmp(origin->host, "registry-1.docker.io") == 0;
    return origin->https && (is_hub || strcmp(origin_host(origin, host), registry->host) == 0);
}

/* Where the clients go on when the mirror does not serve. A URL whose path is not the API's cannot
 * be said to them; then it is the registry's own name. */
static void append_location(struct buffer *out, const struct mirror_registry *registry) {
    struct origin origin;
    char host[ORIGIN_HOST_SIZE];
    cleanup_buffer struct buffer location = {0};
    struct text base = base_of(registry);
    const char *path = find_api_path(registry->url), *prefix = registry->prefix;
    bool known = origin_parse(registry->url, &origin);
    size_t scheme = known && origin.https ? strlen("https://") : strlen("http://");
    bool is_plain = known && !memchr(base.at + scheme, '/', base.length - scheme);
    if (!prefix && path && *path)
        prefix = path;
    if (!known || (!path && !is_plain) || (is_at_its_name(registry, &origin) && !prefix)) {
        append_string(out, "location = ", text_of(registry->host));
        return;
    }
    buffer_printf(&location, "%s%s%s", origin_host(&origin, host), prefix ? "/" : "",
                  prefix ? prefix : "");
    out->failed |= location.failed;
    append_string(out, "location = ", (struct text){location.bytes, location.length});
    if (!origin.https)
        buffer_append_string(out, "insecure = true\n");
}

#define BLOCK "[[registry]]\n"

bool render_registries_conf(const struct mirror_settings *settings, struct buffer *out) {
    bool https = strncmp(settings->url, "https://", 8) == 0;
    const char *address = strstr(settings->url, "://");
    address = address ? address + 3 : settings->url;
    for (size_t i = 0; i < settings->registry_count; i++) {
        const struct mirror_registry *registry = &settings->registries[i];
        buffer_append_string(out, i ? "\n" BLOCK : BLOCK);
        append_string(out, "prefix = ", text_of(registry->host));
        append_location(out, registry);
        buffer_printf(out, "[[registry.mirror]]\nlocation = \"%s/", address);
        buffer_append_json(out, text_of(registry->host));
        buffer_append_string(out, https ? "\"\n" : "\"\ninsecure = true\n");
    }
    return !out->failed;
}

/* The value of the line `key = value`, without its comment and quotes; at NULL: another line. */
static struct text value_of(struct text line, const char *key) {
    struct text value, name = text_trim(text_cut(line, '=', &value));
    if (!value.at || !text_is(name, key))
        return (struct text){0};
    value = text_trim(text_cut(text_trim(value), '#', &(struct text){0}));
    if (value.length >= 2 && (*value.at == '"' || *value.at == '\''))
        value = (struct text){value.at + 1, value.length - 2};
    return value;
}

/* Whether a block, whose first line names the registry, is of one in the settings. */
static bool is_listed(const struct mirror_settings *settings, struct text block) {
    struct text name = value_of(text_cut(block, '\n', &(struct text){0}), "prefix");
    for (size_t i = 0; i < settings->registry_count; i++) {
        if (name.at && text_is(name, settings->registries[i].host))
            return true;
    }
    return false;
}

bool render_without_listed(const struct mirror_settings *settings, struct text file,
                           struct buffer *out) {
    const char *block = memmem(file.at, file.length, BLOCK, strlen(BLOCK));
    while (block) {
        const char *start = block + strlen(BLOCK), *end = file.at + file.length;
        block = memmem(start, (size_t)(end - start), BLOCK, strlen(BLOCK));
        struct text content = {start, (size_t)((block ? block : end) - start)};
        if (is_listed(settings, content))
            continue;
        while (text_ends(content, "\n"))
            content.length--;
        buffer_append_string(out, out->length ? "\n" BLOCK : BLOCK);
        buffer_printf(out, "%.*s\n", TEXT_PRINT(content));
    }
    return !out->failed;
}
