/* Compares a realm with the upstream that named it. */
#include "upstream/realm.h"

#include <libpsl.h>
#include <string.h>
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

enum realm_verdict realm_judge(const struct realm_rule *rule, const struct origin *realm) {
    if (origin_equal(&rule->upstream, realm))
        return REALM_OWN;
    if (rule->own_only)
        return REALM_REFUSED;
    const bool in_clear = rule->upstream.https && !realm->https;
    const enum origin_listing listing = origin_is_listed(realm, rule->token_hosts);
    if (listing == ORIGIN_LISTED_WITH_PORT || (listing == ORIGIN_LISTED && !in_clear))
        return REALM_LISTED;
    if (in_clear)
        return REALM_IN_CLEAR;
    return same_registered_domain(rule->upstream.host, realm->host) ? REALM_DOMAIN : REALM_REFUSED;
}
