/* What a replica is sent: a signature by somebody without the secret is never good, and a member's
 * address has one form only. */
#include "fuzz.h"
#include "replica/ask.h"
#include "replica/member.h"
#include "replica/signature.h"

#define SECRET "0123456789abcdef0123456789abcdef"

static void check_member(struct text text) {
    struct member member, again;
    if (!member_parse(text, 5000, &member))
        return;
    MUST(strnlen(member.text, sizeof member.text) < sizeof member.text);
    MUST(member_parse(text_of(member.text), 0, &again));
    MUST(member_equal(&member, &again));
}

/* `fields` is a Signature-Input, a line end, and a Signature. */
static void check_signature(struct text fields) {
    static const struct signed_request request = {
        .method = {"GET", 3}, .path = {"/v2/", 4}, .ask = {"fetch", 5}};
    char input[SIGNATURE_INPUT_SIZE], signature[SIGNATURE_SIZE];
    struct error error;
    struct text rest;
    struct text first = text_cut(fields, '\n', &rest);
    struct secrets *secrets = secrets_parse(text_of(SECRET), &error);
    if (!secrets)
        return;
    /* A seed holds the right one. */
    bool is_right = signature_make(secrets, &request, 1700000000, input, signature) &&
                    text_is(first, input) && text_is(rest, signature);
    MUST(signature_is_good(secrets, &request, first, rest, 1700000000) == is_right);
    secrets_free(secrets);
}

static void check_secrets(struct text text) {
    struct error error = {0};
    struct secrets *secrets = secrets_parse(text, &error);
    MUST(secrets || error.kind != ERROR_NONE);
    secrets_free(secrets);
}

/* A word is read letter for letter, so that it is written as it was read. */
static void check_words(struct text text) {
    enum replica_ask ask;
    enum replica_answer answer;
    if (replica_ask_parse(text, &ask))
        MUST(text_is(text, replica_ask_text(ask)));
    if (replica_answer_parse(text, &answer))
        MUST(text_is(text, replica_answer_text(answer)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct text text = {(const char *)bytes, length};
    check_member(text);
    check_signature(text);
    check_secrets(text);
    check_words(text);
    return 0;
}
