#!/usr/bin/env bash
# What the action runs: writes a credential file that holds no secret but names where the job's token
# is asked for, builds, and hands on the digest. STS_URL and IAM_URL are for tests.
set -euo pipefail

if [ -z "${ACTIONS_ID_TOKEN_REQUEST_URL-}" ]; then
    echo "::error::the job has no token: give it the permission id-token: write" >&2
    exit 1
fi

credentials=$(mktemp)
trap 'rm -f "$credentials"' EXIT
/usr/bin/env python3 - "$credentials" <<'PYTHON'
import json, os, sys
from urllib.parse import quote

audience = "//iam.googleapis.com/" + os.environ["PROVIDER"]
iam = os.environ.get("IAM_URL", "https://iamcredentials.googleapis.com")
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump({
        "type": "external_account",
        "audience": audience,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": os.environ.get("STS_URL", "https://sts.googleapis.com/v1/token"),
        "service_account_impersonation_url":
            f"{iam}/v1/projects/-/serviceAccounts/{os.environ['SERVICE_ACCOUNT']}:generateAccessToken",
        "credential_source": {
            "url": os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=" + quote(audience, safe=""),
            "headers": {"Authorization": "bearer " + os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]},
            "format": {"type": "json", "subject_token_field_name": "value"},
        },
    }, file)
PYTHON
export GOOGLE_APPLICATION_CREDENTIALS=$credentials

mapfile -t more <<<"${ARGUMENTS-}"
arguments=()
for argument in "${more[@]}"; do
    [ -z "$argument" ] || arguments+=("$argument")
done

result=$(mktemp)
trap 'rm -f "$credentials" "$result"' EXIT
status=0
"${TARN:-tarn}" build "${FOLDER:-.}" --to "$IMAGE" --cancel-on-interrupt "${arguments[@]}" |
    tee "$result" || status=$?
digest=$(tail -n 1 "$result" | /usr/bin/env python3 -c \
    'import json, sys; print(json.loads(sys.stdin.read() or "{}").get("digest", ""))')
[ -z "$digest" ] || echo "digest=$digest" >>"$GITHUB_OUTPUT"
exit "$status"
