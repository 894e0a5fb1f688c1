/* Compares a realm with the upstream that named it. */
#include "upstream/realm.h"

#include <libpsl.h>
#include <stdio.h>
#include <strings.h>
#include "base/text.h"
#include "client/address.h"

bool realm_host_is_google(const char *host) {
    struct text name = text_of(host);
    return text_is(name, "gcr.io") || text_ends(name, ".gcr.io") || text_ends(name, ".pkg.dev");
}

/* Both hosts are in lower case. A host that is itself a public suffix has no registered domain. */
static bool same_registered_domain(const char *a, const char *b) {
    const psl_ctx_t *list = psl_builtin();
    if (!list || address_is_literal(a) || address_is_literal(b))
        return false;
    const char *domain_a = psl_registrable_domain(list, a);
    const char *domain_b = psl_registrable_domain(list, b);
    return domain_a && domain_b && strcmp(domain_a, domain_b) == 0;
}

static bool is_listed(const struct realm_rule *rule, const struct origin *realm) {
    bool downgrade = rule->upstream.https && !realm->https;
    for (size_t i = 0; rule->token_hosts && rule->token_hosts[i]; i++) {
        const char *listed = rule->token_hosts[i];
        struct origin exact;
        char url[ORIGIN_HOST_SIZE + 16];
        if (strcasecmp(listed, realm->host) == 0 && !downgrade)
            return true;
        /* Ports are compared as numbers, because "host:443" is the same as "host" over https. */
        if (strlen(listed) >= ORIGIN_HOST_SIZE || !strchr(listed, ':'))
            continue;
        snprintf(url, sizeof url, "%s://%s", realm->https ? "https" : "http", listed);
        if (origin_parse(url, &exact) && origin_equal(&exact, realm) &&
            (listed[0] != '[' || strstr(listed, "]:") || !downgrade))
            return true;
    }
    return false;
}

enum realm_verdict realm_judge(const struct realm_rule *rule, const struct origin *realm) {
    if (origin_equal(&rule->upstream, realm))
        return REALM_OWN;
    if (rule->own_only)
        return REALM_REFUSED;
    if (is_listed(rule, realm))
        return REALM_LISTED;
    if (rule->upstream.https && !realm->https)
        return REALM_IN_CLEAR;
    return same_registered_domain(rule->upstream.host, realm->host) ? REALM_DOMAIN : REALM_REFUSED;
}
