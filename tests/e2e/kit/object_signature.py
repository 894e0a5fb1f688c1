"""
Checks what a request to an object store proves itself with: an AWS signature version 4, or a
Google access token. It refuses what S3 and Google Cloud Storage refuse, with their codes.
"""

import calendar
import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from typing import Optional
from urllib.parse import quote, unquote_to_bytes

SKEW = 15 * 60
UNSIGNED = "UNSIGNED-PAYLOAD"
SCOPES = {"https://www.googleapis.com/auth/devstorage.read_write",
          "https://www.googleapis.com/auth/devstorage.full_control",
          "https://www.googleapis.com/auth/cloud-platform"}
SCHEME = re.compile(r"AWS4-HMAC-SHA256 *Credential=([^,/\s]+)/(\d{8})/([^,/\s]+)/([^,/\s]+)/"
                    r"aws4_request, *SignedHeaders=([^,\s]+), *Signature=([0-9a-f]{64})")


class Refusal(Exception):
    """An error of the store: status, code, and more elements for the document."""

    def __init__(self, status, code, message, headers=None, **elements):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers, self.elements = headers or {}, elements


@dataclass
class Identity:
    """A key of the store."""

    secret: str
    session_token: Optional[str] = None
    expired: bool = False


def parse_query(query):
    """The pairs of a query string, decoded."""
    pairs = []
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        pairs.append((unquote_to_bytes(name).decode(), unquote_to_bytes(value).decode()))
    return pairs


def encode(text, safe=""):
    return quote(text, safe=safe + "-._~")


def canonical_request(request, signed, payload):
    """The canonical request, of a request whose path and query are decoded and encoded again."""
    query = sorted((encode(name), encode(value)) for name, value in parse_query(request.query))
    lines = [request.method, encode(unquote_to_bytes(request.raw_path), "/"),
             "&".join(f"{name}={value}" for name, value in query)]
    for name in signed:
        values = [" ".join(value.split()) for key, value in request.fields if key == name]
        lines.append(f"{name}:{','.join(values)}")
    return "\n".join([*lines, "", ";".join(signed), payload])


def signature(secret, moment, scope, canonical):
    """The hex signature; `scope` is DATE/REGION/SERVICE/aws4_request."""
    to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope,
                         hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


def check_signature(store, request, body):
    """Refuses a request that is not rightly signed with one of the store's keys."""
    authorization = request.headers.get("authorization")
    match = SCHEME.fullmatch(authorization)
    if not match:
        raise Refusal(400, "AuthorizationHeaderMalformed", "the authorization header is malformed")
    key_id, date, region, service, names, given = match.groups()
    request.identity, request.region = key_id, region
    identity = store.identities.get(key_id)
    if identity is None:
        raise Refusal(403, "InvalidAccessKeyId", "the key id does not exist", AWSAccessKeyId=key_id)
    check_token(store, request, identity)
    moment = check_moment(store, request, date)
    if service != "s3":
        raise Refusal(400, "AuthorizationHeaderMalformed", f"the service {service} is wrong")
    signed = names.split(";")
    check_signed(store, request, signed)
    payload = request.headers.get("x-amz-content-sha256")
    if payload is None:
        raise Refusal(400, "InvalidRequest", "x-amz-content-sha256 is missing")
    expected = signature(identity.secret, moment, f"{date}/{region}/{service}/aws4_request",
                         canonical_request(request, signed, payload))
    if not hmac.compare_digest(expected, given):
        raise Refusal(403, "SignatureDoesNotMatch",
                      "the signature does not match the one that was calculated",
                      AWSAccessKeyId=key_id)
    store.check_region(region)
    if payload == UNSIGNED:
        if not store.tls:
            raise store.mistake(403, "AccessDenied", "an unsigned payload needs https")
    elif payload != hashlib.sha256(body).hexdigest():
        raise Refusal(400, "XAmzContentSHA256Mismatch",
                      "the x-amz-content-sha256 does not match what was computed")


def check_token(store, request, identity):
    given = request.headers.get("x-amz-security-token")
    if identity.expired:
        raise Refusal(store.token_status, "ExpiredToken", "the provided token has expired")
    if given != identity.session_token:
        raise Refusal(store.token_status, "InvalidToken",
                      "the provided token is malformed or otherwise invalid")


def check_moment(store, request, date):
    moment = request.headers.get("x-amz-date", "")
    if not re.fullmatch(r"\d{8}T\d{6}Z", moment):
        raise Refusal(403, "AccessDenied", "a request needs x-amz-date")
    seconds = calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ"))
    if abs(seconds - store.now()) > SKEW:
        raise Refusal(403, "RequestTimeTooSkewed",
                      "the difference between the request time and the current time is too large",
                      RequestTime=moment, MaxAllowedSkewMilliseconds=SKEW * 1000)
    if moment[:8] != date:
        raise Refusal(400, "AuthorizationHeaderMalformed", f"invalid credential date {date}")
    return moment


def check_signed(store, request, signed):
    if signed != sorted(signed):
        raise store.mistake(400, "AuthorizationHeaderMalformed", "SignedHeaders are not in order")
    needed = {name for name in request.headers
              if name.startswith(("x-amz-", "x-goog-")) or name in ("host", "content-type")}
    needed.add("host")
    unsigned = sorted(needed - set(signed))
    if unsigned:
        raise store.mistake(403, "AccessDenied",
                            f"there were headers present which were not signed: {unsigned}")


def check_bearer(store, request):
    """Refuses a token that is unknown, expired, or not for storage."""
    token = request.headers["authorization"].partition(" ")[2]
    request.identity = token
    ends = store.bearer.get(token)
    if ends is None and store.google:
        _, ends, scopes = store.google.access.get(token, (None, None, ()))
        if ends is not None and not SCOPES & set(scopes):
            raise Refusal(403, "InsufficientScope", "the token has no scope for storage")
    if ends is None or ends <= store.now():
        raise Refusal(401, "AuthenticationRequired", "Authentication required.",
                      {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'})
