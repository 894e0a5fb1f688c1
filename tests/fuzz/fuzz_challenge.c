/* WWW-Authenticate, Content-Range, Link and Location: parsed values fit their limits, and URLs are
 * http(s) only. */
#include "client/challenge.h"
#include "client/content_range.h"
#include "client/redirect.h"
#include "fuzz.h"

static void check_challenge(struct text value) {
    struct challenge challenge = {0};
    challenge_read(value, &challenge);
    challenge_read(value, &challenge);
    MUST(strnlen(challenge.realm, sizeof challenge.realm) < sizeof challenge.realm);
    MUST(strnlen(challenge.service, sizeof challenge.service) < sizeof challenge.service);
    MUST(strnlen(challenge.scope, sizeof challenge.scope) < sizeof challenge.scope);
    MUST(challenge.scheme != CHALLENGE_BEARER || challenge.realm[0] != '\0');
}

static void check_range(struct text value) {
    struct content_range range;
    if (!content_range_parse(value, &range))
        return;
    MUST(range.satisfied || range.has_total);
    if (range.satisfied)
        MUST(range.first <= range.last && (!range.has_total || range.last < range.total));
}

static void check_redirect(struct text value) {
    static const char base[] = "https://registry.example/v2/a/blobs/b?c=d";
    struct origin origin;
    char next[256];
    char *reference = text_dup(value);
    char *url = reference ? redirect_resolve(base, reference, NULL) : NULL;
    if (url)
        MUST(origin_parse(url, &origin));
    free(url);
    free(reference);
    bool ok = redirect_next_page(base, value, next, sizeof next);
    MUST(next[0] == '\0' || (ok && next[0] == '/'));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct text value = {(const char *)bytes, length};
    check_challenge(value);
    check_range(value);
    check_redirect(value);
    return 0;
}
