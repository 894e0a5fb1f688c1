"""Promise 2: upstream sends each byte once, however many clients ask for it."""

import time
from concurrent.futures import ThreadPoolExecutor

from kit.client import at_once
from kit.content import KIB, MIB, digest_of, manifest, noise
from kit.processes import wait_until
from kit.tokens import TokenService

TIMEOUTS = {}  # bytes of the upstream are counted (conftest.py)

BLOB = noise(8 * MIB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"


def test_fifty_cold_clients_cost_upstream_one_blob(tarn, upstream, repository):
    upstream.fault("/blobs/", bytes_per_second=16 * MIB)
    for reply in at_once(*[lambda: digest_of(tarn.get(PATH).body)] * 50):
        assert reply == DIGEST
    assert upstream.blob_bytes() == len(BLOB)


def test_many_ranges_of_a_cold_blob_cost_upstream_one_blob(tarn, upstream, repository):
    upstream.fault("/blobs/", bytes_per_second=16 * MIB)
    step = len(BLOB) // 16

    def part(number):
        first = number * step
        reply = tarn.get(PATH, {"Range": f"bytes={first}-{first + step - 1}"})
        assert (reply.status, reply.body) == (206, BLOB[first:first + step])

    at_once(*[lambda number=number % 16: part(number) for number in range(32)])
    tarn.wait_cached("org/app", DIGEST)
    assert upstream.blob_bytes() == len(BLOB)


def test_clients_through_two_repositories_follow_one_transfer(tarn, upstream, repository):
    upstream.repository("org/other").add_blob(BLOB)
    upstream.fault("/blobs/", bytes_per_second=16 * MIB)
    calls = [lambda name=name: tarn.blob(name, DIGEST).body == BLOB
             for name in ("org/app", "org/other") * 4]
    assert all(at_once(*calls))
    assert upstream.blob_bytes() == len(BLOB)


def test_a_transfer_that_is_continued_gets_each_byte_once(start_tarn, upstream, repository):
    """Its size is known, so that several connections ask before any of them has an answer."""
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "range_fill": False}])
    assert tarn.get(PATH, {"Range": "bytes=1000-1999"}).body == BLOB[1000:2000]
    wait_until(lambda: tarn.metrics()["tarn_flights"] == 0, "the first transfer to end", 20)
    held = upstream.fault("/blobs/", hold_head=True)
    with ThreadPoolExecutor() as clients:
        reply = clients.submit(tarn.get, PATH)
        wait_until(lambda: len(upstream.asked("/blobs/")) >= 4, "several connections", 20)
        held.gate.set()
        assert digest_of(reply.result(60).body) == DIGEST
    assert upstream.blob_bytes() == len(BLOB)


def test_a_hit_asks_upstream_nothing(tarn, upstream, repository):
    assert tarn.get(PATH).body == BLOB
    tarn.wait_cached("org/app", DIGEST)
    upstream.forget_requests()
    for _ in range(3):
        hit = tarn.get(PATH)
        assert hit.body == BLOB
        assert hit.cache_status.startswith("tarn; hit")
    assert upstream.asked() == []


def test_the_answer_says_whether_it_was_a_miss_a_hit_or_joined(tarn, upstream, repository):
    held = upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(PATH) as first:
        assert "fwd=miss" in first.headers["Cache-Status"]
        with tarn.download(PATH) as second:
            assert "collapsed" in second.headers["Cache-Status"]
            held.gate.set()
            second.read(len(BLOB))
            assert second.body == BLOB
    tarn.wait_cached("org/app", DIGEST)
    assert "hit" in tarn.get(PATH).cache_status


def test_a_cold_manifest_is_asked_for_once(tarn, upstream):
    content = manifest(b"{}", [b"layer"])
    digest = upstream.repository("org/app").add_manifest(content, tag="1")
    upstream.fault("/manifests/", delay=0.3)
    for reply in at_once(*[lambda: tarn.manifest("org/app", digest)] * 20):
        assert (reply.status, reply.body) == (200, content)
    assert len(upstream.asked("/manifests/")) == 1


def test_a_cold_tag_is_asked_for_once(tarn, upstream):
    content = manifest(b"{}", [b"layer"])
    upstream.repository("org/app").add_manifest(content, tag="1")
    upstream.fault("/manifests/", method=None, delay=0.3)
    for reply in at_once(*[lambda: tarn.manifest("org/app", "1")] * 20):
        assert (reply.status, reply.body) == (200, content)
    assert len(upstream.asked("/manifests/", "GET")) == 1


def test_a_manifest_by_digest_is_never_asked_for_twice(tarn, upstream):
    content = manifest(b"{}", [b"layer"])
    digest = upstream.repository("org/app").add_manifest(content, tag="1")
    tarn.manifest("org/app", digest)
    upstream.forget_requests()
    for _ in range(3):
        assert "hit" in tarn.manifest("org/app", digest).cache_status
    tarn.restart()
    assert tarn.manifest("org/app", digest).body == content
    assert upstream.asked() == []


def test_a_manifest_that_came_by_tag_is_known_by_digest(tarn, upstream):
    content = manifest(b"{}", [b"layer"])
    digest = upstream.repository("org/app").add_manifest(content, tag="1")
    tarn.manifest("org/app", "1")
    upstream.forget_requests()
    assert tarn.manifest("org/app", digest).body == content
    assert upstream.asked() == []


def test_a_token_is_asked_for_once(tarn, upstream, repository):
    upstream.tokens = TokenService(delay=0.3)
    blobs = [repository.add_blob(noise(20 * KIB, seed)) for seed in range(12)]
    for reply in at_once(*[lambda digest=digest: tarn.blob("org/app", digest)
                           for digest in blobs]):
        assert reply.status == 200, reply
    assert len(upstream.asked("^/token")) == 1


def test_the_transfer_goes_on_when_its_first_client_leaves(tarn, upstream, repository):
    held = upstream.fault("/blobs/", hold_after=2 * MIB)
    first = tarn.download(PATH)
    first.read(64 * KIB)
    first.close()
    held.gate.set()
    tarn.wait_cached("org/app", DIGEST)
    assert tarn.get(PATH).body == BLOB
    assert upstream.blob_bytes() == len(BLOB)


def test_a_client_that_leaves_does_not_disturb_another(tarn, upstream, repository):
    held = upstream.fault("/blobs/", hold_after=2 * MIB)
    first = tarn.download(PATH)
    second = tarn.download(PATH)
    first.read(64 * KIB)
    first.close()
    held.gate.set()
    second.read(len(BLOB))
    assert second.body == BLOB
    second.close()
    assert upstream.blob_bytes() == len(BLOB)


def test_a_slow_client_slows_nobody(tarn, upstream, repository):
    with tarn.download(PATH, receive_buffer=4 * KIB) as slow:
        slow.read(KIB)
        started = time.monotonic()
        assert tarn.get(PATH).body == BLOB
        assert time.monotonic() - started < 5
        slow.read(len(BLOB))
        assert slow.body == BLOB
    assert upstream.blob_bytes() == len(BLOB)


def test_a_second_pull_of_an_image_moves_no_blob(tarn, upstream):
    layers = [noise(200 * KIB, seed) for seed in range(3)]
    digest = upstream.image("org/image", layers)

    def pull():
        assert tarn.manifest("org/image", "latest")["Docker-Content-Digest"] == digest
        for layer in layers:
            assert tarn.blob("org/image", digest_of(layer)).body == layer

    pull()
    for layer in layers:
        tarn.wait_cached("org/image", digest_of(layer))
    upstream.forget_requests()
    pull()
    assert upstream.asked("/blobs/") == []
    assert upstream.asked("/manifests/", "GET") == []  # tag_ttl 0: a HEAD is enough
