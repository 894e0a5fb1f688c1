"""One rule of trying again: no new byte means a longer wait each time, and then the end."""

import time

import pytest

from kit.client import Download
from kit.content import KIB, MIB, digest_of, noise
from kit.processes import wait_until
from kit.tokens import TokenService

BLOB = noise(24 * MIB)
SIZE = len(BLOB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"


def is_the_blob(reply):
    assert (reply.status, reply.complete) == (200, True), reply
    assert reply.body == BLOB


# ---- no busy loop

USELESS = {
    "416": {"status": 416},
    "416 with the size": {"status": 416, "headers": {"Content-Range": f"bytes */{SIZE}"}},
    "416 with a small size": {"status": 416, "headers": {"Content-Range": "bytes */1"}},
    "200 without a byte": {"content": b"", "chunked": True, "ignore_range": True},
    "206 of nothing": {"status": 206, "headers": {"Content-Range": f"bytes 0-0/{SIZE}"}},
    "503": {"status": 503},
    "closed": {"drop": True},
}


@pytest.mark.parametrize("useless", USELESS)
def test_responses_without_a_byte_are_not_asked_for_in_a_loop(tarn, upstream, repository, useless):
    upstream.fault("/blobs/", **USELESS[useless])
    reply = tarn.get(PATH, timeout=20)
    assert (reply.status, reply.code) == (502, "UNAVAILABLE"), reply
    asked = len(upstream.asked("/blobs/"))
    assert asked <= 12, asked
    time.sleep(1)
    assert len(upstream.asked("/blobs/")) == asked


@pytest.mark.parametrize("useless", [name for name in USELESS if name != "416 with a small size"])
def test_no_loop_in_mid_blob_either(start_tarn, upstream, repository, useless):
    # With several connections, a useless 200 may be the first response.
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "connections": 1}])
    upstream.fault("/blobs/", cut_after=MIB, times=1)
    upstream.fault("/blobs/", **USELESS[useless])
    with Download(tarn.url + PATH) as download:
        wait_until(lambda: len(upstream.asked("/blobs/")) > 2, "tarn to ask again")
        time.sleep(2)
        assert len(upstream.asked("/blobs/")) <= 40
        upstream.heal()
        assert download.read(MIB) == BLOB[:MIB]
    is_the_blob(tarn.get(PATH))


# ---- a deadline for the whole of a small body

DRIP = {"piece": 1, "bytes_per_second": 2}
SMALL = {"manifest": "/v2/org/app/manifests/1", "tags": "/v2/org/app/tags/list",
         "referrers": f"/v2/org/app/referrers/{DIGEST}"}


@pytest.mark.parametrize("what", SMALL)
def test_a_small_body_that_drips_is_a_timeout(tarn, upstream, what):
    upstream.image("org/app", [b"layer"], tag="1")
    upstream.fault("/v2/org/app/(manifests|tags|referrers)/", **DRIP)
    reply = tarn.get(SMALL[what], timeout=20)
    assert (reply.status, reply.code) == (504, "UNAVAILABLE"), reply
    assert reply.seconds < 10
    tarn.stop()


def test_a_token_that_drips_is_a_timeout(tarn, upstream):
    upstream.image("org/app", [b"layer"], tag="1")
    upstream.tokens = TokenService()
    upstream.fault("/token", **DRIP)
    reply = tarn.manifest("org/app", "1", timeout=20)
    assert (reply.status, reply.code) == (504, "UNAVAILABLE"), reply
    assert reply.seconds < 10


# ---- the deadline of a reader

@pytest.mark.slow
def test_a_readers_deadline_holds_while_the_flight_progresses_elsewhere(start_tarn, upstream,
                                                                        repository):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "stall_timeout": "60s"}])
    last = SIZE - 1
    upstream.fault("/blobs/", black_hole=True,
                   when=lambda request: request.range and request.range[1] == last)
    upstream.fault("/blobs/", bytes_per_second=400 * KIB)
    with Download(tarn.url + PATH, timeout=60) as whole:
        assert whole.read(64 * KIB) == BLOB[:64 * KIB]
        reply = tarn.get(PATH, {"Range": f"bytes={last - 9}-{last}"}, timeout=40)
        assert (reply.status, reply.code) == (504, "UNAVAILABLE"), reply
        assert 20 < reply.seconds < 28


# ---- Retry-After in mid-blob

@pytest.mark.parametrize("status", [503, 429])
def test_a_wait_beyond_all_patience_is_a_failure_now(tarn, upstream, repository, status):
    upstream.fault("/blobs/", cut_after=MIB, times=1)
    upstream.fault("/blobs/", status=status, headers={"Retry-After": "3600"})
    started = time.monotonic()
    reply = tarn.get(PATH, timeout=20)
    assert not (reply.status == 200 and reply.complete)
    assert time.monotonic() - started < 15
    upstream.heal()
    if status == 503:
        is_the_blob(tarn.get(PATH))
        assert upstream.blob_bytes() <= SIZE * 1.05  # what had arrived was kept


def test_a_client_that_comes_ends_a_long_wait(tarn, upstream, repository):
    upstream.fault("/blobs/", cut_after=MIB, times=1)
    upstream.fault("/blobs/", status=503, headers={"Retry-After": "60"})
    with Download(tarn.url + PATH) as download:
        wait_until(lambda: len(upstream.asked("/blobs/")) > 1, "tarn to ask again")
        upstream.heal()
        reply = tarn.get(PATH, timeout=20)
        is_the_blob(reply)
        assert reply.seconds < 15
        assert download.read(MIB) == BLOB[:MIB]
