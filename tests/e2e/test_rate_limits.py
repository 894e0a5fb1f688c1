"""A 429 is for the request that was refused, and tarn's own connections are not what trips a limit."""

import time

import pytest

from kit.client import at_once
from kit.content import KIB, MIB, digest_of, noise
from kit.tokens import TokenService

TIMEOUTS = {}  # bytes are counted
BLOB = noise(24 * MIB)
SIZE = len(BLOB)
DIGEST = digest_of(BLOB)
LAYER = noise(100 * KIB)
LIMITED = "/v2/a/app/manifests/1"


@pytest.fixture
def images(upstream):
    for name in ("a/app", "b/app"):
        upstream.image(name, [LAYER], tag="1")
        upstream.image(name, [LAYER], tag="2", config=b'{"2": 2}')
    return upstream


@pytest.mark.parametrize("after", ["20", "3600", "86400", None, "soon"])
def test_only_the_request_that_was_refused_is_not_asked_again(tarn, images, after):
    upstream = images
    upstream.fault(LIMITED, status=429, headers={"Retry-After": after} if after else {})
    first = tarn.get(LIMITED)
    assert (first.status, first.code) == (429, "TOOMANYREQUESTS")
    assert 1 <= int(first["Retry-After"]) <= 60
    layer = digest_of(LAYER)
    for path in ("/v2/b/app/manifests/1", "/v2/a/app/manifests/2", f"/v2/a/app/blobs/{layer}",
                 "/v2/a/app/tags/list"):
        assert tarn.get(path).status == 200, path
    assert tarn.head(LIMITED).status == 200
    assert tarn.head("/v2/b/app/manifests/2").status == 200
    if after == "20":
        assert tarn.get(LIMITED).status == 429
        assert len(upstream.asked(LIMITED, "GET")) == 1


@pytest.mark.parametrize("after", ["86400", None, "0", "-5"])
def test_an_absurd_time_is_found_out_by_probes(tarn, images, after):
    upstream = images
    upstream.fault(LIMITED, status=429, headers={"Retry-After": after} if after else {})
    waits = []
    for _ in range(3):
        reply = tarn.get(LIMITED)
        assert reply.status == 429
        waits.append(int(reply["Retry-After"]))
        again = tarn.get(LIMITED)
        assert again.status == 429
        assert int(again["Retry-After"]) <= waits[-1]
        time.sleep(waits[-1] + 0.1)
    assert waits == [1, 2, 4]
    upstream.heal()
    assert tarn.get(LIMITED).status == 200


def test_a_tag_that_is_held_is_served(tarn, images):
    upstream = images
    assert tarn.get(LIMITED).status == 200
    upstream.fault(LIMITED, method=None, status=429, headers={"Retry-After": "20"})
    reply = tarn.get(LIMITED)
    assert (reply.status, "stale" in reply.cache_status) == (200, True)


def test_a_token_services_429_is_for_the_scope(tarn, images):
    upstream = images
    upstream.tokens = TokenService()
    upstream.fault("/token.*a/app", status=429, headers={"Retry-After": "20"})
    for _ in range(2):
        reply = tarn.get(LIMITED)
        assert (reply.status, reply.code) == (429, "TOOMANYREQUESTS")
        assert 1 <= int(reply["Retry-After"]) <= 20
        assert tarn.get("/v2/b/app/manifests/1").status == 200
    assert len(upstream.asked("/token.*a/app")) == 1


def test_a_503_with_retry_after_is_not_repeated_either(tarn, images):
    upstream = images
    upstream.fault(LIMITED, status=503, headers={"Retry-After": "40"})
    for _ in range(3):
        reply = tarn.get(LIMITED)
        assert (reply.status, reply.code) == (502, "UNAVAILABLE")
        assert 1 <= int(reply["Retry-After"]) <= 40
    assert len(upstream.asked(LIMITED)) == 1
    assert tarn.get("/v2/b/app/manifests/1").status == 200


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "3600"}])
def test_a_limit_of_connections_costs_neither_the_blob_nor_a_byte(tarn, upstream, status, headers):
    """An upstream that refuses a second request for a blob while one is in progress."""
    upstream.repository("org/app").add_blob(BLOB)
    upstream.fault("/blobs/", status=status, headers=headers,
                   when=lambda _: sum(not request.ended for request in upstream.asked("/blobs/")) > 1)
    upstream.fault("/blobs/", bytes_per_second=20 * MIB)
    reply = tarn.blob("org/app", DIGEST)
    assert (reply.status, reply.complete) == (200, True)
    assert reply.body == BLOB
    assert upstream.blob_bytes() == SIZE
    refused = sum(request.status == status for request in upstream.asked("/blobs/"))
    assert 0 < refused <= 8
    # The next blob of this upstream begins with fewer connections.
    other = noise(12 * MIB, seed=2)
    upstream.repository("org/app").add_blob(other)
    upstream.forget_requests()
    assert tarn.blob("org/app", digest_of(other)).body == other
    assert upstream.blob_bytes() == len(other)
    assert sum(request.status == status for request in upstream.asked("/blobs/")) <= 1


def test_many_who_ask_for_the_same_cost_one_request(tarn, images):
    upstream = images
    upstream.fault(LIMITED, status=429, headers={"Retry-After": "20"})
    for reply in at_once(*[lambda: tarn.get(LIMITED)] * 20):
        assert reply.status == 429
    assert len(upstream.asked(LIMITED)) == 1
