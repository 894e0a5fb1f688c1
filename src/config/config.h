/*
 * What the operator said: file, environment and flags, turned into one checked `struct config`.
 *
 * In rising priority: default, file, environment, flag. Every setting is one row of
 * `config_options`: its key in the file, its flag, its variable, its default, its help and its
 * documentation all come from there. An upstream's own setting in the file is more special than
 * the same key at top level, from wherever that comes.
 *
 * Nothing is guessed: an unknown key, a wrong type, an impossible value stops the start, and up to
 * ten such mistakes are told at once, each with its place and what would be right:
 *
 *   /etc/tarn/tarn.yaml:7:14: upstreams[0].tag_ttl: "5 parsecs" is no duration; write for …
 *   --tag-ttl: "5 parsecs" is no duration; write for example 30s, 5m, 168h
 *
 * Threads: loading is for one thread; a loaded config is only read.
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
#include "config/flags.h"
#include "config/option_text.h"
#include "upstream/upstream.h"

#define CONFIG_DEFAULT_FILE "/etc/tarn/tarn.yaml"

/* What the serving process gives up once it has started (cmd/confine.h). */
enum config_confine {
    CONFIG_CONFINE_AUTO, /* what the kernel offers */
    CONFIG_CONFINE_OFF,
    CONFIG_CONFINE_REQUIRE, /* all of it, or no start */
};

/* Everything inside is owned by the config. Lists of strings are NULL-terminated and may be NULL
 * when empty. */
struct config {
    const char *file; /* what was read; NULL: there was none */

    const char *const *listen; /* never empty */
    size_t listen_count;
    uint64_t max_connections;
    int64_t head_timeout_ms, idle_timeout_ms, send_timeout_ms, grace_ms;
    const char *tls_certificate, *tls_key; /* both or neither */
    const char *clients_htpasswd;          /* NULL: everyone may read */
    enum log_level log_level;
    enum log_format log_format;
    enum config_confine confine;

    const char *root;
    uint64_t max_size;      /* bytes; 0: as config_max_size() finds */
    int64_t max_age_ms;     /* since last use; 0: no limit */
    uint64_t min_free;      /* bytes the file system keeps free */
    const char *const *pin; /* globs over HOST/REPOSITORY[:TAG] that are never evicted */
    int64_t scrub_ms;       /* every blob is re-hashed once in this time; 0: none is */
    uint64_t manifest_memory;
    int64_t negative_ttl_ms;

    uint64_t max_flights;
    uint64_t connections_total; /* of all flights, over all upstreams */
    struct warm_entry *warm;
    size_t warm_count;

    struct upstream_settings *upstreams; /* every default is filled in */
    size_t upstream_count;

    const char *const *warnings; /* sentences to log once the log is set up; may be NULL */
};

/* ---- loading ---- */

/*
 * The file is flags->file, else $TARN_CONFIG, else CONFIG_DEFAULT_FILE if there is one. `flags` may
 * be NULL. NULL: it cannot be used, and `problems` got one line for each mistake.
 */
struct config *config_load(const struct config_flags *flags, char *const *environment,
                           struct buffer *problems);

/* The same from a file's bytes, without looking for any; `name` stands for it in problems. */
struct config *config_parse(struct text bytes, const char *name, const struct config_flags *flags,
                            char *const *environment, struct buffer *problems);

void config_free(struct config *config); /* NULL is allowed */

/* The limit of the cache in bytes: max_size, or 80 % of the file system that holds (or will hold)
 * `root`. */
bool config_max_size(const struct config *config, uint64_t *bytes, struct error *error);

#endif
