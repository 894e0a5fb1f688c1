"""Promise 10: no client, no upstream and no log reader takes from the others what everybody needs."""

import contextlib
import socket

import pytest

from kit.content import MIB, digest_of, manifest, noise
from kit.crowd import ADDRESSES, crowd, silent_registry
from kit.processes import wait_until

pytestmark = pytest.mark.usefixtures("enough_descriptors")

# More than tarn has workers (2,048).
CROWD = 2100

LAYER = noise(4 * MIB)
DIGEST = digest_of(LAYER)
SMALL = b"{}"  # the image's configuration


@pytest.fixture
def silent():
    """More silent upstreams than it takes to hold every worker, with 256 requests each."""
    with contextlib.ExitStack() as opened:
        yield {f"silent{number}.test": opened.enter_context(silent_registry())
               for number in range(10)}


@pytest.fixture
def tarn(start_tarn, upstream, silent):
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([
        {"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "1h"},
        *({"host": host, "url": url, "first_byte_timeout": "60s", "connect_timeout": "60s"}
          for host, url in silent.items())])
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER
    tarn.wait_cached("org/app", DIGEST)
    assert tarn.blob("org/app", DIGEST, method="HEAD").status == 200
    for _ in range(3):
        assert tarn.blob("org/app", digest_of(SMALL)).body == SMALL
        tarn.wait_cached("org/app", digest_of(SMALL))
    tarn.wait_for_workers()  # now it is in memory
    return tarn


def check_what_everybody_needs(tarn):
    for path in ("/livez", "/readyz", "/metrics", "/v2/", "/"):
        assert tarn.get(path).status == 200, path
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.manifest("org/app", "1", method="HEAD").status == 200
    assert tarn.blob("org/app", DIGEST, method="HEAD").status == 200
    assert tarn.blob("org/app", digest_of(SMALL)).body == SMALL


@pytest.mark.slow
def test_hits_and_health_while_every_upstream_is_silent_and_every_worker_waits(tarn, silent):
    targets = [f"/v2/{host}/a/{number}/manifests/1" for number in range(300) for host in silent]
    with crowd(tarn, targets, addresses=ADDRESSES):
        wait_until(lambda: tarn.metrics()["tarn_workers_busy"] >= 2048, "all workers busy", 60)
        for _ in range(20):
            check_what_everybody_needs(tarn)
        assert tarn.metrics()["tarn_workers_busy"] >= 2048
    tarn.kill()  # the end of a tarn whose upstream hangs is not tested here


@pytest.mark.slow
def test_slow_readers_of_a_cached_blob_hold_no_worker(tarn):
    with crowd(tarn, [f"/v2/org/app/blobs/{DIGEST}"] * CROWD, receive_buffer=4096):
        wait_until(lambda: tarn.metrics()["tarn_responses_waiting"] >= CROWD, "slow readers", 60)
        check_what_everybody_needs(tarn)
        assert tarn.blob("org/app", DIGEST).body == LAYER


def test_slow_readers_of_a_large_manifest_hold_no_worker(tarn, upstream):
    """The first reader makes tarn ask upstream, and the others join in."""
    large = manifest(b"{}", [LAYER], annotations={"note": "x" * (3 * MIB)})
    digest = upstream.repository("org/app").add_manifest(large, tag="large")
    with crowd(tarn, [f"/v2/org/app/manifests/{digest}"] * 20, receive_buffer=4096):
        wait_until(lambda: tarn.metrics()["tarn_responses_waiting"] >= 20, "slow readers", 30)
        wait_until(lambda: tarn.metrics()["tarn_workers_busy"] == 0, "no worker busy", 30)
        assert tarn.manifest("org/app", "large").body == large


def test_idle_connections_keep_nobody_out(start_tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      max_connections=300)
    with contextlib.ExitStack() as opened:
        for _ in range(900):
            opened.enter_context(socket.create_connection(("127.0.0.1", tarn.port)))
        assert tarn.get("/livez").status == 200
        assert tarn.manifest("org/app", "1").status == 200
        assert tarn.blob("org/app", DIGEST).body == LAYER
        assert tarn.metrics()["tarn_client_connections"] <= 300
