"""
What an upstream that never answers may take from the clients of all others: its share of the workers
and of the flights, whatever its clients ask for (promise 10).
"""

import contextlib

import pytest

from kit.content import MIB, digest_of, noise
from kit.crowd import ADDRESSES, crowd, silent_registry
from kit.processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("enough_descriptors")]

# More than tarn has workers (2,048).
CROWD = 2100
LAYER = noise(4 * MIB)
DIGEST = digest_of(LAYER)


@pytest.fixture
def silent():
    with silent_registry() as url:
        yield url


PATIENT = {"first_byte_timeout": "60s", "connect_timeout": "60s", "stall_timeout": "60s"}
FILLERS = [f"filler{number}.test" for number in range(5)]


@pytest.fixture
def neighbours(start_tarn, upstream, silent):
    """A tarn with a good upstream, and others that never answer."""
    upstream.image("org/app", [LAYER], tag="1")
    for number in range(10):
        upstream.image(f"org/cold{number}", [noise(70000 + number)], tag="1")
    tarn = start_tarn([
        {"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "1h"},
        {"host": "silent.test", "url": silent, **PATIENT},
        {"host": "mirrored.test", "url": silent, "fallbacks": [silent], **PATIENT},
        *({"host": host, "url": silent, **PATIENT} for host in FILLERS)])
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER
    tarn.wait_cached("org/app", DIGEST)
    return tarn


@contextlib.contextmanager
def half_of_all_workers_busy(tarn):
    """More than half of the workers wait for silent upstreams, and no upstream has more than its
    share of 256."""
    targets = [f"/v2/{host}/org/app/manifests/{number}" for number in range(256) for host in FILLERS]
    with crowd(tarn, targets, addresses=ADDRESSES):
        wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] >= len(targets), "a crowd", 60)
        yield


def made_up(number):
    return digest_of(str(number).encode())


SILENT = "/v2/silent.test/org/app"
MANY = {
    "one tag": lambda number: f"{SILENT}/manifests/1",
    "tags": lambda number: f"{SILENT}/manifests/{number}",
    "repositories": lambda number: f"/v2/silent.test/org/{number}/manifests/1",
    "one blob": lambda number: f"{SILENT}/blobs/{made_up(0)}",
    "blobs": lambda number: f"{SILENT}/blobs/{made_up(number)}",
    "one list of tags": lambda number: f"{SILENT}/tags/list",
    "lists of tags": lambda number: f"/v2/silent.test/org/{number}/tags/list",
    "one list of referrers": lambda number: f"{SILENT}/referrers/{made_up(0)}",
    "lists of referrers": lambda number: f"{SILENT}/referrers/{made_up(number)}",
    "fallbacks": lambda number: f"/v2/mirrored.test/org/app/manifests/{number}",
    "blobs of fallbacks": lambda number: f"/v2/mirrored.test/org/app/blobs/{made_up(number)}",
    "two upstreams": lambda number: (f"{SILENT}/manifests/{number}" if number % 2 else
                                     f"/v2/mirrored.test/org/app/blobs/{made_up(number)}"),
    "everything": lambda number: MANY[list(MANY)[number % 11]](number),
}


def check_that_others_are_served(tarn):
    """Health, hits, and what is cold at another upstream."""
    for path in ("/livez", "/readyz", "/metrics", "/v2/", "/"):
        assert tarn.get(path).status == 200, path
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER
    for number in range(10):
        name = f"org/cold{number}"
        manifest = tarn.manifest(name, "1")
        assert manifest.status == 200, manifest
        digest = manifest.json()["layers"][0]["digest"]
        layer = tarn.blob(name, digest)
        assert layer.status == 200 and digest_of(layer.body) == digest
    assert tarn.get("/v2/org/app/tags/list").json()["tags"] == ["1"]
    assert tarn.get(f"/v2/org/app/referrers/{DIGEST}").status == 200


def count_refused(tarn):
    values = tarn.metrics()
    return sum(value for name, value in values.items()
               if name.startswith("tarn_refused_total") and "upstream" in name)


@pytest.mark.parametrize("kind", MANY)
def test_a_silent_upstream_takes_no_more_than_its_share(neighbours, kind):
    tarn = neighbours
    with crowd(tarn, map(MANY[kind], range(CROWD)), addresses=ADDRESSES):
        wait_until(lambda: count_refused(tarn) + tarn.metrics()["tarn_workers_busy"] >= CROWD,
                   "every request waits or is refused", 60)
        check_that_others_are_served(tarn)
        # Half, and a share of another upstream. A request that is being refused has a worker, too.
        wait_until(lambda: tarn.metrics()["tarn_workers_busy"] < 1100 + 256,
                   "no more workers to wait than a share", 30)
    tarn.kill()  # the end of a tarn whose upstream hangs is not tested here


@pytest.mark.parametrize("target", ["manifests/1", "tags/list", f"referrers/{made_up(0)}",
                                    f"blobs/{made_up(0)}"])
def test_over_the_share_the_answer_is_503_at_once_with_the_time_to_wait(neighbours, target):
    tarn = neighbours
    with half_of_all_workers_busy(tarn):
        refused = tarn.get(f"/v2/{FILLERS[0]}/org/other/{target}")
        assert refused.seconds < 10
        assert refused.status == 503 and refused.code == "UNAVAILABLE"
        assert int(refused["Retry-After"]) >= 1
        assert FILLERS[0] in refused.message
    tarn.kill()


def test_over_the_share_what_is_held_is_served_stale(start_tarn, silent, make_upstream):
    """The upstream answered once, and then falls silent."""
    silenced = make_upstream()
    silenced.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([
        {"host": "silenced.test", "url": silenced.url, "tag_ttl": "0", **PATIENT},
        *({"host": host, "url": silent, **PATIENT} for host in FILLERS)])
    assert tarn.manifest("silenced.test/org/app", "1").status == 200
    silenced.fault(".*", black_hole=True, method=None)
    targets = [f"/v2/silenced.test/org/app/manifests/{number}" for number in range(2, 258)]
    with half_of_all_workers_busy(tarn), crowd(tarn, targets, addresses=ADDRESSES):
        wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] >= 6 * 256, "its share", 60)
        stale = tarn.manifest("silenced.test/org/app", "1")
        assert stale.status == 200 and "fwd=stale" in stale.cache_status
        assert stale.seconds < 4  # a question would be waited for five seconds
    tarn.kill()


def test_readers_of_a_blob_that_stops_in_the_middle_leave_workers_to_the_others(
        start_tarn, upstream, make_upstream):
    stalled = make_upstream()
    stalled.repository("org/app").add_blob(LAYER)
    upstream.image("org/app", [LAYER[:-1]], tag="1")
    tarn = start_tarn([
        {"host": "fake.test", "url": upstream.url, "default": True},
        {"host": "silent.test", "url": stalled.url, "connections": 1, **PATIENT}])
    stalled.fault("/blobs/", hold_after=32 << 10)  # the clients' sockets take that
    with crowd(tarn, [f"{SILENT}/blobs/{DIGEST}"] * CROWD, addresses=ADDRESSES):
        wait_until(lambda: count_refused(tarn) + tarn.metrics()["tarn_workers_busy"] >= CROWD,
                   "every reader waits or is refused", 60)
        wait_until(lambda: tarn.metrics()["tarn_workers_busy"] < 1100, "workers are free", 30)
        assert tarn.manifest("org/app", "1").status == 200
        assert tarn.blob("org/app", digest_of(LAYER[:-1])).body == LAYER[:-1]
    tarn.kill()


def test_prefetching_takes_no_place_that_a_client_needs(start_tarn, upstream, make_upstream):
    """An image of more layers than tarn fetches in the background, none of which comes."""
    slow = make_upstream()
    layers = [noise(1000 + number) for number in range(40)]
    slow.image("org/app", layers, tag="1")
    slow.fault("/blobs/", black_hole=True)
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start_tarn([
        {"host": "fake.test", "url": upstream.url, "default": True},
        {"host": "slow.test", "url": slow.url, "prefetch": True, "first_byte_timeout": "60s",
         "stall_timeout": "60s"}], max_flights=4)
    assert tarn.manifest("slow.test/org/app", "1").status == 200
    wait_until(lambda: any("/blobs/" in request.target for request in slow.requests),
               "a layer is asked for", 30)
    assert tarn.get("/v2/slow.test/org/app/manifests/1").status == 200
    with contextlib.closing(tarn.download(f"/v2/org/app/blobs/{DIGEST}")) as download:
        assert download.status == 200
        assert download.read(len(LAYER)) == LAYER
    tarn.kill()


def test_health_and_hits_while_every_upstream_hangs_and_workers_and_connections_are_taken(
        start_tarn, upstream, silent):
    upstream.image("org/app", [LAYER], tag="1")
    hosts = [f"silent{number}.test" for number in range(10)]
    tarn = start_tarn([
        {"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "1h"},
        *({"host": host, "url": silent, **PATIENT} for host in hosts)], max_connections=2200)
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER
    tarn.wait_cached("org/app", DIGEST)
    upstream.fault(".*", black_hole=True, method=None)
    waiting = [f"/v2/{host}/a/{number}/manifests/1" for number in range(256) for host in hosts]
    with crowd(tarn, waiting[:2048], addresses=ADDRESSES):
        wait_until(lambda: tarn.metrics()["tarn_requests_waiting"] >= 2048, "every worker waits", 60)
        with crowd(tarn, waiting[2048:], addresses=ADDRESSES):
            # While the crowd arrives, there may be no place for one more answer.
            wait_until(lambda: tarn.metrics().get("tarn_client_connections", 0) >= 2200,
                       "every connection is taken", 60)
            for _ in range(20):
                for path in ("/livez", "/readyz", "/readyz?verbose", "/metrics", "/v2/", "/"):
                    assert tarn.get(path).status == 200, path
                for method in ("GET", "HEAD"):
                    assert tarn.manifest("org/app", "1", method=method).status == 200
                assert tarn.blob("org/app", DIGEST, method="HEAD").status == 200
    tarn.kill()
