"""Promise 5: several connections for a large blob; a broken transfer continues where it broke."""

import socket
import threading
import time

import pytest

from kit.client import Download
from kit.content import KIB, MIB, digest_of, noise
from kit.processes import wait_until

BLOB = noise(32 * MIB)
SIZE = len(BLOB)
DIGEST = digest_of(BLOB)
PATH = f"/v2/org/app/blobs/{DIGEST}"


def is_the_blob(reply):
    assert (reply.status, reply.complete) == (200, True), reply
    assert reply.body == BLOB


@pytest.mark.serial
def test_a_large_blob_comes_over_several_connections(start_tarn, upstream, repository):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "connections": 4}])
    upstream.fault("/blobs/", bytes_per_second=8 * MIB)
    started = time.monotonic()
    is_the_blob(tarn.get(PATH))
    seconds = time.monotonic() - started
    assert upstream.most_at_once("/blobs/") > 1
    assert upstream.blob_bytes() == SIZE
    assert seconds < 4 / 2, f"{seconds} s for what one connection does in 4 s"


@pytest.mark.parametrize("connections", [1, 2, 6])
def test_never_over_more_connections_than_configured(start_tarn, upstream, repository,
                                                     connections):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "connections": connections}])
    upstream.fault("/blobs/", bytes_per_second=32 * MIB)
    is_the_blob(tarn.get(PATH))
    # Two more may fetch for a reader whose bytes no other request is fetching.
    assert upstream.most_at_once("/blobs/") <= connections + 2


def test_an_upstream_without_ranges_gets_one_plain_stream(tarn, upstream, repository):
    upstream.fault("/blobs/", ignore_range=True)
    is_the_blob(tarn.get(PATH))
    assert upstream.blob_bytes() <= SIZE * 1.3


def test_a_content_range_that_lies_is_not_believed(tarn, upstream, repository):
    upstream.fault("/blobs/", content_range=f"bytes 0-{4 * MIB - 1}/{SIZE}",
                   when=lambda request: request.range and request.range[0])
    reply = tarn.get(PATH, timeout=3)
    assert reply.body == BLOB if reply.complete else len(reply.body) < SIZE
    upstream.heal()
    is_the_blob(tarn.get(PATH))


def test_a_total_that_changes_between_ranges_is_noticed(tarn, upstream, repository):
    upstream.fault("/blobs/", content=BLOB + b"more",
                   when=lambda request: request.range and request.range[0])
    reply = tarn.get(PATH, timeout=10)
    assert reply.body == BLOB if reply.complete else len(reply.body) < SIZE


def test_an_etag_that_changes_between_ranges_is_noticed(tarn, upstream, repository):
    upstream.fault("/blobs/", etag='"another"',
                   when=lambda request: request.range and request.range[0])
    is_the_blob(tarn.get(PATH))


@pytest.mark.parametrize("how", ["cut_after", "reset_after"])
def test_it_goes_on_where_it_broke(tarn, upstream, repository, how):
    upstream.fault("/blobs/", **{how: MIB}, times=1)
    is_the_blob(tarn.get(PATH))
    assert upstream.blob_bytes() <= SIZE * 1.05


def test_ten_cuts_cost_little(tarn, upstream, repository):
    upstream.fault("/blobs/", cut_after=700 * KIB, times=10)
    is_the_blob(tarn.get(PATH))
    assert upstream.blob_bytes() <= SIZE * 1.1


def test_a_stall_is_ended_and_its_rest_asked_for_again(tarn, upstream, repository):
    upstream.fault("/blobs/", hold_after=500 * KIB, times=1)
    reply = tarn.get(PATH, timeout=15)
    is_the_blob(reply)
    assert reply.seconds < 8
    assert upstream.blob_bytes() <= SIZE * 1.05


@pytest.mark.parametrize("status,headers", [(500, {}), (503, {}), (429, {"Retry-After": "1"})])
def test_an_error_in_mid_blob_is_only_a_pause(tarn, upstream, repository, status, headers):
    upstream.fault("/blobs/", cut_after=MIB, times=1)
    upstream.fault("/blobs/", status=status, headers=headers, body=b"{}", times=2,
                   when=lambda request: len(upstream.asked("/blobs/")) > 1)
    is_the_blob(tarn.get(PATH, timeout=20))
    assert upstream.blob_bytes() <= SIZE * 1.05 + KIB


def test_a_cut_without_a_length_is_made_good(tarn, upstream, repository):
    upstream.fault("/blobs/", chunked=True, ignore_range=True, cut_after=3 * MIB, times=1)
    is_the_blob(tarn.get(PATH))


def test_upstream_away_for_a_moment_in_mid_blob(tarn, upstream, repository):
    held = upstream.fault("/blobs/", hold_after=MIB)
    with Download(tarn.url + PATH, timeout=20) as download:
        download.read(100 * KIB)
        upstream.refuse()
        upstream.heal()
        held.gate.set()
        wait_until(lambda: tarn.get("/tarn/v1/flights").json()["flights"][0]["retries"],
                   "tarn to find nobody there")
        upstream.listen_again()
        download.read(SIZE)
        assert download.body == BLOB


@pytest.mark.parametrize("redirect", ["relative", "same host", "elsewhere"])
def test_a_redirect_is_resolved_once(tarn, upstream, repository, redirect):
    upstream.redirect = redirect
    is_the_blob(tarn.get(PATH))
    assert len(upstream.asked("/blobs/")) == 1
    assert len(upstream.asked("/downloads/")) > 1
    assert upstream.sent("/downloads/") == SIZE


def test_a_redirect_that_has_ended_is_resolved_anew(tarn, upstream, repository):
    upstream.redirect, upstream.redirect_uses = "elsewhere", 3
    is_the_blob(tarn.get(PATH))
    assert len(upstream.asked("/blobs/")) > 1
    assert upstream.blob_bytes() <= SIZE * 1.05


def test_a_cut_behind_a_redirect(tarn, upstream, repository):
    upstream.redirect = "relative"
    upstream.fault("/downloads/", cut_after=MIB, times=2)
    is_the_blob(tarn.get(PATH))
    assert upstream.blob_bytes() <= SIZE * 1.05


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_it_goes_on_after_a_restart(start_tarn, upstream, repository, end):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "connections": 2}])
    upstream.fault("/blobs/", bytes_per_second=8 * MIB)
    download = tarn.download(PATH)
    wait_until(lambda: upstream.blob_bytes() > 20 * MIB, "some of the blob to arrive")
    before_end = upstream.blob_bytes()
    download.close()
    if end == "stop":
        tarn.stop()
    else:
        tarn.kill()
    upstream.heal()
    upstream.wait_idle()
    before = upstream.blob_bytes()
    tarn.start()
    is_the_blob(tarn.get(PATH))
    again = upstream.blob_bytes() - before
    # Only the two chunks in progress and the bytes on the wire may be sent twice.
    assert again <= SIZE - before_end + 10 * MIB, (again, before_end)


def test_a_fallback_serves_when_the_first_is_down(start_tarn, make_upstream):
    first, second = make_upstream(), make_upstream()
    second.image("org/app", [BLOB], config=b'{"a":1}')
    first.refuse()
    tarn = start_tarn([{"host": "fake.test", "url": first.url, "fallbacks": [second.url],
                        "default": True}])
    assert tarn.manifest("org/app", "latest").status == 200
    is_the_blob(tarn.get(PATH))


def test_a_fallback_serves_when_the_first_lies(start_tarn, make_upstream):
    first, second = make_upstream(), make_upstream()
    for one in (first, second):
        one.image("org/app", [BLOB])
    first.fault("/blobs/", flip=MIB)
    tarn = start_tarn([{"host": "fake.test", "url": first.url, "fallbacks": [second.url],
                        "default": True}])
    wait_until(lambda: tarn.get(PATH, timeout=20).body == BLOB, "the fallback's bytes", 20)


def test_a_flight_can_be_watched(tarn, upstream, repository):
    held = upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(PATH):
        flights = wait_until(lambda: tarn.get("/tarn/v1/flights").json(), "a flight")
        assert DIGEST in str(flights)
        assert "org/app" in str(flights)
        held.gate.set()


def test_many_blobs_at_once_do_not_become_a_flood(start_tarn, upstream, repository):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "max_connections": 5}])
    blobs = [repository.add_blob(noise(300 * KIB, seed)) for seed in range(30)]
    upstream.fault("/blobs/", bytes_per_second=3 * MIB)
    threads = [threading.Thread(target=tarn.blob, args=("org/app", digest)) for digest in blobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert upstream.most_at_once("/blobs/") <= 5
    for digest in blobs:
        assert tarn.blob("org/app", digest).status == 200


# ---- transfers that end after a few bytes

FEW = [0, 1, 2, 511]


@pytest.mark.parametrize("how", ["cut_after", "reset_after"])
@pytest.mark.parametrize("few", FEW)
def test_a_transfer_that_is_cut_after_a_few_bytes_goes_on(tarn, upstream, repository, how, few):
    upstream.fault("/blobs/", **{how: few}, times=3)
    is_the_blob(tarn.get(PATH, timeout=60))
    assert SIZE <= upstream.blob_bytes() <= SIZE + 3 * few
    tarn.wait_cached("org/app", DIGEST)


@pytest.mark.parametrize("size", [1, 2, 3, 700])
@pytest.mark.parametrize("how", ["cut_after", "reset_after"])
def test_a_tiny_blob_that_is_cut_after_its_first_byte_is_whole(tarn, upstream, how, size):
    tiny = noise(size)
    digest = upstream.repository("org/app").add_blob(tiny)
    upstream.fault("/blobs/", **{how: min(1, size - 1)}, times=2)
    reply = tarn.blob("org/app", digest, timeout=60)
    assert (reply.status, reply.complete, reply.body) == (200, True, tiny)
    tarn.wait_cached("org/app", digest)
    assert tarn.blob("org/app", digest).body == tiny


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
@pytest.mark.parametrize("few", FEW)
def test_a_partial_of_a_few_bytes_is_continued_after_a_restart(tarn, upstream, repository, few,
                                                              kill):
    """The first bytes came, and then nothing until tarn ended."""
    held = upstream.fault("/blobs/", hold_after=few)
    with socket.create_connection(("127.0.0.1", tarn.port), 60) as client:
        client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: tarn\r\n\r\n".encode())
        wait_until(lambda: any(flight["size"] and flight["bytes"] >= few for flight in
                               tarn.get("/tarn/v1/flights").json()["flights"]), "its bytes", 60)
        if kill:
            tarn.kill()
        else:
            tarn.stop()
    held.gate.set()
    upstream.heal()
    tarn.start()
    is_the_blob(tarn.get(PATH, timeout=60))
    tarn.wait_cached("org/app", DIGEST)
    is_the_blob(tarn.get(PATH, timeout=60))
