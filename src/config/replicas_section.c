/* The section `replicas`: what the rows of the table cannot say, each for itself. */
#include "config/replicas_section.h"

#include <stdio.h>
#include <string.h>
#include "config/checks.h"
#include "config/files.h"
#include "config/words.h"
#include "replica/member.h"

#define SECTION "replicas"

/* ---- strings of the table ---- */

static bool refuse(const char *value, const char *rest, char *why, size_t size) {
    char quoted[QUOTE_SIZE];
    snprintf(why, size, "%s %s", config_quote(value, quoted), rest);
    return false;
}

bool config_check_member(const char *value, char *why, size_t size) {
    struct member member;
    return member_parse(text_of(value), 0, &member) ||
           refuse(value,
                  "is not the address of a replica; write ADDRESS:PORT, for example 10.0.0.1:5000 "
                  "or [fd00::1]:5000 (a name belongs under replicas.dns)",
                  why, size);
}

bool config_check_own_member(const char *value, char *why, size_t size) {
    struct member member;
    return member_parse(text_of(value), 1, &member) ||
           refuse(value,
                  "is not an address; write ADDRESS or ADDRESS:PORT, for example 10.0.0.1 or "
                  "[fd00::1]:5000",
                  why, size);
}

bool config_check_dns(const char *value, char *why, size_t size) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    const size_t length = strlen(value);
    const bool fine = length <= 254 && *value != '.' && *value != '-' &&
                      strspn(value, allowed) == length && !strstr(value, "..");
    return fine || refuse(value,
                          "is not a name in DNS; write for example tarn-replicas.tarn.svc, and the "
                          "port under replicas.port",
                          why, size);
}

/* ---- all of it ---- */

/* Where a setting was set; source NULL: nowhere. */
static const struct yaml_place *place_of(const struct config_reader *reader, const char *key) {
    return &reader->loaded->set_at[config_option_index(key)];
}

/* Where what is missing would stand: the section of the file, else the first setting that was
 * given. NULL: nothing of replicas is set. */
static const struct yaml_place *find_place(const struct config_reader *reader,
                                           const struct yaml_node *node) {
    const struct yaml_place *given = reader->loaded->set_at;
    if (node)
        return &node->place;
    for (size_t i = 0; i < config_option_count; i++) {
        if (config_options[i].group == CONFIG_REPLICAS && given[i].source)
            return &given[i];
    }
    return NULL;
}

static void check_source(struct config_reader *reader, const struct yaml_place *place) {
    const struct yaml_place *dns = place_of(reader, SECTION ".dns"),
                            *peers = place_of(reader, SECTION ".peers");
    if (dns->source && peers->source)
        config_problem_add(&reader->problems, *place, SECTION,
                           "dns and peers are both set; write one of them");
    else if (!dns->source && !peers->source)
        config_problem_add(&reader->problems, *place, SECTION,
                           "neither dns nor peers is set; write for example dns: "
                           "tarn-replicas.tarn.svc, or peers: [\"10.0.0.1:5000\", "
                           "\"10.0.0.2:5000\"]");
}

static void check_secrets(struct config_reader *reader, const struct yaml_place *place) {
    const char *file = reader->loaded->config.replicas.secret_file;
    const struct yaml_place *given = place_of(reader, SECTION ".secret_file");
    struct error error = {0};
    bool is_open = false;
    if (!given->source) {
        config_problem_add(&reader->problems, *place, SECTION ".secret_file",
                           "no file of secrets is named; name one that all replicas have, with a "
                           "secret of at least 32 bytes in each line (write one with: openssl "
                           "rand -hex 32)");
        return;
    }
    if (!file) /* its row has said why */
        return;
    struct secrets *secrets = replicas_read_secrets(config_files(), file, &is_open, &error);
    if (!secrets)
        config_problem_add(&reader->problems, *given, SECTION ".secret_file", "%s: %s", file,
                           error.text);
    else if (is_open)
        config_warn(reader, REPLICAS_OPEN_SECRETS, file);
    secrets_free(secrets);
}

/* Members are reached at the port of the first address that names one. */
static unsigned first_port(const char *const *listen) {
    unsigned port = 0;
    for (size_t i = 0; listen && listen[i] && !port; i++)
        port = replicas_listen_port(listen[i]);
    return port;
}

static void check_port(struct config_reader *reader, const struct yaml_place *place) {
    struct replicas_settings *replicas = &reader->loaded->config.replicas;
    if (!replicas->port)
        replicas->port = first_port(reader->loaded->config.listen);
    if (!replicas->port && replicas->dns)
        config_problem_add(&reader->problems, *place, SECTION ".port",
                           "no address of listen names a port; write the one that the replicas are "
                           "reached at under replicas.port");
}

static void check_tls(struct config_reader *reader) {
    const struct config *config = &reader->loaded->config;
    const bool has_tls = replicas_settings_have_tls(&config->replicas);
    if (config->tls_certificate && !has_tls)
        config_warn(reader, "replicas would ask each other without TLS, which this tarn does not "
                            "answer: tls.certificate is set, and replicas.tls is not; set "
                            "replicas.tls.ca");
    else if (!config->tls_certificate && has_tls)
        config_warn(reader, "replicas.tls is set, but tarn itself serves without TLS: "
                            "tls.certificate is not set");
}

static void count_peers(struct config_reader *reader) {
    const char *const *peers = reader->loaded->config.replicas.peers;
    size_t count = 0;
    while (peers && peers[count])
        count++;
    if (count > MEMBERS_LIMIT)
        config_warn(reader,
                    "replicas.peers has %zu members; those beyond %d, in the order of their "
                    "addresses, are left out",
                    count, MEMBERS_LIMIT);
}

void config_read_replicas(struct config_reader *reader, const struct yaml_node *node) {
    struct config *config = &reader->loaded->config;
    const struct yaml_place *place =
        find_place(reader, node && node->kind == YAML_MAP ? node : NULL);
    if (!place)
        return;
    config->replicas.listen = config->listen;
    check_source(reader, place);
    check_secrets(reader, place);
    check_port(reader, place);
    check_tls(reader);
    count_peers(reader);
}
