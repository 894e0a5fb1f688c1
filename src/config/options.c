/* The two tables of settings: those of the top level and those of one upstream. */
#include "config/options.h"

#include <limits.h>
#include <string.h>
#include "config/checks.h"
#include "config/reader.h"

#define FIELD(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)
#define SERVER(member)      .group = CONFIG_SERVER, FIELD(struct config_loaded, config.member)
#define CACHE(member)       .group = CONFIG_CACHE, FIELD(struct config_loaded, config.member)
#define BUCKET(member)                                                                             \
    .group = CONFIG_BUCKET, .needs_restart = true, FIELD(struct config_loaded, config.bucket.member)
#define BUCKET_TEXT(member)                                                                        \
    .group = CONFIG_BUCKET, .needs_restart = true, FIELD(struct config_loaded, member)
#define LIMIT(member)    .group = CONFIG_LIMITS, FIELD(struct config_loaded, config.member)
#define LOADED(member)   .group = CONFIG_UPSTREAMS, FIELD(struct config_loaded, member)
#define DEFAULTS(member) LOADED(defaults.member)
#define UPSTREAM(member) .group = CONFIG_UPSTREAM, FIELD(struct upstream_settings, member)

/* Times of the server: http/ counts milliseconds in an int. */
#define SERVER_TIME .least = 1, .most = INT_MAX

/* A part of something. */
#define PERCENT .least = 1, .most = 100

/* Timeouts of an upstream. No useful timeout is longer than a day. */
#define UPSTREAM_TIME .least = 1, .most = 86400000

static const char *const log_levels[] = {
    [LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error", NULL};
static const char *const log_formats[] = {[LOG_TEXT] = "text", [LOG_JSON] = "json", NULL};

static const char *const tls_versions[] = {[HTTP_TLS_1_2] = "1.2", [HTTP_TLS_1_3] = "1.3", NULL};

static const char *const bucket_styles[] = {[BUCKET_STYLE_AUTO] = "auto",
                                            [BUCKET_STYLE_PATH] = "true",
                                            [BUCKET_STYLE_HOST] = "false",
                                            NULL};

static const char *const confine_modes[] = {[CONFIG_CONFINE_AUTO] = "auto",
                                            [CONFIG_CONFINE_OFF] = "off",
                                            [CONFIG_CONFINE_REQUIRE] = "require",
                                            NULL};

/* Settings of one upstream that the top level has, too, for all upstreams. */
#define TAG_TTL                                                                                    \
    .key = "tag_ttl", .type = CONFIG_DURATION,                                                     \
    .help = "time for which a tag is served without asking the upstream; 0 asks each time"
#define LINK_TTL                                                                                   \
    .key = "link_ttl", .type = CONFIG_DURATION,                                                    \
    .help = "time after which the upstream is asked again whether a repository may have what is "  \
            "cached for it; 0 never asks"
#define CONNECT_TIMEOUT                                                                            \
    .key = "connect_timeout", .type = CONFIG_DURATION, UPSTREAM_TIME,                              \
    .help = "time an upstream may take to accept a connection"
#define STALL_TIMEOUT                                                                              \
    .key = "stall_timeout", .type = CONFIG_DURATION, UPSTREAM_TIME,                                \
    .help = "time without a byte after which the rest of a transfer is requested again"
#define FIRST_BYTE_TIMEOUT                                                                         \
    .key = "first_byte_timeout", .type = CONFIG_DURATION, UPSTREAM_TIME,                           \
    .help = "time an upstream may take to begin its response, and to send the whole of a "         \
            "manifest or of a page of a list; then the client gets 504"
#define CONNECTIONS                                                                                \
    .key = "connections", .type = CONFIG_COUNT, .least = 1, .most = UPSTREAM_CONNECTIONS_LIMIT,    \
    .help = "range requests at the same time for one large blob"
#define RANGE_FILL                                                                                 \
    .key = "range_fill", .type = CONFIG_BOOLEAN,                                                   \
    .help = "whether the rest of a blob is fetched after a client asked for a range of it"
#define KEEP_DELETED                                                                               \
    .key = "keep_deleted", .type = CONFIG_BOOLEAN,                                                 \
    .help = "whether a cached tag stays when it is deleted upstream"
#define PREFETCH                                                                                   \
    .key = "prefetch", .type = CONFIG_BOOLEAN,                                                     \
    .help = "whether the layers of a manifest are fetched as soon as the manifest is pulled"
#define CA                                                                                         \
    .key = "ca", .type = CONFIG_STRING, .placeholder = "FILE", .check = config_check_file,         \
    .help = "PEM file with the certificate authorities to trust"

const struct config_option config_options[] = {
    {.key = "listen",
     .type = CONFIG_LIST,
     .placeholder = "ADDRESS",
     SERVER(listen),
     .least = 1,
     .check = config_check_address,
     .help = "addresses to serve on: HOST:PORT, [IPV6]:PORT or :PORT"},
    {.key = "metrics_listen",
     .type = CONFIG_LIST,
     .placeholder = "ADDRESS",
     SERVER(metrics_listen),
     .check = config_check_address,
     .default_words = "none",
     .help = "further addresses that serve /metrics, /livez and /readyz alone, always without TLS"},
    {.key = "path_prefix",
     .type = CONFIG_STRING,
     .placeholder = "PATH",
     SERVER(path_prefix),
     .check = config_check_path,
     .default_words = "none",
     .help = "what stands in front of every path, when a proxy in front of tarn passes on such "
             "paths",
     .details = "With /images the API is at /images/v2/, and at /v2/ as well."},
    {.key = "headers",
     .type = CONFIG_LIST,
     .placeholder = "FIELD",
     SERVER(headers),
     .check = config_check_field,
     .default_words = "none",
     .help = "fields that every response gets, written as \"Name: value\""},
    {.key = "server_names",
     .type = CONFIG_LIST,
     .placeholder = "NAME",
     SERVER(server_names),
     .check = config_check_host,
     .default_words = "none",
     .help = "further names by which clients on this machine ask for tarn",
     .details = "A request to a loopback address must name, in its Host field, an IP address, "
                "localhost, "
                "the host of a configured upstream, or one of these; any other is 421. "
                "Otherwise a web "
                "page whose name resolves to 127.0.0.1 could read images through tarn."},
    {.key = "ignore_ns",
     .type = CONFIG_BOOLEAN,
     SERVER(ignore_ns),
     .help = "whether the host that containerd names in ?ns= is ignored, so that the default "
             "upstream serves every name without a host",
     .details = "The CNCF registry does so. Set it if clients use one upstream as the mirror of "
                "another registry. /v2/_catalog then lists that upstream's repositories, without "
                "its host."},
    {.key = "max_connections",
     .type = CONFIG_COUNT,
     SERVER(max_connections),
     .least = 1,
     .most = 1000000,
     .help = "client connections open at the same time; for a further one, the longest idle is "
             "closed"},
    {.key = "head_timeout",
     .type = CONFIG_DURATION,
     SERVER(head_timeout_ms),
     SERVER_TIME,
     .help = "time a client may take to send the head of a request"},
    {.key = "idle_timeout",
     .type = CONFIG_DURATION,
     SERVER(idle_timeout_ms),
     SERVER_TIME,
     .help = "time a client's connection stays open between requests"},
    {.key = "send_timeout",
     .type = CONFIG_DURATION,
     SERVER(send_timeout_ms),
     SERVER_TIME,
     .help = "time after which a client that accepts no bytes is disconnected"},
    {.key = "grace",
     .type = CONFIG_DURATION,
     SERVER(grace_ms),
     .most = INT_MAX,
     .help = "time that requests get to finish after SIGTERM"},
    {.key = "tls.certificate",
     .type = CONFIG_STRING,
     .placeholder = "FILE",
     SERVER(tls_certificate),
     .check = config_check_file,
     .default_words = "none (plain HTTP)",
     .help = "PEM file with the server's certificate chain"},
    {.key = "tls.key",
     .type = CONFIG_STRING,
     .placeholder = "FILE",
     SERVER(tls_key),
     .check = config_check_file,
     .default_words = "none",
     .help = "PEM file with the key of the certificate"},
    {.key = "tls.minimum",
     .type = CONFIG_CHOICE,
     SERVER(tls_minimum),
     .choices = tls_versions,
     .help = "the least version of TLS that clients may speak"},
    {.key = "clients.htpasswd",
     .type = CONFIG_STRING,
     .placeholder = "FILE",
     SERVER(clients_htpasswd),
     .check = config_check_file,
     .default_words = "none (nobody logs in by a password)",
     .help = "file of users and their passwords, as htpasswd -B writes it; read again when it "
             "changes"},
    {.key = "clients.realm",
     .type = CONFIG_STRING,
     .placeholder = "NAME",
     SERVER(clients_realm),
     .check = config_check_quotable,
     .default_words = "tarn",
     .help = "what clients that are asked for a password are told it is for"},
    {.key = "clients.ca",
     .type = CONFIG_STRING,
     .placeholder = "FILE",
     SERVER(clients_ca),
     .check = config_check_file,
     .default_words = "none (clients are not asked for certificates)",
     .help = "PEM file of the authorities whose certificates clients may log in by; the user is "
             "the certificate's common name; read again when it changes",
     .details = "Needs tls. A client need not have a certificate."},
    {.key = "clients.token.realm",
     .type = CONFIG_STRING,
     .placeholder = "URL",
     SERVER(clients_token.realm),
     .check = config_check_realm,
     .default_words = "none",
     .help = "URL of the service that issues tokens to clients"},
    {.key = "clients.token.service",
     .type = CONFIG_STRING,
     .placeholder = "NAME",
     SERVER(clients_token.service),
     .check = config_check_quotable,
     .default_words = "none",
     .help = "name of tarn at that service: the aud of its tokens"},
    {.key = "clients.token.issuer",
     .type = CONFIG_STRING,
     .placeholder = "NAME",
     SERVER(clients_token.issuer),
     .check = config_check_quotable,
     .default_words = "none",
     .help = "name of that service: the iss of its tokens"},
    {.key = "clients.token.jwks",
     .type = CONFIG_STRING,
     .placeholder = "FILE",
     SERVER(clients_token.jwks),
     .check = config_check_file,
     .default_words = "none",
     .help = "JWK set with the public keys of that service; read again when it changes"},
    {.key = "log.level",
     .type = CONFIG_CHOICE,
     .placeholder = "LEVEL",
     SERVER(log_level),
     .choices = log_levels,
     .help = "the least important level that is logged"},
    {.key = "log.format",
     .type = CONFIG_CHOICE,
     .placeholder = "FORMAT",
     SERVER(log_format),
     .choices = log_formats,
     .help = "format of the log's lines, for people or for collectors"},
    {.key = "log.requests",
     .type = CONFIG_BOOLEAN,
     SERVER(log_requests),
     .help = "whether each request gets a line in the log"},
    {.key = "confine",
     .type = CONFIG_CHOICE,
     .placeholder = "MODE",
     SERVER(confine),
     .needs_restart = true,
     .choices = confine_modes,
     .help = "whether tarn gives up the rights that it no longer needs once it has started",
     .details =
         "The rights are: to write outside the root, to start programs (unless a credential "
         "helper is configured), and to make the system calls that a cache never needs. auto: "
         "as far as the kernel offers it. require: all of them, or tarn does not start."},

    {.key = "root",
     .type = CONFIG_STRING,
     .placeholder = "FOLDER",
     CACHE(root),
     .needs_restart = true,
     .check = config_check_any,
     .default_words = "$XDG_CACHE_HOME/tarn or $HOME/.cache/tarn; for root /var/lib/tarn",
     .help = "folder that holds the cache"},
    {.key = "max_size",
     .type = CONFIG_SIZE,
     CACHE(max_size),
     .least = 1,
     .default_words = "80 % of the file system",
     .help = "size that the cache stays below"},
    {.key = "max_age",
     .type = CONFIG_DURATION,
     CACHE(max_age_ms),
     .default_words = "0 (no limit)",
     .help = "time without use after which a blob is deleted"},
    {.key = "min_free",
     .type = CONFIG_SIZE,
     CACHE(min_free),
     .help = "space that stays free on the file system, whatever max_size is"},
    {.key = "pin",
     .type = CONFIG_LIST,
     .placeholder = "PATTERN",
     CACHE(pin),
     .check = config_check_glob,
     .default_words = "nothing",
     .help = "patterns of HOST/REPOSITORY[:TAG]; only tarn rm deletes matching images"},
    {.key = "scrub",
     .type = CONFIG_DURATION,
     CACHE(scrub_ms),
     .default_words = "0 (never)",
     .help = "time in which every cached blob is read and checked once, in the background",
     .details =
         "A blob with wrong bytes is set aside and fetched again when a client asks for it."},
    {.key = "manifest_memory",
     .type = CONFIG_SIZE,
     CACHE(manifest_memory),
     .least = 64 << 10,
     .most = (uint64_t)1 << 40,
     .help = "memory for manifests that are served without reading the disk"},
    {.key = "negative_ttl",
     .type = CONFIG_DURATION,
     CACHE(negative_ttl_ms),
     .help = "time for which an upstream's 404 is served without asking again"},
    {.key = "images_ttl",
     .type = CONFIG_DURATION,
     CACHE(images_ttl_ms),
     .help = "time for which a list of a repository's images is served without asking again"},
    {.key = "max_flights",
     .type = CONFIG_COUNT,
     CACHE(max_flights),
     .least = 1,
     .most = 100000,
     .help = "blobs fetched at the same time; a request for a further one gets 503",
     .details = "Blobs that no client has asked for (prefetch) have a quarter as many places "
                "beside these."},
    {.key = "connections_total",
     .type = CONFIG_COUNT,
     CACHE(connections_total),
     .least = 1,
     .most = 10000,
     .help = "connections that fetch blobs at the same time, over all upstreams"},

    {.key = "bucket.url",
     .type = CONFIG_STRING,
     .placeholder = "URL",
     BUCKET_TEXT(bucket_url),
     .check = config_check_bucket_url,
     .default_words = "none (there is no bucket)",
     .help = "bucket that tarn reads from before it asks an upstream, and keeps what it fetched "
             "in: s3://NAME[/PREFIX] or gs://NAME[/PREFIX]"},
    {.key = "bucket.endpoint",
     .type = CONFIG_STRING,
     .placeholder = "URL",
     BUCKET(endpoint),
     .default_words = "AWS's for the region, or Google's",
     .help = "URL of a server that speaks S3: scheme, host and port"},
    {.key = "bucket.region",
     .type = CONFIG_STRING,
     .placeholder = "NAME",
     BUCKET(region),
     .default_words = "of the environment, the profile or the machine, else asked of the bucket",
     .help = "region of the bucket"},
    {.key = "bucket.path_style",
     .type = CONFIG_CHOICE,
     BUCKET(path_style),
     .choices = bucket_styles,
     .help = "whether the bucket's name is in the path of a request, not in its host",
     .details = "auto: with an endpoint, with a dot in the name, and with gs://."},
    {.key = "bucket.credentials",
     .type = CONFIG_STRING,
     .placeholder = "WORD",
     BUCKET_TEXT(bucket_credentials),
     .is_section_too = true,
     .check = config_check_bucket_word,
     .default_words = "aws for s3://, google for gs://",
     .help = "whose credentials are used: aws, google or anonymous; the file also takes "
             "{aws: {profile: NAME, file: FILE}}, {google: ...} and {key_id: ID, secret_file: "
             "FILE}"},
    {.key = "bucket.ca",
     .type = CONFIG_STRING,
     .placeholder = "FILE",
     BUCKET(ca_file),
     .check = config_check_file,
     .default_words = "the system's",
     .help = "PEM file with the certificate authorities to trust for the bucket"},
    {.key = "bucket.connections",
     .type = CONFIG_COUNT,
     BUCKET(connections),
     .least = 1,
     .most = BUCKET_CONNECTIONS_LIMIT,
     .help = "range requests at the same time for one large blob from the bucket"},
    {.key = "bucket.uploads",
     .type = CONFIG_COUNT,
     BUCKET(uploads),
     .least = 1,
     .most = BUCKET_UPLOADS_LIMIT,
     .help = "blobs that are uploaded at the same time"},
    {.key = "bucket.part_size",
     .type = CONFIG_SIZE,
     BUCKET(part_size),
     .least = BUCKET_PART_SIZE_LEAST,
     .most = BUCKET_PART_SIZE_MOST,
     .help = "size of a part of a large blob's upload",
     .details = "An upload has 10000 parts at most, so that 16MiB are enough for blobs of 156GiB."},
    {.key = "bucket.patience",
     .type = CONFIG_DURATION,
     BUCKET(patience_ms),
     UPSTREAM_TIME,
     .help = "time that the bucket may take to begin its response before the upstream is asked"},
    {.key = "bucket.read_only",
     .type = CONFIG_BOOLEAN,
     BUCKET(read_only),
     .help = "whether nothing is written to the bucket, and nothing deleted"},
    {.key = "bucket.retention",
     .type = CONFIG_DURATION,
     BUCKET(retention_ms),
     .help =
         "time without use by any tarn after which a blob is deleted from the bucket; 0: never"},
    {.key = "bucket.max_size",
     .type = CONFIG_SIZE,
     BUCKET(max_size),
     .default_words = "0 (no limit)",
     .help = "size of all blobs in the bucket; beyond it those are deleted that are unused for "
             "longest"},
    {.key = "bucket.storage_class",
     .type = CONFIG_STRING,
     .placeholder = "NAME",
     BUCKET(storage_class),
     .default_words = "the bucket's",
     .help = "storage class of what tarn writes: STANDARD_IA, for example"},
    {.key = "bucket.encryption",
     .type = CONFIG_STRING,
     .placeholder = "NAME",
     BUCKET(encryption),
     .default_words = "the bucket's",
     .help = "how the service encrypts what tarn writes: AES256, aws:kms or aws:kms:dsse"},
    {.key = "bucket.kms_key",
     .type = CONFIG_STRING,
     .placeholder = "ARN",
     BUCKET(kms_key),
     .default_words = "the account's",
     .help = "key of the encryption aws:kms"},

    {.key = "limits.per_upstream.waiting",
     .type = CONFIG_COUNT,
     LIMIT(waiting_per_upstream),
     .least = 1,
     .most = 100000,
     .help = "requests that may wait for one upstream while more than half of all workers are busy",
     .details = "A further one gets the stale answer, if there is one, else 503."},
    {.key = "limits.per_upstream.flights",
     .type = CONFIG_COUNT,
     LIMIT(flights_per_upstream),
     .least = 1,
     .most = 100000,
     .help = "blobs of one upstream that may be fetched while more than half of max_flights are "
             "taken",
     .details = "A request for a further one gets 503."},
    {.key = "limits.per_client.connections",
     .type = CONFIG_PERCENT,
     LIMIT(per_client.connections),
     PERCENT,
     .help = "part of max_connections that one client address may hold while more than half of "
             "them are taken"},
    {.key = "limits.per_client.requests",
     .type = CONFIG_PERCENT,
     LIMIT(per_client.requests),
     PERCENT,
     .help = "part of the workers that the requests of one client address may hold while more "
             "than half of them are busy",
     .details = "A further request gets 429."},
    {.key = "limits.per_client.least_rate",
     .type = CONFIG_SIZE,
     LIMIT(per_client.least_rate),
     .most = 1 << 30,
     .help = "bytes a second that a client must take while all workers are busy; 0: no limit"},
    {.key = "limits.logins.failures",
     .type = CONFIG_COUNT,
     LIMIT(logins.failures),
     .least = 1,
     .most = 1000000,
     .help = "wrong passwords from one client address within limits.logins.within before its "
             "logins get 429"},
    {.key = "limits.logins.within",
     .type = CONFIG_DURATION,
     LIMIT(logins.within_ms),
     SERVER_TIME,
     .help = "time in which wrong passwords are counted"},
    {.key = "limits.logins.waiting",
     .type = CONFIG_COUNT,
     LIMIT(logins.waiting),
     .least = 1,
     .most = 100000,
     .help = "logins that wait for the check of their password at the same time; a further one "
             "gets 429"},

    {TAG_TTL, DEFAULTS(tag_ttl_ms)},
    {LINK_TTL, DEFAULTS(link_ttl_ms)},
    {CONNECT_TIMEOUT, DEFAULTS(connect_timeout_ms)},
    {STALL_TIMEOUT, DEFAULTS(stall_timeout_ms)},
    {FIRST_BYTE_TIMEOUT, DEFAULTS(first_byte_timeout_ms)},
    {CONNECTIONS, DEFAULTS(connections)},
    {RANGE_FILL, DEFAULTS(range_fill)},
    {KEEP_DELETED, DEFAULTS(keep_deleted)},
    {PREFETCH, DEFAULTS(prefetch)},
    {CA, DEFAULTS(ca_file), .default_words = "the system's"},
    {.key = "default_upstream",
     .type = CONFIG_STRING,
     .placeholder = "HOST",
     .not_in_file = true,
     LOADED(default_upstream),
     .check = config_check_host,
     .default_words = "docker.io, or the file's",
     .help = "upstream for names without a host"},
    {.key = "upstream",
     .type = CONFIG_LIST,
     .placeholder = "HOST[=URL]",
     .not_in_file = true,
     LOADED(more_upstreams),
     .check = config_check_host_and_url,
     .default_words = "none",
     .help = "one more upstream: HOST, or HOST=URL if its URL is not https://HOST"},
};
const size_t config_option_count = sizeof config_options / sizeof *config_options;
_Static_assert(sizeof config_options / sizeof *config_options <= OPTION_LIMIT,
               "config_loaded.set_at is too small");

size_t config_option_index(const char *key) {
    size_t i = 0;
    while (strcmp(config_options[i].key, key) != 0)
        i++;
    return i;
}

#define AS_ABOVE .default_words = "as at top level"

const struct config_option config_upstream_options[] = {
    {.key = "host",
     .type = CONFIG_STRING,
     .placeholder = "HOST",
     UPSTREAM(host),
     .check = config_check_host_pattern,
     .default_words = "required",
     .help = "host of the registry in image names, or a pattern; * stands for part of one label"},
    {.key = "url",
     .type = CONFIG_STRING,
     .placeholder = "URL",
     UPSTREAM(url),
     .check = config_check_url,
     .default_words = "https://HOST",
     .help = "URL of the registry"},
    {.key = "prefix",
     .type = CONFIG_STRING,
     .placeholder = "PREFIX",
     UPSTREAM(prefix),
     .check = config_check_prefix,
     .default_words = "none",
     .help = "what stands in front of every repository at url, as a cache behind tarn wants it"},
    {.key = "fallbacks",
     .type = CONFIG_LIST,
     .placeholder = "URL",
     UPSTREAM(fallbacks),
     .check = config_check_url,
     .default_words = "none",
     .help = "URLs of mirrors of the registry, tried in turn when it fails"},
    {.key = "default",
     .type = CONFIG_BOOLEAN,
     UPSTREAM(is_default),
     .help = "whether this upstream serves names without a host"},
    {.key = "repositories",
     .type = CONFIG_LIST,
     .placeholder = "PATTERN",
     UPSTREAM(repositories),
     .least = 1,
     .check = config_check_glob,
     .default_words = "all",
     .help = "patterns of the repositories that may be pulled; ** also matches slashes"},
    {.key = "token_hosts",
     .type = CONFIG_LIST,
     .placeholder = "HOST",
     UPSTREAM(token_hosts),
     .check = config_check_host,
     .default_words = "none",
     .help = "further hosts that may issue tokens for the registry"},
    {.key = "redirect_hosts",
     .type = CONFIG_LIST,
     .placeholder = "HOST",
     UPSTREAM(redirect_hosts),
     .check = config_check_host,
     .default_words = "none",
     .help = "hosts to which the registry's redirects may lead whatever their address is: storage "
             "in a private network, for example"},
    {CA, UPSTREAM(ca_file), AS_ABOVE},
    {TAG_TTL, UPSTREAM(tag_ttl_ms), AS_ABOVE},
    {LINK_TTL, UPSTREAM(link_ttl_ms), AS_ABOVE},
    {CONNECT_TIMEOUT, UPSTREAM(connect_timeout_ms), AS_ABOVE},
    {STALL_TIMEOUT, UPSTREAM(stall_timeout_ms), AS_ABOVE},
    {FIRST_BYTE_TIMEOUT, UPSTREAM(first_byte_timeout_ms), AS_ABOVE},
    {CONNECTIONS, UPSTREAM(connections), AS_ABOVE},
    {.key = "max_connections",
     .type = CONFIG_COUNT,
     UPSTREAM(max_connections),
     .least = 1,
     .most = 10000,
     .help = "requests to the upstream at the same time"},
    {KEEP_DELETED, UPSTREAM(keep_deleted), AS_ABOVE},
    {RANGE_FILL, UPSTREAM(range_fill), AS_ABOVE},
    {PREFETCH, UPSTREAM(prefetch), AS_ABOVE},
};
const size_t config_upstream_option_count =
    sizeof config_upstream_options / sizeof *config_upstream_options;
