/*
 * The configuration: the file, the environment and the flags, turned into one checked
 * `struct config`.
 *
 * A variable overrides the file, and a flag overrides both. Every setting is one row of
 * `config_options` (options.h). Its key, flag, variable, help and documentation come from that row.
 * If an upstream's entry in the file has a setting, that entry overrides the setting of the same
 * name at the top level, even a flag.
 *
 * An unknown key, a wrong type or an impossible value stops the start, or a reload. Loading reports
 * up to ten mistakes at once, each with its place and with what would be right:
 *
 *   /etc/tarn/tarn.yaml:7: upstreams[0].tag_ttl: "5 parsecs" is not a duration; write for …
 *   --tag-ttl: "5 parsecs" is not a duration; write for example 30s, 5m, 168h
 *
 * Threads: one thread loads a config; any number may read it afterwards.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "admin/service.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/log.h"
#include "bucket/settings.h"
#include "cache/streams.h"
#include "config/flags.h"
#include "config/option_text.h"
#include "http/http.h"
#include "keep/settings.h"
#include "login/clients.h"
#include "node/agent/agent.h"
#include "registry/rules.h"
#include "replica/replicas.h"
#include "upstream/upstream.h"

#define CONFIG_DEFAULT_FILE "/etc/tarn/tarn.yaml"
#define CONFIG_NODE_FILE    "/etc/tarn/node.yaml"

/* Whether the process gives up rights once it serves (cmd/confine.h). */
enum config_confine {
    CONFIG_CONFINE_AUTO, /* as far as the kernel offers it */
    CONFIG_CONFINE_OFF,
    CONFIG_CONFINE_REQUIRE, /* all of it, or tarn does not start */
};

/* The config owns everything in it. A list of strings ends with NULL, and an empty list may be
 * NULL. */
struct config {
    const char *file; /* the file that was read; NULL: none */

    const char *const *listen; /* never empty */
    size_t listen_count;
    const char *const *metrics_listen; /* for health and metrics alone */
    size_t metrics_listen_count;
    const char *const *headers;      /* "Name: value" */
    const char *path_prefix;         /* "/a/b"; NULL: none */
    const char *const *server_names; /* that clients on loopback may use in Host */
    uint64_t max_connections;
    int64_t head_timeout_ms, idle_timeout_ms, send_timeout_ms, grace_ms;
    const char *tls_certificate, *tls_key;       /* both or neither */
    enum http_tls_version tls_minimum;           /* HTTP_TLS_1_2 without a certificate */
    const char *clients_htpasswd;                /* NULL: nobody logs in by a password */
    const char *clients_realm;                   /* NULL: the usual one */
    const char *clients_ca;                      /* NULL: nobody logs in by a certificate */
    struct clients_token_settings clients_token; /* all of it or nothing */
    struct rule *rules; /* NULL: there are none, and no rule forbids anything */
    size_t rule_count;
    bool ignore_ns; /* each request without a host in its path is for the default upstream */
    enum log_level log_level;
    enum log_format log_format;
    bool log_requests;
    enum config_confine confine;

    const char *root;
    uint64_t max_size;      /* bytes; 0: see config_max_size() */
    int64_t max_age_ms;     /* since last use; 0: no limit */
    uint64_t min_free;      /* bytes that stay free on the file system */
    const char *const *pin; /* globs over HOST/REPOSITORY[:TAG] that are never evicted */
    int64_t scrub_ms;       /* every blob is hashed again once in this time; 0: never */
    uint64_t manifest_memory;
    struct streams_settings streaming;
    int64_t negative_ttl_ms;
    int64_t images_ttl_ms;
    uint64_t max_blob; /* bytes that a pushed blob may have; 0: no limit */

    uint64_t max_flights;
    uint64_t connections_total; /* of all flights, over all upstreams */
    unsigned waiting_per_upstream, flights_per_upstream;
    struct http_client_limits per_client;
    struct clients_limits logins;
    struct warm_entry *warm;
    size_t warm_count;

    const char *via; /* of the commands that ask registries; NULL: none */

    struct keep_settings keep;

    struct agent_settings node; /* of tarn node, whose file is another one; with its upstreams */

    struct bucket_settings bucket; /* its address is zeroed: there is no bucket */
    struct replicas_settings replicas;

    struct upstream_settings *upstreams; /* with all defaults */
    size_t upstream_count;
    /* Of a host that is not configured: what the configuration says of all upstreams. */
    const struct upstream_settings *defaults;
    /* Those of tarn keep: the same, but for default credentials, and behind them patterns that
     * match every other name of a host with a dot. */
    struct upstream_settings *keep_upstreams;
    size_t keep_upstream_count;

    const char **warnings; /* ends with NULL; may be NULL */
};

/* ---- loading ---- */

/*
 * Reads flags->file, else $TARN_CONFIG, else CONFIG_DEFAULT_FILE if it exists. `flags` may be NULL.
 * Returns NULL after adding one line to `problems` for each mistake.
 */
struct config *config_load(const struct config_flags *flags, char *const *environment,
                           struct buffer *problems);

/* The same with the bytes of a file, whose name in problems is `name` (NULL: there is no file). */
struct config *config_parse(struct text bytes, const char *name, const struct config_flags *flags,
                            char *const *environment, struct buffer *problems);

/*
 * The same for tarn node: flags->file, else $TARN_NODE_CONFIG, else CONFIG_NODE_FILE if it exists.
 * Of the config, `node`, `upstreams` (none by default), the log's settings, `confine` and
 * `warnings` are set.
 */
struct config *config_node_load(const struct config_flags *flags, char *const *environment,
                                struct buffer *problems);
struct config *config_node_parse(struct text bytes, const char *name,
                                 const struct config_flags *flags, char *const *environment,
                                 struct buffer *problems);

void config_free(struct config *config); /* NULL is allowed */

void config_log_warnings(const struct config *config); /* once the log is configured */

enum config_user { CONFIG_OF_SERVE, CONFIG_OF_KEEP, CONFIG_OF_NODE };

/* What of the configuration may start programs in the process: the name of a source of credentials.
 * NULL: nothing. */
const char *config_program_source(enum config_user user, const struct config *config);

/* Whether a process that runs with `now` can take `next`. False: one line for each setting that can
 * change only by a restart was added to `problems`. */
bool config_check_change(enum config_user user, const struct config *now, const struct config *next,
                         struct buffer *problems);

/* The form of lines that are logged before config_load(), or because it fails: as a flag or a
 * variable says, else LOG_TEXT. What a file says that is not accepted does not count. */
enum log_format config_early_log_format(const struct config_flags *flags, char *const *environment);

/* The size limit of the cache in bytes: max_size, or 80 % of the file system of `root`. */
bool config_max_size(const struct config *config, uint64_t *bytes, struct error *error);

#endif
