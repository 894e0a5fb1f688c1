"""Promise 6: 404 only when upstream says 404; cached content is served whatever upstream does."""

import json
import time

import pytest

from kit.client import at_once
from kit.content import KIB, MIB, digest_of, manifest, noise

LAYER = noise(300 * KIB)
DIGEST = digest_of(LAYER)

# Every way in which an upstream can fail without saying that something does not exist.
FAILURES = {
    "500": {"status": 500, "body": b"oops"},
    "503": {"status": 503, "body": b"<html>maintenance</html>"},
    "401": {"status": 401, "headers": {"WWW-Authenticate": 'Basic realm="x"'}},
    "403": {"status": 403, "body": b"{}"},
    "429": {"status": 429},
    "closed": {"drop": True},
    "reset": {"reset": True},
    "silent": {"black_hole": True},
}


@pytest.fixture
def image(upstream):
    return upstream.image("org/app", [LAYER], tag="1")


def is_an_error_of_upstream(reply):
    """An OCI error body that says which upstream and why; no 404, no 401."""
    assert reply.status in (403, 429, 502, 504), reply
    assert reply["Content-Type"].startswith("application/json")
    errors = json.loads(reply.body)["errors"]
    assert "fake.test" in errors[0]["message"], errors
    assert reply["WWW-Authenticate"] is None


@pytest.mark.parametrize("failure", FAILURES)
def test_no_failure_becomes_not_found(tarn, upstream, image, failure):
    upstream.fault("/v2/", method=None, **FAILURES[failure])
    paths = (f"/v2/org/app/blobs/{DIGEST}", "/v2/org/app/manifests/1",
             f"/v2/org/app/manifests/{image}", "/v2/org/app/tags/list")
    for reply in at_once(*[lambda path=path: tarn.get(path, timeout=26) for path in paths]):
        is_an_error_of_upstream(reply)


@pytest.mark.parametrize("failure", FAILURES)
def test_what_is_cached_is_served_whatever_upstream_does(tarn, upstream, image, failure):
    tarn.manifest("org/app", "1")
    tarn.blob("org/app", DIGEST)
    tarn.wait_cached("org/app", DIGEST)
    upstream.fault("/v2/", method=None, **FAILURES[failure])
    by_tag = tarn.manifest("org/app", "1")
    assert (by_tag.status, by_tag["Docker-Content-Digest"]) == (200, image)
    assert by_tag.seconds < 6.5
    assert "fwd=stale" in by_tag.cache_status or "stale" in by_tag.cache_status
    assert tarn.manifest("org/app", image).status == 200
    blob = tarn.blob("org/app", DIGEST)
    assert (blob.body, blob.seconds < 1) == (LAYER, True)


def test_it_starts_and_serves_with_every_upstream_dead(tarn, upstream, image):
    tarn.manifest("org/app", "1")
    tarn.blob("org/app", DIGEST)
    tarn.wait_cached("org/app", DIGEST)
    tarn.stop()
    upstream.refuse()
    started = time.monotonic()
    tarn.start()
    assert time.monotonic() - started < 5
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.manifest("org/app", image).status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER


def test_readiness_does_not_hang_on_an_upstream(tarn, upstream):
    upstream.refuse()
    assert tarn.get("/readyz").status == 200
    assert tarn.get("/livez").status == 200


def test_a_real_404_is_a_404(tarn, upstream, image):
    missing = digest_of(b"missing")
    for path, code in ((f"/v2/org/app/blobs/{missing}", "BLOB_UNKNOWN"),
                       (f"/v2/org/app/manifests/{missing}", "MANIFEST_UNKNOWN"),
                       ("/v2/org/app/manifests/nope", "MANIFEST_UNKNOWN"),
                       ("/v2/org/nope/manifests/1", "NAME_UNKNOWN"),
                       ("/v2/org/nope/tags/list", "NAME_UNKNOWN")):
        reply = tarn.get(path)
        assert (reply.status, reply.code) == (404, code), (path, reply)
        assert tarn.head(path).status == 404


def test_a_failure_is_not_remembered(tarn, upstream, image):
    upstream.fault("/v2/", method=None, status=503, times=12)
    assert tarn.manifest("org/app", "1").status == 502
    upstream.heal()
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER


def test_an_error_in_passing_is_retried(tarn, upstream, image):
    upstream.fault("/v2/", status=503, times=1)
    assert tarn.manifest("org/app", "1").status == 200
    upstream.fault("/blobs/", reset=True, times=1)
    assert tarn.blob("org/app", DIGEST).body == LAYER


def test_an_error_says_what_upstream_said(tarn, upstream, image):
    upstream.fault("/manifests/", status=403, body=json.dumps({"errors": [{
        "code": "DENIED", "message": "the licence has run out"}]}).encode())
    reply = tarn.manifest("org/app", "1")
    assert (reply.status, reply.code) == (403, "DENIED")
    assert "the licence has run out" in reply.message


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\x00", b"<html>" + b"x" * 100000,
                                  b'{"errors":"none"}', b'{"errors":[{"code":5}]}'])
def test_an_error_body_may_be_anything(tarn, upstream, image, body):
    upstream.fault("/manifests/", status=500, body=body)
    reply = tarn.manifest("org/app", "1")
    assert (reply.status, reply.code) == (502, "UNAVAILABLE")


def test_a_cold_blob_of_a_dead_upstream_fails_within_a_clients_patience(tarn, upstream):
    upstream.fault("/v2/", method=None, black_hole=True)
    reply = tarn.blob("org/app", DIGEST, timeout=28)
    assert (reply.status, reply.code) == (504, "UNAVAILABLE")
    assert reply.seconds < 25


def test_a_manifest_with_a_large_body_arrives_slowly_but_whole(tarn, upstream):
    content = manifest(b"{}", [], annotations={"note": "x" * MIB})
    upstream.repository("org/app").add_manifest(content, tag="big")
    upstream.fault("/manifests/", bytes_per_second=2 * MIB)
    assert tarn.manifest("org/app", "big").body == content
