/* Gets the credential for one request. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/secret.h"
#include "bucket/bucket_private.h"

/* A host of Google's storage: what a token is asked for. */
#define GOOGLE_STORAGE "storage.googleapis.com"

void bucket_proof_wipe(struct bucket_proof *proof) {
    aws_credentials_wipe(&proof->keys);
    secret_free(&proof->bearer);
}

static bool get_token(struct bucket_ask *ask, struct bucket_proof *out) {
    cleanup_credential struct credential credential = {0};
    struct error failure = {0};
    if (!credential_source_get(ask->bucket->google, GOOGLE_STORAGE, ask->renewed, ask->deadline_ms,
                               &credential, &failure)) {
        *ask->error = failure;
        return false;
    }
    if (credential.kind == CREDENTIAL_ANONYMOUS || !credential.secret)
        return error_set(ask->error, ERROR_DENIED, "no Google credentials were found");
    size_t size = sizeof "Authorization: Bearer " + strlen(credential.secret);
    out->bearer = malloc(size);
    if (!out->bearer)
        return error_set(ask->error, ERROR_MEMORY, "out of memory");
    snprintf(out->bearer, size, "Authorization: Bearer %s", credential.secret);
    if (strpbrk(out->bearer, "\r\n"))
        return error_set(ask->error, ERROR_DENIED, "the Google token is none");
    return true;
}

bool bucket_proof_get(struct bucket_ask *ask, struct bucket_proof *out) {
    struct bucket *bucket = ask->bucket;
    bool ok = true;
    *out = (struct bucket_proof){.bearer = NULL};
    if (bucket->google)
        ok = get_token(ask, out);
    else if (bucket_settings_credentials(&bucket->settings) != BUCKET_CREDENTIALS_ANONYMOUS)
        ok = aws_source_get(bucket->aws, ask->deadline_ms, ask->cancel, &out->keys, ask->error);
    ask->keys_number = out->keys.number;
    if (!ok) {
        bool ours = ask->error->kind == ERROR_CLOSED || ask->error->kind == ERROR_MEMORY;
        ask->outcome = ours ? BUCKET_STOPPED : BUCKET_UNSIGNED;
    }
    return ok;
}
