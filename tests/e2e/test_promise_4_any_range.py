"""Promise 4: a range of a blob that is absent or still arriving is 206; its bytes come first."""

import time

import pytest

from kit.content import KIB, MIB, digest_of, noise

BLOB = noise(32 * MIB)
SIZE = len(BLOB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"

RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-99", 0, 100),
    ("bytes=5000-9999", 5000, 10000),
    (f"bytes={SIZE // 2 - 3}-{SIZE // 2 + 5000}", SIZE // 2 - 3, SIZE // 2 + 5001),
    (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
    (f"bytes={SIZE - 70000}-", SIZE - 70000, SIZE),
    ("bytes=-1", SIZE - 1, SIZE),
    ("bytes=-100000", SIZE - 100000, SIZE),
    (f"bytes={SIZE - 10}-{SIZE + 1000}", SIZE - 10, SIZE),
]


def is_that_part(reply, first, end):
    assert (reply.status, reply.complete) == (206, True), reply
    assert reply["Content-Range"] == f"bytes {first}-{end - 1}/{SIZE}"
    assert reply["Content-Length"] == str(end - first)
    assert reply["Accept-Ranges"] == "bytes"
    assert reply.body == BLOB[first:end]


@pytest.mark.parametrize("value,first,end", RANGES, ids=[each[0] for each in RANGES])
def test_a_range_of_a_cold_blob(tarn, upstream, repository, value, first, end):
    is_that_part(tarn.get(PATH, {"Range": value}), first, end)


def test_ranges_of_a_cached_blob(tarn, upstream, repository):
    tarn.get(PATH)
    tarn.wait_cached("org/app", DIGEST)
    upstream.forget_requests()
    for value, first, end in RANGES:
        is_that_part(tarn.get(PATH, {"Range": value}), first, end)
    assert upstream.asked() == []


def test_a_range_is_fetched_first_and_does_not_wait_for_what_is_before_it(
        tarn, upstream, repository):
    first = SIZE - MIB
    held = upstream.fault("/blobs/", hold_after=0,
                          when=lambda request: not request.range or request.range[0] < SIZE // 2)
    reply = tarn.get(PATH, {"Range": f"bytes={first}-{first + 9999}"}, timeout=5)
    is_that_part(reply, first, first + 10000)
    assert reply.seconds < 2
    held.gate.set()


def test_a_range_of_a_blob_still_arriving_comes_before_its_turn(tarn, upstream, repository):
    held = upstream.fault("/blobs/", hold_after=256 * KIB,
                          when=lambda request: not request.range or request.range[0] < SIZE // 2)
    with tarn.download(PATH) as whole:
        whole.read(64 * KIB)
        first = SIZE - 2 * MIB
        reply = tarn.get(PATH, {"Range": f"bytes={first}-{first + 99999}"}, timeout=5)
        is_that_part(reply, first, first + 100000)
        held.gate.set()
        whole.read(SIZE)
        assert whole.body == BLOB
    assert upstream.blob_bytes() <= SIZE * 1.05


def test_the_rest_of_the_blob_follows_a_range(tarn, upstream, repository):
    is_that_part(tarn.get(PATH, {"Range": "bytes=1000-1999"}), 1000, 2000)
    tarn.wait_cached("org/app", DIGEST)
    upstream.forget_requests()
    assert tarn.get(PATH).body == BLOB
    assert upstream.asked() == []


def test_without_range_fill_only_what_is_asked_for_is_fetched(start_tarn, upstream, repository):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "range_fill": False}])
    is_that_part(tarn.get(PATH, {"Range": "bytes=1000-1999"}), 1000, 2000)
    time.sleep(0.5)
    upstream.wait_idle("/blobs/")
    assert upstream.blob_bytes() <= 8 * MIB
    assert tarn.get(PATH).body == BLOB
    assert upstream.blob_bytes() <= SIZE * 1.05


@pytest.mark.parametrize("state", ["cold", "cached"])
@pytest.mark.parametrize("value", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
def test_a_range_outside_is_416_and_tells_the_size(tarn, upstream, repository, state, value):
    if state == "cached":
        tarn.get(PATH)
        tarn.wait_cached("org/app", DIGEST)
    reply = tarn.get(PATH, {"Range": value})
    assert (reply.status, reply["Content-Range"]) == (416, f"bytes */{SIZE}"), reply


@pytest.mark.parametrize("value", ["bytes=abc", "bytes=9-5", "lines=1-2", "bytes", "bytes=--5",
                                   "bytes=0-1,x", "bytes=,"])
def test_what_is_no_range_gets_the_whole(tarn, upstream, repository, value):
    reply = tarn.get(PATH, {"Range": value})
    assert (reply.status, reply.complete) == (200, True)
    assert reply.body == BLOB


@pytest.mark.parametrize("state", ["cold", "cached"])
@pytest.mark.parametrize("value,first,end", [
    ("bytes=0-1,5-6", 0, 7), ("bytes=5000-5999, 1000-1999", 1000, 6000),
    (f"bytes=100-199,{SIZE - 10}-", 100, SIZE), ("bytes=100-199,-10", 100, SIZE),
    (f"bytes=100-199,{SIZE}-{SIZE + 9}", 100, 200), ("bytes=7-8,", 7, 9)])
def test_several_ranges_get_the_one_that_covers_them(tarn, upstream, repository, state, value,
                                                     first, end):
    """stargz asks so, and takes one range or several."""
    if state == "cached":
        tarn.get(PATH)
        tarn.wait_cached("org/app", DIGEST)
    is_that_part(tarn.get(PATH, {"Range": value}), first, end)


def test_several_ranges_outside_are_416(tarn, upstream, repository):
    reply = tarn.get(PATH, {"Range": f"bytes={SIZE}-,{SIZE + 5}-{SIZE + 6}"})
    assert (reply.status, reply["Content-Range"]) == (416, f"bytes */{SIZE}"), reply


def test_a_range_from_an_upstream_without_ranges(tarn, upstream, repository):
    upstream.fault("/blobs/", ignore_range=True)
    is_that_part(tarn.get(PATH, {"Range": "bytes=20000000-20000999"}), 20000000, 20001000)
    tarn.wait_cached("org/app", DIGEST)
    assert tarn.get(PATH).body == BLOB


def test_a_range_of_a_blob_that_upstream_does_not_have_is_404(tarn, upstream, repository):
    missing = digest_of(b"missing")
    reply = tarn.get(f"/v2/org/app/blobs/{missing}", {"Range": "bytes=0-9"})
    assert (reply.status, reply.code) == (404, "BLOB_UNKNOWN")


def test_a_range_of_an_empty_blob_is_not_satisfiable(tarn, upstream, repository):
    digest = repository.add_blob(b"")
    reply = tarn.blob("org/app", digest, {"Range": "bytes=0-0"})
    assert (reply.status, reply["Content-Range"]) == (416, "bytes */0")


def test_head_ignores_ranges(tarn, upstream, repository):
    reply = tarn.head(PATH, {"Range": "bytes=0-9"})
    assert (reply.status, reply["Content-Length"]) in ((200, str(SIZE)), (206, "10"))


def test_manifests_know_no_ranges(tarn, upstream, repository):
    content = b'{"schemaVersion":2}'
    repository.add_manifest(content, tag="1")
    reply = tarn.get("/v2/org/app/manifests/1", {"Range": "bytes=0-3"})
    assert (reply.status, reply.body) in ((200, content), (206, content[:4]))


def test_if_range_with_another_validator_gets_the_whole(tarn, upstream, repository):
    tarn.get(PATH)
    tarn.wait_cached("org/app", DIGEST)
    reply = tarn.get(PATH, {"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (reply.status, len(reply.body)) == (200, SIZE)
    etag = reply["ETag"]
    assert tarn.get(PATH, {"Range": "bytes=0-9", "If-Range": etag}).status == 206
    for other in (f"W/{etag}", etag.strip('"'), f"{etag}, {etag}", "*", reply["Date"]):
        reply = tarn.get(PATH, {"Range": "bytes=0-9", "If-Range": other})
        assert (reply.status, len(reply.body)) == (200, SIZE), other  # RFC 9110 §13.1.5


def test_content_is_not_sent_to_a_client_that_has_it(tarn, upstream, repository):
    tarn.get(PATH)
    tarn.wait_cached("org/app", DIGEST)
    etag = tarn.head(PATH)["ETag"]
    reply = tarn.get(PATH, {"If-None-Match": etag})
    assert (reply.status, reply.body) == (304, b"")
