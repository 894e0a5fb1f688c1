"""Promise 3: tarn sends the first byte as soon as it arrives from upstream."""

import time

import pytest

from kit.content import KIB, MIB, digest_of, manifest, noise
from kit.tokens import TokenService

BLOB = noise(24 * MIB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"


@pytest.mark.serial
def test_the_first_byte_does_not_wait_for_the_blob(tarn, upstream, repository):
    held = upstream.fault("/blobs/", hold_after=100 * KIB)
    with tarn.download(PATH, timeout=5) as download:
        assert download.status == 200
        assert download.length == len(BLOB)
        assert download.read(16 * KIB) == BLOB[:16 * KIB]
        assert time.monotonic() - download.started < 1
        held.gate.set()
        download.read(len(BLOB))
        assert download.body == BLOB


@pytest.mark.serial
def test_all_that_has_come_but_the_last_bytes_is_handed_on(tarn, upstream, repository):
    held = upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(PATH, timeout=5) as download:
        assert len(download.read(MIB - 64 * KIB)) == MIB - 64 * KIB
        assert time.monotonic() - download.started < 2
        held.gate.set()


def test_one_upstream_request_precedes_the_first_byte(tarn, upstream, repository):
    held = upstream.fault("/blobs/", hold_after=100 * KIB)
    with tarn.download(PATH, timeout=5) as download:
        download.read(KIB)
        first = upstream.asked()[0]
        assert (first.method, first.path) == ("GET", PATH)
        assert upstream.asked(method="HEAD") == []
        held.gate.set()


def test_a_held_token_costs_no_request(tarn, upstream, repository):
    upstream.tokens = TokenService()
    small = repository.add_blob(b"small")
    tarn.blob("org/app", small)
    upstream.forget_requests()
    other = repository.add_blob(b"other")
    assert tarn.blob("org/app", other).body == b"other"
    assert [request.method for request in upstream.asked()] == ["GET"]
    assert upstream.asked()[0].status in (200, 206)


def test_a_small_blob_costs_one_request(tarn, upstream, repository):
    for size in (1, 10 * KIB, 500 * KIB):
        content = noise(size)
        upstream.forget_requests()
        assert tarn.blob("org/app", repository.add_blob(content)).body == content
        assert len(upstream.asked()) == 1


def test_a_cold_manifest_by_tag_costs_one_request(tarn, upstream, repository):
    repository.add_manifest(manifest(b"{}", []), tag="1")
    assert tarn.manifest("org/app", "1").status == 200
    assert len(upstream.asked()) == 1


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_v2_is_answered_without_upstream(tarn, upstream, method):
    reply = tarn.get("/v2/", method=method)
    assert reply.status == 200
    assert reply["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert upstream.connections == 0


def test_head_of_a_cold_blob_downloads_nothing(tarn, upstream, repository):
    reply = tarn.head(PATH)
    assert (reply.status, reply["Content-Length"]) == (200, str(len(BLOB)))
    assert reply["Docker-Content-Digest"] == DIGEST
    assert reply.body == b""
    time.sleep(0.3)
    assert upstream.blob_bytes() == 0
    assert [request.method for request in upstream.asked()] == ["HEAD"]


def test_head_of_a_cold_manifest_asks_with_head(tarn, upstream, repository):
    content = manifest(b"{}", [])
    digest = repository.add_manifest(content, tag="1")
    for reference in ("1", digest):
        upstream.forget_requests()
        reply = tarn.manifest("org/app", reference, method="HEAD")
        assert (reply.status, reply["Docker-Content-Digest"]) == (200, digest)
        assert reply["Content-Length"] == str(len(content))
        assert [request.method for request in upstream.asked()] in (["HEAD"], [])


def test_head_of_a_blob_under_way_answers_at_once(tarn, upstream, repository):
    held = upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(PATH):
        reply = tarn.head(PATH, timeout=2)
        assert (reply.status, reply["Content-Length"]) == (200, str(len(BLOB)))
        held.gate.set()


def test_the_head_of_a_cold_blob_comes_with_all_that_clients_look_for(tarn, upstream, repository):
    with tarn.download(PATH) as download:
        assert download.headers["Docker-Content-Digest"] == DIGEST
        assert download.headers["Content-Length"] == str(len(BLOB))
        assert download.headers["Accept-Ranges"] == "bytes"
        assert DIGEST in download.headers["ETag"]
        assert download.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        assert download.headers["Cache-Status"].startswith("tarn; ")


@pytest.mark.serial
def test_slow_upstreams_are_slow_once(tarn, upstream, repository):
    upstream.fault("/blobs/", delay=0.5, times=1)
    with tarn.download(PATH) as download:
        assert 0.4 < download.head_seconds < 2
