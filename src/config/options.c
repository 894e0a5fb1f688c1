#include "config/options.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>
#include "config/checks.h"
#include "config/reader.h"

#define FIELD(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)
#define CONFIG(member)      FIELD(struct config_loaded, config.member)
#define DEFAULTS(member)    FIELD(struct config_loaded, defaults.member)
#define UPSTREAM(member)    FIELD(struct upstream_settings, member)

/* http/ counts milliseconds in an int. */
#define SERVER_TIME .least = 1, .most = INT_MAX

/* Limits of what an upstream's timeouts may be; a day is as good as for ever. */
#define UPSTREAM_TIME .least = 1, .most = 86400000

static const char *const log_levels[] = {
    [LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error", NULL};
static const char *const log_formats[] = {[LOG_TEXT] = "text", [LOG_JSON] = "json", NULL};

static const char *const confine_modes[] = {[CONFIG_CONFINE_AUTO] = "auto",
                                            [CONFIG_CONFINE_OFF] = "off",
                                            [CONFIG_CONFINE_REQUIRE] = "require",
                                            NULL};

const struct config_option config_options[] = {
    /* the server */
    {.key = "listen",
     .type = CONFIG_LIST,
     CONFIG(listen),
     .standard = "127.0.0.1:5000",
     .least = 1,
     .check = config_check_address,
     .help = "addresses to serve on: HOST:PORT, [IPV6]:PORT or :PORT"},
    {.key = "max_connections",
     .type = CONFIG_COUNT,
     CONFIG(max_connections),
     .standard = "10000",
     .least = 1,
     .most = 1000000,
     .help = "client connections open at once; more get 503"},
    {.key = "head_timeout",
     .type = CONFIG_DURATION,
     CONFIG(head_timeout_ms),
     .standard = "10s",
     SERVER_TIME,
     .help = "time a client may take for a request's head"},
    {.key = "idle_timeout",
     .type = CONFIG_DURATION,
     CONFIG(idle_timeout_ms),
     .standard = "2m",
     SERVER_TIME,
     .help = "time a connection is kept between requests"},
    {.key = "send_timeout",
     .type = CONFIG_DURATION,
     CONFIG(send_timeout_ms),
     .standard = "1m",
     SERVER_TIME,
     .help = "time after which a client that takes nothing is cut off"},
    {.key = "grace",
     .type = CONFIG_DURATION,
     CONFIG(grace_ms),
     .standard = "30s",
     .most = INT_MAX,
     .help = "time that requests have to finish after SIGTERM"},
    {.key = "tls.certificate",
     .type = CONFIG_STRING,
     CONFIG(tls_certificate),
     .check = config_check_file,
     .standard_words = "none (plain HTTP)",
     .help = "PEM file of the server's certificate chain"},
    {.key = "tls.key",
     .type = CONFIG_STRING,
     CONFIG(tls_key),
     .check = config_check_file,
     .standard_words = "none",
     .help = "PEM file of the certificate's key"},
    {.key = "clients.htpasswd",
     .type = CONFIG_STRING,
     CONFIG(clients_htpasswd),
     .check = config_check_file,
     .standard_words = "none (everyone may read)",
     .help = "users who may read, as htpasswd -B writes them; read again when it changes"},
    {.key = "log.level",
     .type = CONFIG_CHOICE,
     CONFIG(log_level),
     .standard = "info",
     .choices = log_levels,
     .help = "the least important events to log"},
    {.key = "log.format",
     .type = CONFIG_CHOICE,
     CONFIG(log_format),
     .standard = "text",
     .choices = log_formats,
     .help = "how its lines look, for people or for collectors"},
    {.key = "confine",
     .type = CONFIG_CHOICE,
     CONFIG(confine),
     .standard = "auto",
     .choices = confine_modes,
     .help = "whether tarn gives up what it needs no more once it has started"},

    /* the cache */
    {.key = "root",
     .type = CONFIG_STRING,
     CONFIG(root),
     .check = config_check_any,
     .standard_words = "$XDG_CACHE_HOME/tarn or $HOME/.cache/tarn; for root /var/lib/tarn",
     .help = "folder that holds the cache"},
    {.key = "max_size",
     .type = CONFIG_SIZE,
     CONFIG(max_size),
     .least = 1,
     .standard_words = "80 % of the file system",
     .help = "size the cache stays under"},
    {.key = "max_age",
     .type = CONFIG_DURATION,
     CONFIG(max_age_ms),
     .standard = "0",
     .standard_words = "0 (no limit)",
     .help = "time since its last use after which content goes"},
    {.key = "min_free",
     .type = CONFIG_SIZE,
     CONFIG(min_free),
     .standard = "0",
     .help = "space that is left free on the file system, whatever max_size says"},
    {.key = "pin",
     .type = CONFIG_LIST,
     CONFIG(pin),
     .check = config_check_glob,
     .standard_words = "nothing",
     .help = "patterns of HOST/REPOSITORY[:TAG] that never go"},
    {.key = "scrub",
     .type = CONFIG_DURATION,
     CONFIG(scrub_ms),
     .standard = "0",
     .standard_words = "0 (never)",
     .help = "time in which every cached blob is read and checked once, in the background"},
    {.key = "manifest_memory",
     .type = CONFIG_SIZE,
     CONFIG(manifest_memory),
     .standard = "8MiB",
     .least = 64 << 10,
     .most = (uint64_t)1 << 40,
     .help = "memory for manifests that are answered without the disk"},
    {.key = "negative_ttl",
     .type = CONFIG_DURATION,
     CONFIG(negative_ttl_ms),
     .standard = "5s",
     .help = "time an upstream's 404 is believed"},
    {.key = "max_flights",
     .type = CONFIG_COUNT,
     CONFIG(max_flights),
     .standard = "512",
     .least = 1,
     .most = 100000,
     .help = "blobs fetched at once; more get 503"},
    {.key = "connections_total",
     .type = CONFIG_COUNT,
     CONFIG(connections_total),
     .standard = "64",
     .least = 1,
     .most = 10000,
     .help = "connections that fetch blobs at once, over all upstreams"},

    /* all upstreams; each may say otherwise in the file */
    {.key = "tag_ttl",
     .type = CONFIG_DURATION,
     DEFAULTS(tag_ttl_ms),
     .standard = "1m",
     .help = "time a tag is served without asking upstream; 0 asks each time"},
    {.key = "connect_timeout",
     .type = CONFIG_DURATION,
     DEFAULTS(connect_timeout_ms),
     .standard = "5s",
     UPSTREAM_TIME,
     .help = "time an upstream may take to accept a connection"},
    {.key = "stall_timeout",
     .type = CONFIG_DURATION,
     DEFAULTS(stall_timeout_ms),
     .standard = "10s",
     UPSTREAM_TIME,
     .help = "silence in a transfer after which its rest is asked for again"},
    {.key = "first_byte_timeout",
     .type = CONFIG_DURATION,
     DEFAULTS(first_byte_timeout_ms),
     .standard = "25s",
     UPSTREAM_TIME,
     .help = "time until an upstream's answer begins; then the client gets 504"},
    {.key = "connections",
     .type = CONFIG_COUNT,
     DEFAULTS(connections),
     .standard = "4",
     .least = 1,
     .most = UPSTREAM_CONNECTIONS_LIMIT,
     .help = "range requests at once for one large blob, at most 16"},
    {.key = "range_fill",
     .type = CONFIG_BOOLEAN,
     DEFAULTS(range_fill),
     .standard = "true",
     .help = "whether the rest of a blob follows after a range of it was asked for"},
    {.key = "keep_deleted",
     .type = CONFIG_BOOLEAN,
     DEFAULTS(keep_deleted),
     .standard = "false",
     .help = "whether a cached tag outlives its deletion upstream"},
    {.key = "prefetch",
     .type = CONFIG_BOOLEAN,
     DEFAULTS(prefetch),
     .standard = "false",
     .help = "whether a pulled manifest brings its layers along"},
    {.key = "ca",
     .type = CONFIG_STRING,
     DEFAULTS(ca_file),
     .check = config_check_file,
     .standard_words = "the system's",
     .help = "PEM file of the authorities to trust"},
    {.key = "default_upstream",
     .type = CONFIG_STRING,
     .not_in_file = true,
     FIELD(struct config_loaded, default_upstream),
     .check = config_check_host,
     .standard_words = "docker.io, or the file's",
     .help = "upstream of names without a host"},
    {.key = "upstream",
     .type = CONFIG_LIST,
     .not_in_file = true,
     FIELD(struct config_loaded, more_upstreams),
     .check = config_check_host_and_url,
     .standard_words = "none",
     .help = "one more upstream: HOST, or HOST=URL if it is elsewhere"},
};
const size_t config_option_count = sizeof config_options / sizeof *config_options;
_Static_assert(sizeof config_options / sizeof *config_options <= OPTION_LIMIT, "said[] is full");

#define AS_ABOVE .standard_words = "as at top level"

const struct config_option config_upstream_options[] = {
    {.key = "host",
     .type = CONFIG_STRING,
     UPSTREAM(host),
     .check = config_check_host_pattern,
     .standard_words = "required",
     .help = "the registry's name in image names, or a pattern; * stands for part of one label"},
    {.key = "url",
     .type = CONFIG_STRING,
     UPSTREAM(url),
     .check = config_check_url,
     .standard_words = "https://HOST",
     .help = "where it really is"},
    {.key = "fallbacks",
     .type = CONFIG_LIST,
     UPSTREAM(fallbacks),
     .check = config_check_url,
     .standard_words = "none",
     .help = "URLs of mirrors of it, tried in turn when it fails"},
    {.key = "default",
     .type = CONFIG_BOOLEAN,
     UPSTREAM(is_default),
     .standard = "false",
     .help = "whether it serves names without a host"},
    {.key = "repositories",
     .type = CONFIG_LIST,
     UPSTREAM(repositories),
     .least = 1,
     .check = config_check_glob,
     .standard_words = "all",
     .help = "patterns of the repositories that may be pulled; ** crosses slashes"},
    {.key = "token_hosts",
     .type = CONFIG_LIST,
     UPSTREAM(token_hosts),
     .check = config_check_host,
     .standard_words = "none",
     .help = "further hosts that may hand out its tokens"},
    {.key = "ca",
     .type = CONFIG_STRING,
     UPSTREAM(ca_file),
     .check = config_check_file,
     AS_ABOVE,
     .help = "PEM file of the authorities to trust"},
    {.key = "tag_ttl",
     .type = CONFIG_DURATION,
     UPSTREAM(tag_ttl_ms),
     AS_ABOVE,
     .help = "time a tag is served without asking upstream; 0 asks each time"},
    {.key = "connect_timeout",
     .type = CONFIG_DURATION,
     UPSTREAM(connect_timeout_ms),
     AS_ABOVE,
     UPSTREAM_TIME,
     .help = "time it may take to accept a connection"},
    {.key = "stall_timeout",
     .type = CONFIG_DURATION,
     UPSTREAM(stall_timeout_ms),
     AS_ABOVE,
     UPSTREAM_TIME,
     .help = "silence in a transfer after which its rest is asked for again"},
    {.key = "first_byte_timeout",
     .type = CONFIG_DURATION,
     UPSTREAM(first_byte_timeout_ms),
     AS_ABOVE,
     UPSTREAM_TIME,
     .help = "time until its answer begins; then the client gets 504"},
    {.key = "connections",
     .type = CONFIG_COUNT,
     UPSTREAM(connections),
     AS_ABOVE,
     .least = 1,
     .most = UPSTREAM_CONNECTIONS_LIMIT,
     .help = "range requests at once for one large blob, at most 16"},
    {.key = "max_connections",
     .type = CONFIG_COUNT,
     UPSTREAM(max_connections),
     .standard = "64",
     .least = 1,
     .most = 10000,
     .help = "requests to it at once"},
    {.key = "keep_deleted",
     .type = CONFIG_BOOLEAN,
     UPSTREAM(keep_deleted),
     AS_ABOVE,
     .help = "whether a cached tag outlives its deletion upstream"},
    {.key = "range_fill",
     .type = CONFIG_BOOLEAN,
     UPSTREAM(range_fill),
     AS_ABOVE,
     .help = "whether the rest of a blob follows after a range of it was asked for"},
    {.key = "prefetch",
     .type = CONFIG_BOOLEAN,
     UPSTREAM(prefetch),
     AS_ABOVE,
     .help = "whether a pulled manifest brings its layers along"},
};
const size_t config_upstream_option_count =
    sizeof config_upstream_options / sizeof *config_upstream_options;

/* `key` with what joins its words replaced. */
static void spell(const char *prefix, const char *key, char joint, int (*letter)(int),
                  char out[static CONFIG_NAME_SIZE]) {
    size_t used = strlen(prefix);
    memcpy(out, prefix, used);
    for (; *key && used < CONFIG_NAME_SIZE - 1; key++)
        out[used++] = *key == '.' || *key == '_' ? joint : (char)letter((unsigned char)*key);
    out[used] = '\0';
}

void config_option_flag(const struct config_option *option, char out[static CONFIG_NAME_SIZE]) {
    spell("--", option->key, '-', tolower, out);
}

void config_option_variable(const struct config_option *option, char out[static CONFIG_NAME_SIZE]) {
    spell("TARN_", option->key, '_', toupper, out);
}

const char *config_option_placeholder(const struct config_option *option) {
    switch (option->type) {
    case CONFIG_SIZE:
        return "SIZE";
    case CONFIG_DURATION:
        return "TIME";
    case CONFIG_COUNT:
        return "NUMBER";
    case CONFIG_BOOLEAN:
        return "BOOL";
    case CONFIG_CHOICE:
        return option->choices == log_levels    ? "LEVEL"
               : option->choices == log_formats ? "FORMAT"
                                                : "MODE";
    case CONFIG_STRING:
    case CONFIG_LIST:
        break;
    }
    static const struct {
        bool (*check)(const char *, char *, size_t);
        const char *placeholder;
    } by_check[] = {
        {config_check_address, "ADDRESS"},
        {config_check_host, "HOST"},
        {config_check_host_pattern, "HOST"},
        {config_check_url, "URL"},
        {config_check_host_and_url, "HOST[=URL]"},
        {config_check_file, "FILE"},
        {config_check_glob, "PATTERN"},
    };
    for (size_t i = 0; i < sizeof by_check / sizeof *by_check; i++) {
        if (option->check == by_check[i].check)
            return by_check[i].placeholder;
    }
    return "FOLDER";
}
