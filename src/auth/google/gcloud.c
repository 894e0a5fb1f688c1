/* The gcloud program's own login: what `gcloud config config-helper` prints. */
#include "auth/google/gcloud.h"

#include <string.h>
#include "auth/google/token_response.h"
#include "auth/program.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/secret.h"

enum { TIMEOUT_MS = 30000, DEFAULT_LIFE_S = 60, LIFE_LIMIT_S = 43200 };

static bool read_output(const struct buffer *output, struct google_token *out,
                        struct error *error) {
    cleanup_secret_json json_t *json = bounded_json_load(output->bytes, output->length, NULL);
    const json_t *credential = json_object_get(json, "credential");
    const char *until = json_string_value(json_object_get(credential, "token_expiry"));
    const json_t *core = json_object_get(
        json_object_get(json_object_get(json, "configuration"), "properties"), "core");
    const char *account = json_string_value(json_object_get(core, "account"));
    int64_t ends_s, left_s = DEFAULT_LIFE_S;
    if (until && clock_parse_rfc3339(until, &ends_s))
        left_s = ends_s - clock_wall_s();
    if (left_s <= 0)
        return error_set(error, ERROR_INVALID, "it printed a token that has expired");
    if (left_s > LIFE_LIMIT_S)
        left_s = LIFE_LIMIT_S;
    if (account)
        text_copy(text_of(account), out->account, sizeof out->account);
    return google_token_set(out, json_string_value(json_object_get(credential, "access_token")),
                            clock_ms() + left_s * 1000, error);
}

bool gcloud_token(struct google_token *out, struct error *error) {
    static const char *const command[] = {"gcloud", "config", "config-helper", "--format=json",
                                          NULL};
    cleanup_program_result struct program_result result = {0};
    bool ok = program_run(command, "", TIMEOUT_MS, &result, error);
    if (ok && result.exit_status != 0)
        ok = error_set(error, ERROR_DENIED, "gcloud config config-helper: exit %d%s%s",
                       result.exit_status, result.complaint[0] ? ": " : "", result.complaint);
    if (ok && !read_output(&result.out, out, error))
        ok = error_wrap(error, "gcloud config config-helper");
    return ok;
}
