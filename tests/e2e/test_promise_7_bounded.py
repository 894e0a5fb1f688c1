"""Promise 7: the cache stays under its limit; it evicts the least recently used, none in use."""

import os
import random
import time

import pytest

from kit.cache_files import (SizeWatch, blob_file, bytes_below, files_below, held, is_held,
                             set_last_use, wait_settled)
from kit.client import at_once
from kit.content import (KIB, MIB, OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index, manifest,
                         noise)
from kit.processes import wait_until

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def bounded(start_tarn, upstream):
    """bounded(limit, …): a tarn with that max_size; its upstream may hold back responses."""
    def start(limit, **settings):
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                            "tag_ttl": "1h", "stall_timeout": "30s"}], max_size=limit, **settings)
    return start


def make_blobs(upstream, count, size, repository="org/app", seed="blob"):
    """Adds so many blobs to upstream; returns their digests."""
    return [upstream.repository(repository).add_blob(noise(size, f"{seed} {number}"))
            for number in range(count)]


def pull(tarn, upstream, digest, repository="org/app", headers=None):
    reply = tarn.blob(repository, digest, headers)
    assert (reply.status, reply.complete) == (206 if headers else 200, True), reply
    if not headers:
        assert reply.body == upstream.repository(repository).blobs[digest]
    return reply


def pull_and_keep(tarn, upstream, digests, repository="org/app"):
    """Pulls the blobs one after the other; each is in the store before the next."""
    for digest in digests:
        pull(tarn, upstream, digest, repository)
        tarn.wait_cached(repository, digest)


def press(tarn, upstream, size, total, seed="pressure", repository="org/other"):
    """Pulls other blobs of so many bytes in all, so that the cache must evict."""
    digests = make_blobs(upstream, total // size, size, repository, seed)
    pull_and_keep(tarn, upstream, digests, repository)
    return digests


def evicted(tarn):
    return tarn.metrics().get("tarn_evicted_blobs_total", 0)


def passed_through(tarn, reason):
    return tarn.metrics().get(f'tarn_passed_through_blobs_total{{reason="{reason}"}}', 0)


def wait_scanned(tarn, count):
    """Waits until tarn knows which blobs earlier processes have left."""
    wait_until(lambda: tarn.metrics().get("tarn_store_blobs", -1) >= count, f"{count} blobs known")


def asked_for(upstream, digests):
    """The digests whose bytes were requested from upstream."""
    return [digest for digest in digests if upstream.asked(digest, "GET")]


# ---- the limit

def test_the_limit_holds_while_many_pull(bounded, upstream):
    limit, clients, biggest = 12 * MIB, 6, 3 * MIB
    chance = random.Random(7)
    sizes = [chance.choice([100 * KIB, 300 * KIB, 700 * KIB, MIB, 2 * MIB, biggest])
             for _ in range(60)]
    digests = [upstream.repository("org/app").add_blob(noise(size, f"many {number}"))
               for number, size in enumerate(sizes)]
    for number in range(0, 60, 4):
        upstream.repository("org/app").add_manifest(
            manifest(b"{}", [], annotations={"number": str(number)}), tag=f"t{number}")
    tarn = bounded(limit)

    def client(seed):
        order = random.Random(seed)
        for _ in range(25):
            pull(tarn, upstream, order.choice(digests))
            assert tarn.manifest("org/app", f"t{order.randrange(0, 60, 4)}").status == 200

    with SizeWatch(tarn.root) as watch:
        at_once(*[lambda seed=seed: client(seed) for seed in range(clients)], timeout=120)
    assert watch.samples > 20
    assert watch.most_blobs <= limit, f"{watch.most_blobs} bytes of blobs, {limit} allowed"
    assert watch.most_total <= limit + clients * biggest, "more than is in flight"
    wait_settled(tarn.root, limit)
    assert evicted(tarn) > 10
    assert bytes_below(tarn.root / "blobs") > limit // 3, "it keeps what it may"
    metrics = tarn.metrics()
    assert metrics["tarn_store_limit_bytes"] == limit
    assert metrics["tarn_store_degraded"] == 0


def test_the_limit_holds_right_after_a_restart(bounded, upstream):
    limit = 4 * MIB
    tarn = bounded(32 * MIB)
    pull_and_keep(tarn, upstream, make_blobs(upstream, 24, 500 * KIB))
    tarn.stop()
    assert bytes_below(tarn.root / "blobs") > 2 * limit
    tarn.settings["max_size"] = limit
    tarn.start()
    wait_settled(tarn.root, limit)
    assert evicted(tarn) >= 15


def test_left_partials_count(bounded, upstream):
    """A partial that an earlier process left counts too."""
    limit = 6 * MIB
    tarn = bounded(limit)
    half = make_blobs(upstream, 1, 4 * MIB, seed="half")[0]
    upstream.fault(half, hold_after=3 * MIB)
    with tarn.download(f"/v2/org/app/blobs/{half}") as download:
        download.read(MIB)
        wait_until(lambda: bytes_below(tarn.root / "partial") >= 2 * MIB, "half of it to come")
        tarn.kill()
    upstream.heal()
    tarn.start()
    press(tarn, upstream, 500 * KIB, 12 * MIB)
    wait_settled(tarn.root, limit)


def test_blobs_almost_as_large_as_the_cache_take_turns(bounded, upstream):
    limit = 8 * MIB
    tarn = bounded(limit)
    digests = make_blobs(upstream, 4, 7 * MIB)
    with SizeWatch(tarn.root) as watch:
        for digest in digests:
            pull(tarn, upstream, digest)
            # A hit is not enough: until the flight ends, it keeps the blob open, so that the next
            # one would get no space.
            tarn.logged(f"blob cached digest={digest}", 30)
    assert watch.most_blobs <= limit
    assert held(tarn.root, digests) == digests[-1:]
    wait_settled(tarn.root, limit)
    upstream.forget_requests()
    assert "hit" in pull(tarn, upstream, digests[-1]).cache_status


def test_manifests_count(bounded, upstream):
    limit = 300 * KIB
    tarn = bounded(limit)
    padding = "x" * (20 * KIB)
    digests = [upstream.repository("org/app").add_manifest(
        manifest(b"{}", [], annotations={"number": f"{number} {padding}"}))
        for number in range(40)]
    with SizeWatch(tarn.root) as watch:
        for digest in digests:
            assert tarn.manifest("org/app", digest).status == 200
    assert watch.most_blobs <= limit
    wait_settled(tarn.root, limit)
    # A manifest is stored after it is answered.
    wait_until(lambda: is_held(tarn.root, digests[-1]), "the last manifest to be stored")
    assert evicted(tarn) >= 20


# ---- the order

def test_least_recently_used_goes_first_and_hits_renew(bounded, upstream):
    tarn = bounded(8 * MIB)
    size = 500 * KIB
    content = manifest(b"{}", [], annotations={"role": "renewed"})
    tagged = upstream.repository("org/app").add_manifest(content, tag="1")
    other = upstream.repository("org/app").add_manifest(
        manifest(b"{}", [], annotations={"role": "forgotten"}))
    for reference in ("1", tagged, other):
        assert tarn.manifest("org/app", reference).status == 200
    digests = make_blobs(upstream, 10, size)
    pull_and_keep(tarn, upstream, digests)
    whole, part = digests[1], digests[4]
    assert "hit" in pull(tarn, upstream, whole).cache_status
    assert "hit" in pull(tarn, upstream, part, headers={"Range": "bytes=5-9"}).cache_status
    assert "hit" in tarn.manifest("org/app", tagged).cache_status
    forgotten = [digest for digest in digests if digest not in (whole, part)]
    press(tarn, upstream, size, 5 * MIB)
    left = held(tarn.root, forgotten)
    assert left == forgotten[len(forgotten) - len(left):], "not the oldest went first"
    assert len(left) < len(forgotten) - 1, "nothing went"
    assert not is_held(tarn.root, other), "a manifest used before all of these is still there"
    assert held(tarn.root, [whole, part, tagged]) == [whole, part, tagged]
    upstream.forget_requests()
    for digest in (whole, part, *left):
        pull(tarn, upstream, digest)
    assert tarn.manifest("org/app", tagged).status == 200
    assert not upstream.asked()
    pull(tarn, upstream, forgotten[0])
    assert asked_for(upstream, forgotten) == forgotten[:1]


def test_a_tag_answered_from_memory_renews_its_manifest(bounded, upstream):
    tarn = bounded(4 * MIB)
    tagged = upstream.repository("org/app").add_manifest(manifest(b"{}", []), tag="1")
    assert tarn.manifest("org/app", "1").status == 200
    for number in range(4):
        press(tarn, upstream, 300 * KIB, 2 * MIB, seed=f"round {number}")
        assert "hit" in tarn.manifest("org/app", "1").cache_status
        assert is_held(tarn.root, tagged), f"gone in round {number}, though it is used all the time"
    assert evicted(tarn) > 5


def test_a_look_at_the_size_alone_downloads_and_evicts_nothing(bounded, upstream):
    tarn = bounded(4 * MIB)
    digests = make_blobs(upstream, 6, 600 * KIB)
    pull_and_keep(tarn, upstream, digests)
    cold = make_blobs(upstream, 8, 3 * MIB, seed="cold")
    for digest in cold:
        reply = tarn.head(f"/v2/org/app/blobs/{digest}")
        assert (reply.status, reply["Content-Length"]) == (200, str(3 * MIB))
    assert held(tarn.root, digests) == digests
    assert upstream.blob_bytes() == 6 * 600 * KIB


@pytest.mark.parametrize("crash", [False, True], ids=["stop", "kill -9"])
def test_the_order_survives_a_restart(bounded, upstream, crash):
    tarn = bounded(8 * MIB)
    size = 500 * KIB
    digests = make_blobs(upstream, 10, size)
    pull_and_keep(tarn, upstream, digests)
    tarn.stop()
    for place, digest in enumerate(digests):  # the first pulled was used last
        set_last_use(tarn.root, digest, (place + 3) * DAY)
    tarn.start()
    wait_scanned(tarn, 10)
    renewed = digests[-1]
    assert "hit" in pull(tarn, upstream, renewed).cache_status
    if crash:
        tarn.kill()
    else:
        tarn.stop()
    tarn.start()
    wait_scanned(tarn, 10)
    press(tarn, upstream, size, 5 * MIB)
    oldest_first = [digest for digest in reversed(digests) if digest != renewed]
    left = held(tarn.root, oldest_first)
    assert is_held(tarn.root, renewed), "its use before the restart was forgotten"
    assert left == oldest_first[len(oldest_first) - len(left):], "not the oldest went first"
    assert 0 < len(left) < len(oldest_first)


def test_no_more_is_evicted_than_necessary(bounded, upstream):
    """For a new blob, no more is evicted than it needs."""
    tarn = bounded(40 * MIB)
    digests = make_blobs(upstream, 18, 2 * MIB)
    pull_and_keep(tarn, upstream, digests)
    small = make_blobs(upstream, 3, MIB, seed="small")
    upstream.fault("/blobs/", delay=0.3)  # the size arrives some time after the request
    pull_and_keep(tarn, upstream, small)
    assert held(tarn.root, digests) == digests, "40 MiB are enough for 39"
    assert evicted(tarn) == 0
    pull_and_keep(tarn, upstream, make_blobs(upstream, 1, 3 * MIB, seed="one more"))
    assert held(tarn.root, digests) == digests[1:], "one is enough"


# ---- a blob in use is never evicted

def test_what_is_being_read_stays(bounded, upstream):
    limit, size = 24 * MIB, 16 * MIB  # more than the buffers of sockets hold
    tarn = bounded(limit)
    read = make_blobs(upstream, 1, size, seed="read")[0]
    pull_and_keep(tarn, upstream, [read])
    with tarn.download(f"/v2/org/app/blobs/{read}", receive_buffer=8 * KIB) as slow:
        slow.read(100 * KIB)
        with SizeWatch(tarn.root) as watch:
            press(tarn, upstream, 2 * MIB, 40 * MIB)
        assert evicted(tarn) > 10
        assert is_held(tarn.root, read), "evicted under its reader"
        slow.read(size)
        assert slow.body == upstream.repository("org/app").blobs[read]
    assert watch.most_blobs <= limit
    press(tarn, upstream, 2 * MIB, 40 * MIB, seed="afterwards")
    wait_until(lambda: not is_held(tarn.root, read), "it to go once nobody reads it")


def test_what_is_being_fetched_stays(bounded, upstream):
    tarn = bounded(8 * MIB)
    fetched = make_blobs(upstream, 1, 3 * MIB, seed="fetched")[0]
    upstream.fault(fetched, hold_after=MIB)
    with tarn.download(f"/v2/org/app/blobs/{fetched}") as download:
        download.read(500 * KIB)
        press(tarn, upstream, 700 * KIB, 20 * MIB)
        assert evicted(tarn) > 10
        upstream.heal()
        download.read(3 * MIB)
        assert download.body == upstream.repository("org/app").blobs[fetched]
    tarn.wait_cached("org/app", fetched)
    upstream.wait_idle()
    assert upstream.sent(fetched) <= 3 * MIB + 512 * KIB, "it was fetched anew"
    assert "hit" in pull(tarn, upstream, fetched).cache_status


# ---- a pinned blob is never evicted

def pinned_images(upstream):
    """(repository, tag, layer digests) of images that the pins below name."""
    images = []
    for repository, tag in (("org/keep", "latest"), ("org/app", "1.0"), ("org/app", "1.1")):
        layers = [noise(300 * KIB, f"{repository} {tag} {number}") for number in range(2)]
        upstream.image(repository, layers, tag, config=f'{{"of":"{repository}:{tag}"}}'.encode())
        images.append((repository, tag, [digest_of(layer) for layer in layers]))
    return images


PINS = ["fake.test/org/keep", "fake.test/org/app:1.*"]


def pull_image(tarn, upstream, repository, tag):
    """Pulls an image as a client does; returns the digests of its manifest and blobs."""
    reply = tarn.manifest(repository, tag)
    assert reply.status == 200, reply
    digests = [reply["Docker-Content-Digest"]]
    parts = reply.json()
    if "manifests" in parts:
        for entry in parts["manifests"]:
            digests += pull_image(tarn, upstream, repository, entry["digest"])
        return digests
    for entry in [parts["config"], *parts["layers"]]:
        pull(tarn, upstream, entry["digest"], repository)
        tarn.wait_cached(repository, entry["digest"])
        digests.append(entry["digest"])
    tarn.settle()
    return digests


@pytest.mark.parametrize("restart", ["no restart", "stop", "kill -9"])
def test_what_is_pinned_stays(bounded, upstream, restart):
    tarn = bounded(6 * MIB, pin=PINS)
    upstream.image("org/app", [noise(300 * KIB, "not pinned")], tag="2.0")
    loose = pull_image(tarn, upstream, "org/app", "2.0")
    pinned = []
    for repository, tag, _ in pinned_images(upstream):
        pinned += pull_image(tarn, upstream, repository, tag)
    if restart == "stop":
        tarn.restart()
    elif restart == "kill -9":
        tarn.kill()
        tarn.start()
    press(tarn, upstream, 500 * KIB, 15 * MIB)  # before the pins are known
    assert held(tarn.root, pinned) == pinned
    if restart != "no restart":  # a new blob of a repository with pins may count as pinned
        assert not held(tarn.root, loose), "2.0 is named by no pin"
    upstream.forget_requests()
    for repository, tag, _ in pinned_images(upstream):
        pull_image(tarn, upstream, repository, tag)
    assert not [request for request in upstream.asked() if "org/other" not in request.target]
    wait_settled(tarn.root, 6 * MIB)


def test_nothing_is_evicted_before_the_pins_are_known(bounded, upstream):
    """So many repositories that it takes long to find the pins."""
    tarn = bounded(6 * MIB, pin=PINS)
    pinned = []
    for repository, tag, _ in pinned_images(upstream):
        pinned += pull_image(tarn, upstream, repository, tag)
    tarn.stop()
    for digest in pinned:
        set_last_use(tarn.root, digest, 90 * DAY)
    record = next(path for (path, _) in files_below(tarn.root / "repositories") if "_tags" in path)
    with open(record, "rb") as file:
        content = file.read()
    for number in range(4000):
        folder = tarn.root / "repositories" / "fake.test" / f"crowd-{number}" / "_tags"
        folder.mkdir(parents=True)
        (folder / "1").write_bytes(content)
    crowd = make_blobs(upstream, 12, 900 * KIB, "org/other", "crowd")
    tarn.start()
    at_once(*[lambda digest=digest: pull(tarn, upstream, digest, "org/other") for digest in crowd])
    press(tarn, upstream, 500 * KIB, 15 * MIB)
    assert held(tarn.root, pinned) == pinned


def add_index(upstream, repository, tag):
    """An image of two platforms."""
    held_there, entries = upstream.repository(repository), []
    for architecture in ("amd64", "arm64"):
        config = f'{{"architecture":"{architecture}"}}'.encode()
        layer = noise(400 * KIB, f"{repository} {architecture}")
        held_there.add_blob(config)
        held_there.add_blob(layer)
        content = manifest(config, [layer])
        held_there.add_manifest(content)
        entries.append(descriptor(content, OCI_MANIFEST,
                                  platform={"os": "linux", "architecture": architecture}))
    return held_there.add_manifest(index(entries), OCI_INDEX, tag)


@pytest.mark.parametrize("restart", [False, True])
def test_a_pinned_index_keeps_all_its_platforms(bounded, upstream, restart):
    tarn = bounded(5 * MIB, pin=["fake.test/org/app:1.*"])
    add_index(upstream, "org/app", "1.2")
    pinned = pull_image(tarn, upstream, "org/app", "1.2")
    assert len(pinned) == 7
    if restart:
        tarn.restart()
    press(tarn, upstream, 500 * KIB, 12 * MIB)
    assert held(tarn.root, pinned) == pinned
    assert evicted(tarn) > 5


def test_everything_pinned_and_full_passes_through(bounded, upstream):
    tarn = bounded(2 * MIB, pin=["fake.test/org/keep"])
    upstream.image("org/keep", [noise(600 * KIB, number) for number in range(3)], tag="1")
    pinned = pull_image(tarn, upstream, "org/keep", "1")
    before = passed_through(tarn, "full")
    for digest in make_blobs(upstream, 4, 900 * KIB):
        pull(tarn, upstream, digest)
        part = tarn.blob("org/app", digest, {"Range": "bytes=1000-70000"})
        assert (part.status, part.complete) == (206, True)
        assert part.body == upstream.repository("org/app").blobs[digest][1000:70001]
    assert held(tarn.root, pinned) == pinned
    assert passed_through(tarn, "full") >= before + 4
    assert tarn.get("/readyz").status == 200
    wait_settled(tarn.root, 2 * MIB)


# ---- what is known of evicted blobs

def test_a_later_pull_refetches_just_what_was_evicted(bounded, upstream):
    tarn = bounded(6 * MIB)
    layers = [noise(500 * KIB, f"layer {number}") for number in range(4)]
    upstream.image("org/app", layers, tag="1", config=b'{"config":1}')
    everything = pull_image(tarn, upstream, "org/app", "1")
    gone = [digest_of(layer) for layer in layers[:2]]
    stayed = [digest for digest in everything if digest not in gone]
    for digest in make_blobs(upstream, 40, 300 * KIB, "org/other"):
        if not held(tarn.root, gone):
            break
        pull_and_keep(tarn, upstream, [digest], "org/other")
        tarn.manifest("org/app", stayed[0])
        for part in stayed[1:]:
            pull(tarn, upstream, part)
    assert not held(tarn.root, gone), "no pressure"
    assert held(tarn.root, stayed) == stayed
    upstream.forget_requests()
    pull_image(tarn, upstream, "org/app", "1")
    assert asked_for(upstream, everything) == gone
    assert len(upstream.asked()) == 2, upstream.asked()


def test_records_of_evicted_blobs_do_not_pile_up(bounded, upstream):
    """Links and tags of an evicted blob are deleted as well, after a while."""
    tarn = bounded(2 * MIB)
    for number in range(60):
        repository = f"org/app-{number}"
        upstream.image(repository, [noise(200 * KIB, f"pile {number}")], tag="1",
                       config=f'{{"number":{number}}}'.encode())
        pull_image(tarn, upstream, repository, "1")
    assert evicted(tarn) > 40
    tarn.stop()
    for (path, _), _ in files_below(tarn.root / "repositories").items():
        os.utime(path, (time.time() - 40 * DAY,) * 2)
    blobs = len(files_below(tarn.root / "blobs"))
    tarn.start()
    # A repository with one image has a link for each blob, one for its manifest, and a tag.
    wait_until(lambda: len(files_below(tarn.root / "repositories")) <= 2 * blobs + 10,
               "links of what is gone to go", 30)
    last = "org/app-59"
    upstream.forget_requests()
    pull_image(tarn, upstream, last, "1")
    assert not upstream.asked(r"/blobs/")


# ---- age and free space

def test_a_blob_unused_for_max_age_is_removed(bounded, upstream):
    tarn = bounded(64 * MIB, max_age="5d")
    digests = make_blobs(upstream, 6, 100 * KIB)
    pull_and_keep(tarn, upstream, digests)
    tarn.stop()
    for digest in digests[:4]:
        set_last_use(tarn.root, digest, 6 * DAY)
    set_last_use(tarn.root, digests[4], 4 * DAY)
    tarn.start()
    wait_until(lambda: not held(tarn.root, digests[:4]), "the old ones to go", 20)
    assert held(tarn.root, digests) == digests[4:]
    wait_until(lambda: evicted(tarn) == 4, "them to be counted")


@pytest.mark.slow
def test_a_short_max_age_counts_from_the_last_use(bounded, upstream):
    tarn = bounded(64 * MIB, max_age="6s")
    used, unused = make_blobs(upstream, 2, 100 * KIB)
    pull_and_keep(tarn, upstream, [used, unused])
    started = time.monotonic()
    while is_held(tarn.root, unused):
        assert time.monotonic() - started < 90, "not gone after 90 s of 6"
        pull(tarn, upstream, used)
        time.sleep(0.5)
    assert time.monotonic() - started > 4, "gone too early"
    assert is_held(tarn.root, used), "used all the time, and gone"


# ---- a blob larger than the whole cache

def test_a_blob_larger_than_the_cache_passes_through(bounded, upstream):
    limit, size = 8 * MIB, 20 * MIB
    tarn = bounded(limit)
    small = make_blobs(upstream, 10, 700 * KIB)
    pull_and_keep(tarn, upstream, small)
    large = make_blobs(upstream, 1, size, seed="large")[0]
    content = upstream.repository("org/app").blobs[large]
    before = evicted(tarn)
    assert tarn.head(f"/v2/org/app/blobs/{large}")["Content-Length"] == str(size)
    with SizeWatch(tarn.root) as watch:
        pull(tarn, upstream, large)
        for first, last in ((0, 99), (5 * MIB, 7 * MIB), (size - 10, size - 1)):
            part = tarn.blob("org/app", large, {"Range": f"bytes={first}-{last}"})
            assert (part.status, part["Content-Range"]) == (206, f"bytes {first}-{last}/{size}")
            assert part.body == content[first:last + 1]
        suffix = tarn.blob("org/app", large, {"Range": "bytes=-1000"})
        assert (suffix.status, suffix.body) == (206, content[-1000:])
    assert watch.most_blobs <= limit
    assert not is_held(tarn.root, large)
    assert held(tarn.root, small) == small, "others had to go for what cannot be kept"
    assert evicted(tarn) == before
    assert passed_through(tarn, "too_large") >= 1
    wait_settled(tarn.root, limit)
    assert tarn.metrics()["tarn_store_degraded"] == 0


def test_eight_clients_of_a_blob_larger_than_the_cache(bounded, upstream):
    tarn = bounded(4 * MIB)
    large = make_blobs(upstream, 1, 24 * MIB, seed="for eight")[0]
    content = upstream.repository("org/app").blobs[large]
    upstream.fault(large, bytes_per_second=30 * MIB)

    def part(first):
        reply = tarn.blob("org/app", large, {"Range": f"bytes={first}-{first + MIB - 1}"})
        assert (reply.status, reply.body) == (206, content[first:first + MIB])

    at_once(*[lambda: pull(tarn, upstream, large)] * 8,
            *[lambda first=first: part(first) for first in (0, 9 * MIB, 23 * MIB)], timeout=90)
    assert not is_held(tarn.root, large)
    wait_settled(tarn.root, 4 * MIB)


def test_a_wrong_byte_in_a_blob_larger_than_the_cache_is_no_whole_body(bounded, upstream):
    """Promise 1 holds for a blob that is not kept as well."""
    tarn = bounded(4 * MIB)
    large = make_blobs(upstream, 1, 12 * MIB, seed="wrong")[0]
    for place in (0, 6 * MIB, 12 * MIB - 1):
        upstream.fault(large, flip=place)
        reply = tarn.blob("org/app", large, timeout=20)
        assert reply.status in (0, 502) or not reply.complete, f"a wrong byte at {place}"
        upstream.heal()
    pull(tarn, upstream, large)


def test_a_cut_in_a_blob_larger_than_the_cache_is_continued(bounded, upstream):
    tarn = bounded(4 * MIB)
    large = make_blobs(upstream, 1, 12 * MIB, seed="cut")[0]
    upstream.fault(large, cut_after=2 * MIB, times=3)
    pull(tarn, upstream, large)


def test_a_blob_of_unknown_size_may_turn_out_too_large(bounded, upstream):
    tarn = bounded(4 * MIB)
    small = make_blobs(upstream, 4, 700 * KIB)
    pull_and_keep(tarn, upstream, small)
    large = make_blobs(upstream, 1, 12 * MIB, seed="chunked")[0]
    upstream.fault(large, chunked=True, ignore_range=True)
    with SizeWatch(tarn.root) as watch:
        reply = tarn.blob("org/app", large)
    assert (reply.status, reply.complete) == (200, True)
    assert reply.body == upstream.repository("org/app").blobs[large]
    assert watch.most_blobs <= 4 * MIB
    wait_settled(tarn.root, 4 * MIB)


# ---- metrics

def test_the_metrics_tell_what_is_on_disk(bounded, upstream):
    limit = 4 * MIB
    tarn = bounded(limit)
    metrics = tarn.metrics()
    assert metrics["tarn_store_limit_bytes"] == limit
    for name in ("tarn_evicted_blobs_total", "tarn_evicted_bytes_total", "tarn_store_degraded",
                 'tarn_passed_through_blobs_total{reason="too_large"}',
                 'tarn_passed_through_blobs_total{reason="full"}',
                 'tarn_passed_through_blobs_total{reason="failing"}'):
        assert metrics[name] == 0, name
    digests = make_blobs(upstream, 5, 300 * KIB)
    pull_and_keep(tarn, upstream, digests)

    def blob_bytes(now):
        return now["tarn_store_bytes"] - now["tarn_store_record_bytes"]

    def told(count):
        now = tarn.metrics()
        return (now["tarn_store_blobs"], blob_bytes(now)) == (count, count * 300 * KIB)

    wait_until(lambda: told(5), "five blobs in the metrics")
    tarn.restart()
    wait_until(lambda: told(5), "five blobs in the metrics after a restart")
    press(tarn, upstream, 300 * KIB, 9 * MIB)

    def balances():
        now, files = tarn.metrics(), files_below(tarn.root / "blobs")
        return (now["tarn_store_blobs"] == len(files)
                and blob_bytes(now) == bytes_below(tarn.root / "blobs")
                and now["tarn_evicted_bytes_total"] == 300 * KIB * now["tarn_evicted_blobs_total"]
                and now["tarn_evicted_blobs_total"] == 5 + 9 * MIB // (300 * KIB) - len(files))

    wait_until(balances, f"the metrics to agree with the disk: {tarn.metrics()}")


def test_the_file_of_a_blob_that_somebody_deleted_is_no_trouble(bounded, upstream):
    tarn = bounded(4 * MIB)
    digests = make_blobs(upstream, 8, 300 * KIB)
    pull_and_keep(tarn, upstream, digests)
    for digest in digests[:4]:
        blob_file(tarn.root, digest).unlink()
    press(tarn, upstream, 300 * KIB, 9 * MIB)
    pull_and_keep(tarn, upstream, digests)
    wait_settled(tarn.root, 4 * MIB)
