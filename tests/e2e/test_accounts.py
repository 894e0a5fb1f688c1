"""Accounting: what a foreign answer can make tarn keep, count or believe of its disk."""

import random
import subprocess
import time

import pytest

from kit.cache_files import SizeWatch, held, is_held, wait_settled
from kit.client import at_once
from kit.content import MIB, OCI_INDEX, OCI_MANIFEST, index, manifest, noise
from kit.disk import small_disk_or_skip
from kit.processes import wait_until


# ---- what cannot be written is no failure of the disk

WEIRD_TYPES = ["application/vnd.oci.image.\xe9+json", "\xe9", "application/json; v=\xff",
               "application/" + "x" * 300, "not a type", "application/a\tb+json", ""]


@pytest.mark.parametrize("make,usual", [(lambda: manifest(b"{}", []), OCI_MANIFEST),
                                        (lambda: index([]), OCI_INDEX)],
                         ids=["manifest", "index"])
@pytest.mark.parametrize("media_type", WEIRD_TYPES)
def test_a_weird_media_type_is_no_failure_of_the_disk(tarn, upstream, media_type, make, usual):
    content = make()
    digest = upstream.repository("org/app").add_manifest(content, media_type, tag="1")
    for reference in ("1", digest):
        reply = tarn.manifest("org/app", reference)
        assert (reply.status, reply.body, reply["Content-Type"]) == (200, content, usual)
    wait_until(lambda: is_held(tarn.root, digest), "the manifest to be stored")
    metrics = tarn.metrics()
    assert metrics["tarn_store_degraded"] == 0
    assert metrics['tarn_passed_through_blobs_total{reason="failing"}'] == 0
    assert "the disk" not in tarn.log()
    tarn.restart()
    upstream.fault(".", status=503)
    reply = tarn.manifest("org/app", digest)
    assert (reply.status, reply.body, reply["Content-Type"]) == (200, content, usual)


# ---- what is refused leaves nothing

def leftovers(root):
    """Files that the cache has of blobs that it does not hold."""
    return [str(path) for folder in ("partial", "repositories", "tmp")
            for path in (root / folder).rglob("*") if path.is_file()]


REFUSALS = {
    "404": {"status": 404}, "403": {"status": 403}, "429": {"status": 429}, "500": {"status": 500},
    "503": {"status": 503}, "closed": {"drop": True}, "reset": {"reset": True},
    "wrong digest": {"content": b"wrong bytes"}, "wrong type": {"status": 204},
}


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refused_blob_leaves_nothing(start_tarn, upstream, fault):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "stall_timeout": "1s"}])
    upstream.fault("/blobs/", **fault)
    digests = [upstream.repository("org/app").add_blob(noise(5000, f"refused {number}"))
               for number in range(12)]

    def ask(digest):
        reply = tarn.blob("org/app", digest, timeout=60)
        assert not (reply.status == 200 and reply.complete), reply

    at_once(*[lambda digest=digest: ask(digest) for digest in digests], timeout=90)
    wait_until(lambda: not leftovers(tarn.root), f"nothing to be left of {fault}", 60)


def test_a_blob_that_never_comes_leaves_nothing(start_tarn, upstream):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "stall_timeout": "1s", "first_byte_timeout": "1s"}])
    upstream.fault("/blobs/", black_hole=True)
    digest = upstream.repository("org/app").add_blob(b"silent")
    assert tarn.blob("org/app", digest, timeout=60).status in (502, 503, 504)
    wait_until(lambda: not leftovers(tarn.root), "nothing to be left", 60)


def test_a_flood_of_refused_digests_leaves_nothing(tarn, upstream):
    upstream.repository("org/app")
    flood = 3000
    chance = random.Random(2)

    def ask(count):
        for _ in range(count):
            reply = tarn.blob("org/app", f"sha256:{chance.randbytes(32).hex()}", timeout=60)
            assert reply.status in (404, 429, 503)

    at_once(*[lambda: ask(flood // 20)] * 20, timeout=120)
    wait_until(lambda: not leftovers(tarn.root), "nothing to be left")
    assert tarn.metrics()["tarn_store_degraded"] == 0


# ---- a size that is only claimed

def fill(tarn, upstream, count, size):
    digests = [upstream.repository("org/app").add_blob(noise(size, f"held {number}"))
               for number in range(count)]
    for digest in digests:
        assert tarn.blob("org/app", digest).status == 200
        tarn.wait_cached("org/app", digest)
    return digests


@pytest.fixture
def small(start_tarn, upstream):
    return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "stall_timeout": "1s"}], max_size=10 * MIB)


@pytest.mark.parametrize("claim", [8 * MIB, 10 * MIB - 4096, 10 << 40])
def test_a_size_that_is_only_claimed_evicts_nothing(small, upstream, claim):
    held_before = fill(small, upstream, 9, MIB)
    liar = upstream.repository("org/app").add_blob(b"x" * 100)
    fault = upstream.fault(liar, content_length=claim, ignore_range=True, hold_after=1)
    with small.download(f"/v2/org/app/blobs/{liar}"):
        wait_until(lambda: upstream.asked(liar), "it to be asked for")
        time.sleep(0.3)
        assert held(small.root, held_before) == held_before
    fault.gate.set()
    with small.download(f"/v2/org/app/blobs/{liar}") as download:
        asked = len(upstream.asked(liar))
        wait_until(lambda: len(upstream.asked(liar)) > asked, "the rest to be asked for again")
        download.read_what_comes(1)
        assert len(download.body) <= 100
    assert held(small.root, held_before) == held_before
    assert small.metrics()["tarn_evicted_blobs_total"] == 0


def test_transfers_that_together_outgrow_the_limit_all_reach_their_clients(small, upstream):
    """Each would fit alone. One is kept; another passes through; the limit holds."""
    digests = [upstream.repository("org/app").add_blob(noise(6 * MIB, f"together {number}"))
               for number in range(3)]
    upstream.fault("/blobs/", bytes_per_second=6 * MIB)
    contents = upstream.repository("org/app").blobs

    def pull(digest):
        reply = small.blob("org/app", digest, timeout=60)
        assert (reply.status, reply.complete, reply.body) == (200, True, contents[digest])

    with SizeWatch(small.root) as watch:
        at_once(*[lambda digest=digest: pull(digest) for digest in digests], timeout=90)
    assert watch.most_blobs <= 10 * MIB
    wait_until(lambda: len(held(small.root, digests)) == 1, "one of them to be kept")
    wait_settled(small.root, 10 * MIB)
    upstream.heal()
    for digest in digests:
        pull(digest)


# ---- what is counted is what the disk says

def du(root):
    """What `du -s` says, in bytes."""
    # It fails when a file vanishes meanwhile, and tells the sum all the same.
    return int(subprocess.run(["du", "-s", "--block-size=1", root], check=False, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.split()[0])


def agrees(tarn):
    """Whether tarn_store_bytes and du agree within a small blob and one per cent."""
    counted, there = tarn.metrics()["tarn_store_bytes"], du(tarn.root)
    return abs(counted - there) <= 4096 + there // 100


def add_images(upstream, count, repositories=7):
    """Small manifests, each with a tag; returns (repository, tag) of each."""
    images = []
    for number in range(count):
        name = f"org/app{number % repositories}"
        upstream.repository(name).add_manifest(
            manifest(b"{}", [], annotations={"number": str(number)}), tag=f"t{number}")
        images.append((name, f"t{number}"))
    return images


def pull_images(tarn, images, clients=4):
    def pull(share):
        for name, tag in share:
            assert tarn.manifest(name, tag).status == 200

    at_once(*[lambda share=images[number::clients]: pull(share) for number in range(clients)],
            timeout=240)


def test_the_metric_agrees_with_du_for_thousands_of_small_manifests_and_tags(tarn, upstream):
    pull_images(tarn, add_images(upstream, 2000))
    wait_until(lambda: agrees(tarn), "the metric and du to agree", 60)
    metrics = tarn.metrics()
    assert metrics["tarn_store_records"] > 4000
    assert metrics["tarn_store_record_bytes"] > 2 * metrics["tarn_store_blobs"] * 4096
    tarn.restart()
    wait_until(lambda: agrees(tarn), "them to agree after a restart", 60)


def test_the_limit_is_about_what_du_says(start_tarn, upstream):
    limit = 4 * MIB
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      max_size=limit)
    images = add_images(upstream, 1500)
    pull_images(tarn, images)
    most = limit + limit // 100 + 4096
    wait_until(lambda: du(tarn.root) <= most, f"at most {most} bytes", 60)
    wait_until(lambda: agrees(tarn), "the metric and du to agree", 60)
    assert tarn.metrics()["tarn_evicted_blobs_total"] > 300
    wait_until(lambda: tarn.metrics()["tarn_store_degraded"] == 0, "it to be well", 60)
    upstream.forget_requests()
    pull_images(tarn, images[-20:])


def test_many_tags_of_one_manifest_do_not_push_everything_out(start_tarn, upstream):
    limit = 4 * MIB
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      max_size=limit)
    kept = fill(tarn, upstream, 1, MIB)
    content = manifest(b"{}", [], annotations={"the": "same"})
    for number in range(1500):
        upstream.repository("org/many").add_manifest(content, tag=f"t{number}")
    pull_images(tarn, [("org/many", f"t{number}") for number in range(1500)])
    most = limit + limit // 100 + MIB
    wait_until(lambda: du(tarn.root) <= most, f"at most {most} bytes", 60)
    wait_until(lambda: len(leftovers(tarn.root)) < 800, "the oldest tags to go", 60)
    assert tarn.manifest("org/many", "t1499").status == 200
    assert len(kept) == 1


# ---- a file system that has no files left

@pytest.fixture
def few_files(tmp_path):
    """A disk with space for bytes, but for 700 files only. Skipped only where nothing can be
    mounted."""
    disk = small_disk_or_skip(tmp_path / "few", "tmpfs", 64)
    subprocess.run(["mount", "-o", "remount,nr_inodes=700", disk.mount], check=True)
    yield disk
    disk.detach()


def test_a_disk_without_files_left_evicts_and_recovers_by_itself(start_tarn, upstream, few_files):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      root=str(few_files.root), max_size="48MiB")
    images = add_images(upstream, 500, repositories=3)
    pull_images(tarn, images)
    wait_until(lambda: tarn.metrics()["tarn_store_degraded"] == 0, "it to be well", 60)
    assert tarn.metrics()["tarn_evicted_blobs_total"] > 20
    digest = upstream.repository("org/new").add_blob(noise(3 * MIB, "after all"))
    reply = tarn.blob("org/new", digest)
    assert (reply.status, reply.complete) == (200, True)
    tarn.wait_cached("org/new", digest)
    assert tarn.metrics()["tarn_store_degraded"] == 0
