/* The table of the CNCF registry's keys: configuration/configuration.go of distribution,
 * versions 2.8 and 3. */
#include "config/distribution_keys.h"

#include <string.h>

#define SECTION(key)                                                                               \
    { key, DISTRIBUTION_SECTION, NULL, NULL }
#define IGNORED(key, reason)                                                                       \
    { key, DISTRIBUTION_IGNORED, NULL, reason }
#define REFUSED(key, reason)                                                                       \
    { key, DISTRIBUTION_REFUSED, NULL, reason }
#define VALUE(key, type, theirs)                                                                   \
    { key, DISTRIBUTION_##type, theirs, NULL }

/* The keys of the driver s3, which version 2 also knows by another name, and of gcs. */
#define S3(name)                                                                                   \
    SECTION(name), VALUE(name ".bucket", TEXT, "bucket.url"),                                      \
        VALUE(name ".rootdirectory", TEXT, NULL), VALUE(name ".region", TEXT, "bucket.region"),    \
        VALUE(name ".regionendpoint", TEXT, "bucket.endpoint"),                                    \
        VALUE(name ".forcepathstyle", BOOLEAN, "bucket.path_style"),                               \
        VALUE(name ".accesskey", TEXT, "bucket.credentials.key_id"),                               \
        VALUE(name ".secretkey", TEXT, "bucket.credentials.secret"),                               \
        VALUE(name ".encrypt", BOOLEAN, "bucket.encryption"),                                      \
        VALUE(name ".keyid", TEXT, "bucket.kms_key"),                                              \
        VALUE(name ".storageclass", TEXT, "bucket.storage_class"),                                 \
        VALUE(name ".chunksize", TEXT, "bucket.part_size"), VALUE(name ".secure", BOOLEAN, NULL),  \
        VALUE(name ".skipverify", BOOLEAN, NULL), VALUE(name ".v4auth", BOOLEAN, NULL),            \
        IGNORED(name ".sessiontoken", "a session ends, and tarn's credentials are kept fresh; "    \
                                      "leave the keys out to use those of the environment"),       \
        IGNORED(name ".multipartcopychunksize", NO_COPY),                                          \
        IGNORED(name ".multipartcopymaxconcurrency", NO_COPY),                                     \
        IGNORED(name ".multipartcopythresholdsize", NO_COPY),                                      \
        IGNORED(name ".useragent", "tarn sends its own"),                                          \
        IGNORED(name ".objectacl", "the bucket's own policy says who may read"),                   \
        IGNORED(name ".usedualstack", "tarn uses the usual endpoint; set regionendpoint to use "   \
                                      "another"),                                                  \
        IGNORED(name ".accelerate", "tarn uses the usual endpoint; set regionendpoint to use "     \
                                    "another"),                                                    \
        IGNORED(name ".loglevel", "log.level says what tarn logs"),                                \
        IGNORED(name ".logs3apirequests", "log.level says what tarn logs"),                        \
        IGNORED(name ".logs3apiresponseheaders", "log.level says what tarn logs")
#define GCS(name)                                                                                  \
    SECTION(name), VALUE(name ".bucket", TEXT, "bucket.url"),                                      \
        VALUE(name ".rootdirectory", TEXT, NULL),                                                  \
        VALUE(name ".keyfile", TEXT, "bucket.credentials.google.file"),                            \
        VALUE(name ".chunksize", TEXT, "bucket.part_size"),                                        \
        IGNORED(name ".credentials", "tarn reads a key from a file; set keyfile"),                 \
        IGNORED(name ".maxconcurrency", "tarn bounds its own requests")
#define NO_COPY "tarn copies no objects"

#define ONLY_PUSHED "it is about what clients push, and a cache takes no pushes"
#define OTHER_STORE                                                                                \
    "tarn keeps the cache in a folder of this machine, and in buckets of S3 and Google only"
#define NO_REPORTS "tarn reports by its log and its metrics"

const struct distribution_key distribution_keys[] = {
    VALUE("version", TEXT, NULL),

    SECTION("log"),
    VALUE("log.level", TEXT, "log.level"),
    VALUE("log.formatter", TEXT, "log.format"),
    SECTION("log.accesslog"),
    VALUE("log.accesslog.disabled", BOOLEAN, "log.requests"),
    IGNORED("log.fields", "tarn's lines have their own fields"),
    IGNORED("log.hooks", "tarn sends no mail"),
    IGNORED("log.reportcaller", "tarn's lines do not name its functions"),
    VALUE("loglevel", TEXT, NULL),

    {"storage", DISTRIBUTION_CHOSEN, NULL, NULL},
    SECTION("storage.filesystem"),
    VALUE("storage.filesystem.rootdirectory", TEXT, "root"),
    IGNORED("storage.filesystem.maxthreads", "tarn bounds its own threads"),
    IGNORED("storage.inmemory", OTHER_STORE),
    S3("storage.s3"),
    S3("storage.s3aws"),
    GCS("storage.gcs"),
    IGNORED("storage.azure", OTHER_STORE),
    IGNORED("storage.swift", OTHER_STORE),
    IGNORED("storage.oss", OTHER_STORE),
    IGNORED("storage.cache", "tarn keeps what it knows of blobs in memory anyway"),
    IGNORED("storage.delete", "clients cannot delete from a cache; tarn rm does"),
    IGNORED("storage.redirect", "tarn sends the bytes itself"),
    IGNORED("storage.maintenance", "there are no uploads to clean up, and a cache is read-only"),
    IGNORED("storage.tag", "tarn asks the upstream for lists of tags"),

    {"auth", DISTRIBUTION_CHOSEN, NULL, NULL},
    SECTION("auth.none"),
    SECTION("auth.htpasswd"),
    VALUE("auth.htpasswd.realm", TEXT, "clients.realm"),
    VALUE("auth.htpasswd.path", TEXT, "clients.htpasswd"),
    SECTION("auth.token"),
    VALUE("auth.token.realm", TEXT, "clients.token.realm"),
    VALUE("auth.token.service", TEXT, "clients.token.service"),
    VALUE("auth.token.issuer", TEXT, "clients.token.issuer"),
    VALUE("auth.token.jwks", TEXT, "clients.token.jwks"),
    VALUE("auth.token.rootcertbundle", TEXT, NULL),
    VALUE("auth.token.autoredirect", BOOLEAN, NULL),
    IGNORED("auth.token.autoredirectpath", "tarn names the realm only"),
    IGNORED("auth.token.signingalgorithms", "tarn accepts RS256 and ES256"),
    REFUSED("auth.silly", "it is for tests only, and without it everybody could read; use "
                          "auth.htpasswd"),

    IGNORED("middleware", "tarn has no modules that could be loaded"),
    IGNORED("reporting", NO_REPORTS),

    SECTION("http"),
    VALUE("http.addr", TEXT, "listen"),
    VALUE("http.net", TEXT, NULL),
    VALUE("http.prefix", TEXT, "path_prefix"),
    VALUE("http.host", TEXT, "server_names"),
    IGNORED("http.secret", "tarn gives clients no state to keep"),
    IGNORED("http.relativeurls", "all of tarn's links are relative"),
    VALUE("http.draintimeout", TIME, "grace"),
    SECTION("http.tls"),
    VALUE("http.tls.certificate", TEXT, "tls.certificate"),
    VALUE("http.tls.key", TEXT, "tls.key"),
    VALUE("http.tls.clientcas", TEXTS, "clients.ca"),
    VALUE("http.tls.clientauth", TEXT, NULL),
    VALUE("http.tls.minimumtls", TEXT, "tls.minimum"),
    IGNORED("http.tls.ciphersuites", "tarn offers OpenSSL's defaults"),
    SECTION("http.tls.letsencrypt"),
    REFUSED("http.tls.letsencrypt.cachefile",
            "tarn fetches no certificates; let another program fetch them, and set "
            "http.tls.certificate and http.tls.key"),
    IGNORED("http.tls.letsencrypt.email", "tarn fetches no certificates"),
    IGNORED("http.tls.letsencrypt.hosts", "tarn fetches no certificates"),
    IGNORED("http.tls.letsencrypt.directoryurl", "tarn fetches no certificates"),
    VALUE("http.headers", FIELDS, "headers"),
    SECTION("http.debug"),
    VALUE("http.debug.addr", TEXT, "metrics_listen"),
    SECTION("http.debug.prometheus"),
    VALUE("http.debug.prometheus.enabled", BOOLEAN, NULL),
    VALUE("http.debug.prometheus.path", TEXT, NULL),
    IGNORED("http.http2", "tarn speaks HTTP/1.1 to clients"),
    IGNORED("http.h2c", "tarn speaks HTTP/1.1 to clients"),

    IGNORED("notifications", "tarn sends no events"),
    IGNORED("redis", "tarn needs none"),
    IGNORED("health", "tarn checks its disk and its upstreams itself"),
    IGNORED("catalog", "tarn's catalog comes in pages as the client asks for them"),

    SECTION("proxy"),
    VALUE("proxy.remoteurl", TEXT, "upstreams[0].url"),
    VALUE("proxy.username", TEXT, NULL),
    VALUE("proxy.password", TEXT, NULL),
    SECTION("proxy.exec"),
    VALUE("proxy.exec.command", TEXT, "upstreams[0].credentials.helper"),
    IGNORED("proxy.exec.lifetime", "tarn runs the program again when it needs credentials, at most "
                                   "every ten seconds"),
    VALUE("proxy.ttl", TIME, "max_age"),
    VALUE("proxy.remotenamespace", TEXT, "upstreams[0].prefix"),

    IGNORED("compatibility", ONLY_PUSHED),
    IGNORED("validation", ONLY_PUSHED),
    IGNORED("policy", ONLY_PUSHED),
};
const size_t distribution_key_count = sizeof distribution_keys / sizeof *distribution_keys;
_Static_assert(sizeof distribution_keys / sizeof *distribution_keys <= DISTRIBUTION_KEY_LIMIT,
               "raise DISTRIBUTION_KEY_LIMIT");

size_t distribution_key_find(const char *name) {
    size_t at = 0;
    while (at < distribution_key_count && strcmp(distribution_keys[at].name, name) != 0)
        at++;
    return at;
}
