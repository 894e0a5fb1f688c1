/* Loading: from the file, the environment and the flags to one checked struct config. */
#include "config/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/secret.h"
#include "config/bucket_section.h"
#include "config/credentials.h"
#include "config/defaults.h"
#include "config/distribution.h"
#include "config/files.h"
#include "config/inputs.h"
#include "config/keep_section.h"
#include "config/map.h"
#include "config/replicas_section.h"
#include "config/rule_list.h"
#include "config/upstream_list.h"
#include "config/value.h"
#include "config/warm_list.h"

/* ---- settings that depend on others ---- */

static void set_default_root(struct config_reader *reader, char *const *environment) {
    struct config *config = &reader->loaded->config;
    if (config->root)
        return;
    if (geteuid() == 0) {
        config->root = "/var/lib/tarn";
        return;
    }
    const char *base = config_variable(environment, "XDG_CACHE_HOME"), *rest = "/tarn";
    if (!base || *base != '/') { /* XDG Base Directory Specification: a relative path is ignored */
        base = config_variable(environment, "HOME");
        rest = "/.cache/tarn";
    }
    if (!base) {
        config_problem_add(&reader->problems, (struct yaml_place){"--root", 0, 0}, "",
                           "no folder for the cache is known, because HOME is not set; set root");
        return;
    }
    cleanup_buffer struct buffer path = {0};
    if (buffer_printf(&path, "%s%s", base, rest))
        config->root = config_keep_text(reader, text_of(path.bytes));
    else
        reader->no_memory = true;
}

/* A token can be checked only by all that is known of its service. */
static void check_token(struct config_reader *reader) {
    static const struct {
        const char *key, *example;
    } parts[] = {{"clients.token.realm", "https://auth.example/token"},
                 {"clients.token.service", "tarn.example"},
                 {"clients.token.issuer", "auth.example"},
                 {"clients.token.jwks", "/etc/tarn/jwks.json"}};
    enum { PARTS = sizeof parts / sizeof *parts };
    const struct yaml_place *given[PARTS], *first = NULL;
    const char *first_key = NULL;
    for (size_t i = 0; i < PARTS; i++) {
        given[i] = &reader->loaded->set_at[config_option_index(parts[i].key)];
        if (given[i]->source && !first) {
            first = given[i];
            first_key = parts[i].key;
        }
    }
    for (size_t i = 0; i < PARTS && first; i++) {
        if (!given[i]->source)
            config_problem_add(&reader->problems, *first, first_key,
                               "%s is missing; write for example %s: %s", parts[i].key,
                               strrchr(parts[i].key, '.') + 1, parts[i].example);
    }
}

/* Whether a server can use the pair of files. It may be broken although each can be read. */
static void check_certificate(struct config_reader *reader) {
    const struct config *config = &reader->loaded->config;
    enum http_pair_fault fault;
    struct error error = {0};
    if (!config->tls_certificate || !config->tls_key ||
        http_check_certificate(config_files(), config->tls_certificate, config->tls_key, &fault,
                               &error))
        return;
    const char *key = fault == HTTP_PAIR_KEY ? "tls.key" : "tls.certificate";
    const char *right = fault == HTTP_PAIR_KEY
                            ? "write the PEM file of the key that the certificate was made for, "
                              "without a passphrase"
                            : "write a PEM file with the server's certificate, and those of its "
                              "authorities behind it";
    config_problem_add(&reader->problems, reader->loaded->set_at[config_option_index(key)], key,
                       "%s; %s", error.text, right);
}

/* Adds what is wrong inside the file of a setting. `right`: what the error does not say. */
static void refuse_file(struct config_reader *reader, const char *key, const struct error *error,
                        const char *right) {
    config_problem_add(&reader->problems, reader->loaded->set_at[config_option_index(key)], key,
                       "%s%s", error->text, right);
}

/* Whether clients can log in by the files. Each may be wrong although it can be read. */
static void check_logins(struct config_reader *reader) {
    const struct config *config = &reader->loaded->config;
    struct error error = {0};
    struct htpasswd htpasswd = {0};
    struct jwks jwks = {0};
    if (config->clients_htpasswd &&
        !config_read_htpasswd(config->clients_htpasswd, &htpasswd, &error))
        refuse_file(reader, "clients.htpasswd", &error, "");
    if (config->clients_token.jwks && !config_read_jwks(config->clients_token.jwks, &jwks, &error))
        refuse_file(reader, "clients.token.jwks", &error, "");
    if (config->clients_ca && !http_check_authorities(config_files(), config->clients_ca, &error))
        refuse_file(reader, "clients.ca", &error,
                    "; write a PEM file with the certificates of the authorities");
    htpasswd_finish(&htpasswd);
    jwks_finish(&jwks);
}

/* Whoever asks for TLS 1.3 would otherwise get plain HTTP. */
static void check_minimum(struct config_reader *reader) {
    const struct config_loaded *loaded = reader->loaded;
    if (loaded->config.tls_minimum != HTTP_TLS_1_2 &&
        !loaded->set_at[config_option_index("tls.certificate")].source)
        config_problem_add(
            &reader->problems, loaded->set_at[config_option_index("tls.minimum")], "tls.minimum",
            "there is no TLS without a certificate; set tls.certificate and tls.key");
}

static void check_together(struct config_reader *reader) {
    struct config *config = &reader->loaded->config;
    size_t certificate = config_option_index("tls.certificate"),
           key = config_option_index("tls.key");
    if (config->tls_certificate && !config->tls_key && !reader->loaded->set_at[key].source)
        config_problem_add(&reader->problems, reader->loaded->set_at[certificate],
                           "tls.certificate", "tls.key is missing; a certificate needs its key");
    if (config->tls_key && !config->tls_certificate && !reader->loaded->set_at[certificate].source)
        config_problem_add(&reader->problems, reader->loaded->set_at[key], "tls.key",
                           "tls.certificate is missing; a key needs its certificate");
    if (config->clients_ca && !reader->loaded->set_at[certificate].source)
        config_problem_add(&reader->problems,
                           reader->loaded->set_at[config_option_index("clients.ca")], "clients.ca",
                           "clients send certificates only with TLS; set tls.certificate and "
                           "tls.key");
    check_minimum(reader);
    check_token(reader);
    check_certificate(reader);
    check_logins(reader);
    while (config->listen && config->listen[config->listen_count])
        config->listen_count++;
    while (config->metrics_listen && config->metrics_listen[config->metrics_listen_count])
        config->metrics_listen_count++;
}

/* ---- loading ---- */

void config_log_warnings(const struct config *config) {
    for (size_t i = 0; config->warnings && config->warnings[i]; i++)
        log_event(LOG_WARN, config->warnings[i], NULL, 0);
}

void config_free(struct config *config) {
    if (config)
        config_loaded_free((struct config_loaded *)config);
}

struct config *config_parse(struct text bytes, const char *name, const struct config_flags *flags,
                            char *const *environment, struct buffer *problems) {
    cleanup_free struct config_reader *reader =
        calloc(1, sizeof *reader); /* too large for a stack */
    struct config_loaded *loaded = calloc(1, sizeof *loaded);
    if (!reader || !loaded) {
        free(loaded);
        buffer_printf(problems, "%s: out of memory\n", name ? name : "tarn");
        return NULL;
    }
    reader->loaded = loaded;
    loaded->table = &config_tarn_document;
    config_set_defaults(loaded);
    loaded->config.defaults = &loaded->defaults;

    cleanup_yaml_node struct yaml_node *root = NULL;
    const struct yaml_node *upstreams = NULL, *warm = NULL, *rules = NULL, *keep = NULL,
                           *bucket = NULL, *replicas = NULL;
    bool readable = true;
    if (name) {
        loaded->config.file = name = config_keep_text(reader, text_of(name));
        readable = name && config_yaml_read(bytes, name, &reader->problems, &root);
        if (root && root->kind == YAML_SCALAR && !*root->text) { /* the file has only `---` */
            yaml_node_free(root);
            root = NULL;
        }
    }
    if (root && distribution_is(root)) {
        struct yaml_node *own = distribution_translate(reader, root, environment);
        yaml_node_free(root);
        root = own;
    }
    if (root) {
        config_read_file(reader, root);
        upstreams = root->kind == YAML_MAP ? yaml_node_get(root, "upstreams") : NULL;
        warm = root->kind == YAML_MAP ? yaml_node_get(root, "warm") : NULL;
        keep = root->kind == YAML_MAP ? yaml_node_get(root, "keep") : NULL;
        bucket = root->kind == YAML_MAP ? yaml_node_get(root, "bucket") : NULL;
        replicas = root->kind == YAML_MAP ? yaml_node_get(root, "replicas") : NULL;
        rules = config_find_rules(root);
    }
    config_read_environment(reader, environment);
    config_read_flags(reader, flags);
    config_read_fallbacks(reader, environment);
    if (readable) {
        set_default_root(reader, environment);
        config_read_upstreams(reader, upstreams);
        if (warm)
            config_read_warm(reader, warm);
        if (keep)
            config_read_keep(reader, keep);
        if (rules)
            config_read_rules(reader, rules);
        config_read_bucket(reader, bucket);
        config_read_replicas(reader, replicas);
        check_together(reader);
        config_warn_of_variables(reader, environment);
    }

    if (reader->no_memory)
        buffer_printf(problems, "%s: out of memory\n", name ? name : "tarn");
    config_problems_write(&reader->problems, problems);
    if (readable && !reader->no_memory && reader->problems.count == 0)
        return &loaded->config;
    config_free(&loaded->config);
    return NULL;
}

/* A pipe, which a shell makes for `--config <(COMMAND)`, may take as long as it likes. */
static char *read_configuration(const char *file, size_t *length, struct error *error) {
    struct stat status;
    if (!config_look(file, &status, error) && error->kind == ERROR_TIMEOUT)
        return NULL;
    return S_ISREG(status.st_mode)
               ? config_read(file, YAML_SIZE_LIMIT, length, error)
               : file_read_small(file, YAML_SIZE_LIMIT, FILE_ANY, length, NULL, error);
}

/* What differs between the files. */
struct kind {
    const struct config_document *table;
    const char *file; /* the default one */
    struct config *(*parse)(struct text bytes, const char *name, const struct config_flags *flags,
                            char *const *environment, struct buffer *problems);
};

static struct config *load(const struct kind *kind, const struct config_flags *flags,
                           char *const *environment, struct buffer *problems) {
    const char *file = flags ? flags->file : NULL;
    bool is_given_by_variable = !file && (file = config_variable(environment, kind->table->file));
    struct stat status;
    if (!file && (stat(kind->file, &status) == 0 || errno != ENOENT))
        file = kind->file;

    struct text text = {0};
    struct error error = {0};
    cleanup_secret char *bytes = /* it may hold a password: config/distribution.h */
        file ? read_configuration(file, &text.length, &error) : NULL;
    if (file && !bytes) {
        buffer_printf(problems, "%s%s%s: %s\n", is_given_by_variable ? kind->table->file : "",
                      is_given_by_variable ? ": " : "", file, error.text);
        return NULL;
    }
    text.at = bytes;
    return kind->parse(text, file, flags, environment, problems);
}

struct config *config_load(const struct config_flags *flags, char *const *environment,
                           struct buffer *problems) {
    const struct kind kind = {&config_tarn_document, CONFIG_DEFAULT_FILE, config_parse};
    return load(&kind, flags, environment, problems);
}

struct config *config_node_load(const struct config_flags *flags, char *const *environment,
                                struct buffer *problems) {
    const struct kind kind = {&config_node_document, CONFIG_NODE_FILE, config_node_parse};
    return load(&kind, flags, environment, problems);
}

bool config_max_size(const struct config *config, uint64_t *bytes, struct error *error) {
    if (config->max_size) {
        *bytes = config->max_size;
        return true;
    }
    cleanup_free char *folder = strdup(config->root);
    if (!folder)
        return error_set(error, ERROR_MEMORY, "out of memory");
    struct statvfs space;
    struct error why = {0};
    const char *measured = folder;
    while (!config_measure(measured, &space, &why)) {
        char *slash = strrchr(folder, '/');
        if (why.kind != ERROR_NOT_FOUND || (!slash && measured != folder))
            return error_set(error, why.kind, "size of the file system of %s: %s", measured,
                             why.text);
        if (slash) /* if the root does not exist yet, ask for its parent; that of "/x" is "/" */
            slash[slash == folder] = '\0';
        else
            measured = ".";
    }
    *bytes =
        (uint64_t)space.f_blocks / 10 * 8 * space.f_frsize; /* dividing first avoids an overflow */
    return true;
}
