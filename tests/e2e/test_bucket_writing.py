"""The bucket as a tier: what tarn brings there, in which order, and what it does not write."""

import threading
import time

import pytest

from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.processes import run, wait_until
from kit.shared_bucket import (data_key, layer_key, pending, put_blob, put_manifest, revision_key,
                               starter, tag_key, used_key, wait_settled, wait_stored)

LAYER = noise(300 * KIB)
DIGEST = digest_of(LAYER)
HUGE = noise(80 * MIB + 5, seed=2)
HUGE_DIGEST = digest_of(HUGE)
REPOSITORY = "fake.test/org/app"
TIMEOUTS = {}


@pytest.fixture
def start(start_tarn, upstream, object_store):
    return starter(start_tarn, upstream, object_store)


def writes(store):
    return [(request.operation, request.key) for request in store.requests
            if request.operation not in ("get", "head", "list")]


def test_an_image_is_written_in_order(start, upstream, object_store):
    image = manifest(b"{}", [LAYER])
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start()
    assert tarn.manifest("org/app", "1").body == image
    assert tarn.blob("org/app", DIGEST).body == LAYER
    digest = digest_of(image)
    wait_stored(object_store, data_key(DIGEST), layer_key(REPOSITORY, DIGEST),
                tag_key(REPOSITORY, "1"))
    wait_settled(tarn)
    keys = [key for _, key in writes(object_store)]
    assert keys.index(data_key(DIGEST)) < keys.index(layer_key(REPOSITORY, DIGEST))
    assert keys.index(data_key(digest)) < keys.index(revision_key(REPOSITORY, digest)) \
        < keys.index(tag_key(REPOSITORY, "1"))
    assert sorted(keys) == sorted(set(keys)), "something was written twice"
    assert object_store.get(layer_key(REPOSITORY, DIGEST)) == DIGEST.encode()
    assert object_store.get(tag_key(REPOSITORY, "1")) == digest.encode()
    revision = object_store.requests_of("put", revision_key(REPOSITORY, digest))[0]
    assert revision.headers["content-type"] == OCI_MANIFEST
    data = object_store.requests_of("put", data_key(DIGEST))[0]
    assert data.headers["x-amz-content-sha256"] == DIGEST[7:]
    assert tarn.metrics()['tarn_bucket_uploads_total{outcome="stored"}'] == 2


def test_one_put_is_visible_soon(start, upstream, object_store):
    upstream.repository("org/app").add_blob(LAYER)
    tarn = start()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    began = time.monotonic()
    wait_stored(object_store, data_key(DIGEST), layer_key(REPOSITORY, DIGEST))
    assert time.monotonic() - began < 2


def test_what_is_unchanged_is_not_written_again(start, upstream, object_store):
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start()
    tarn.manifest("org/app", "1")
    assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_stored(object_store, layer_key(REPOSITORY, DIGEST), tag_key(REPOSITORY, "1"))
    wait_settled(tarn)
    before = writes(object_store)
    for _ in range(3):
        assert tarn.manifest("org/app", "1").status == 200
        assert tarn.blob("org/app", DIGEST).body == LAYER
    second = start()
    second.manifest("org/app", "1")
    assert second.blob("org/app", DIGEST).body == LAYER
    wait_until(lambda: object_store.count("get", tag_key(REPOSITORY, "1")) > 1, "a look at the tag")
    wait_settled(second)
    assert writes(object_store) == before


def test_a_tag_that_moves_is_overwritten(start, upstream, object_store):
    repository = upstream.repository("org/app")
    old, new = manifest(b"old", []), manifest(b"new", [])
    repository.add_manifest(old, tag="1")
    tarn = start()
    tarn.manifest("org/app", "1")
    wait_stored(object_store, tag_key(REPOSITORY, "1"))
    repository.add_manifest(new, tag="1")
    assert tarn.manifest("org/app", "1").body == new
    wait_until(lambda: object_store.get(tag_key(REPOSITORY, "1")) == digest_of(new).encode(),
               "the new digest in the tag's link")


def test_a_blob_of_a_second_repository_is_linked(start, upstream, object_store):
    for name in ("org/app", "org/other"):
        upstream.repository(name).add_blob(LAYER)
    tarn = start()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    tarn.wait_cached("org/app", DIGEST)
    assert tarn.blob("org/other", DIGEST).body == LAYER
    wait_stored(object_store, layer_key("fake.test/org/other", DIGEST))
    assert object_store.count("put", data_key(DIGEST)) == 1


def test_a_read_only_bucket_is_not_written(start, upstream, object_store):
    upstream.image("org/app", [LAYER], tag="1")
    tarn = start({"read_only": True})
    tarn.manifest("org/app", "1")
    assert tarn.blob("org/app", DIGEST).body == LAYER
    tarn.wait_cached("org/app", DIGEST)
    assert writes(object_store) == [] and pending(tarn) == []


# ---- in parts

def parts_of(store):
    return store.requests_of("part", data_key(HUGE_DIGEST))


def test_a_large_blob_goes_in_parts_while_it_arrives(start, upstream, object_store):
    upstream.repository("org/app").add_blob(HUGE)
    gate = threading.Event()
    upstream.fault(f"/blobs/{HUGE_DIGEST}", ignore_range=True, hold_after=70 * MIB, gate=gate)
    tarn = start(upstream_settings={"connections": 1})
    with tarn.download(f"/v2/org/app/blobs/{HUGE_DIGEST}") as download:
        wait_until(lambda: len(parts_of(object_store)) >= 3, "parts before the blob's end", 60)
        assert object_store.get(data_key(HUGE_DIGEST)) is None
        gate.set()
        download.read(len(HUGE))
        assert digest_of(download.body) == HUGE_DIGEST
    began = time.monotonic()
    wait_stored(object_store, layer_key(REPOSITORY, HUGE_DIGEST))
    assert time.monotonic() - began < 10
    sizes = [request.received for request in parts_of(object_store)]
    assert sorted(sizes) == sorted([16 * MIB] * 5 + [5])
    assert digest_of(object_store.get(data_key(HUGE_DIGEST))) == HUGE_DIGEST
    assert object_store.count("complete") == 1
    assert object_store.uploads == {}


def test_wrong_bytes_are_never_completed(start, upstream, object_store):
    upstream.repository("org/app").add_blob(HUGE)
    upstream.fault(f"/blobs/{HUGE_DIGEST}", flip=70 * MIB)
    tarn = start(upstream_settings={"connections": 1})
    assert digest_of(tarn.blob("org/app", HUGE_DIGEST).body) != HUGE_DIGEST
    wait_until(lambda: not object_store.uploads, "the upload aborted")
    assert object_store.count("complete") == 0
    assert object_store.get(data_key(HUGE_DIGEST)) is None


@pytest.mark.parametrize("operation", ["part", "complete"])
def test_a_forgotten_upload_is_begun_anew(start, upstream, object_store, operation):
    upstream.repository("org/app").add_blob(HUGE)
    object_store.fault(operation, data_key(HUGE_DIGEST), times=1, code="NoSuchUpload")
    tarn = start()
    assert digest_of(tarn.blob("org/app", HUGE_DIGEST).body) == HUGE_DIGEST
    wait_stored(object_store, layer_key(REPOSITORY, HUGE_DIGEST), seconds=60)
    assert digest_of(object_store.get(data_key(HUGE_DIGEST))) == HUGE_DIGEST


def test_a_completion_that_fails_in_its_body_is_none(start, upstream, object_store):
    upstream.repository("org/app").add_blob(HUGE)
    object_store.fault("complete", times=1, late_code="InternalError")
    tarn = start()
    assert digest_of(tarn.blob("org/app", HUGE_DIGEST).body) == HUGE_DIGEST
    wait_stored(object_store, layer_key(REPOSITORY, HUGE_DIGEST), seconds=60)
    assert digest_of(object_store.get(data_key(HUGE_DIGEST))) == HUGE_DIGEST


@pytest.mark.parametrize("size", [30 * MIB, 20 * KIB])
def test_a_blob_that_passes_through_is_uploaded(start, upstream, object_store, size):
    content = noise(size, seed=4)
    upstream.repository("org/app").add_blob(content)
    tarn = start(max_size="10MiB" if size > MIB else "10KiB")
    assert digest_of(tarn.blob("org/app", digest_of(content)).body) == digest_of(content)
    wait_stored(object_store, layer_key(REPOSITORY, digest_of(content)))
    assert digest_of(object_store.get(data_key(digest_of(content)))) == digest_of(content)
    wait_settled(tarn)


def test_a_slow_bucket_holds_up_no_client_of_a_blob_that_passes_through(start, upstream,
                                                                        object_store):
    upstream.repository("org/app").add_blob(HUGE)
    object_store.fault("part", upload_bytes_per_second=100 * KIB)
    tarn = start(max_size="10MiB")
    began = time.monotonic()
    assert digest_of(tarn.blob("org/app", HUGE_DIGEST).body) == HUGE_DIGEST
    assert time.monotonic() - began < 30
    tarn.kill()


# ---- what is not there yet

def test_what_a_dead_bucket_did_not_take_is_pending_and_written_later(start, upstream,
                                                                      object_store):
    upstream.image("org/app", [LAYER], tag="1")
    object_store.fault(code="ServiceUnavailable")
    tarn = start()
    assert tarn.manifest("org/app", "1").status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_until(lambda: len(pending(tarn)) == 2, "two names in pending/")
    assert f"sha256-{DIGEST[7:]}" in pending(tarn)
    assert tarn.metrics()["tarn_bucket_pending"] == 2
    assert tarn.get("/readyz").status == 200
    tarn.restart()
    assert len(pending(tarn)) == 2
    assert tarn.metrics()["tarn_bucket_pending"] == 2
    object_store.heal()
    wait_stored(object_store, layer_key(REPOSITORY, DIGEST), tag_key(REPOSITORY, "1"), seconds=90)
    wait_settled(tarn)
    wait_until(lambda: tarn.metrics()["tarn_bucket_pending"] == 0, "no pending name")


def test_after_a_crash_what_is_pending_is_written(start, upstream, object_store):
    upstream.repository("org/app").add_blob(LAYER)
    object_store.fault("put", code="ServiceUnavailable")
    tarn = start()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_until(lambda: pending(tarn), "a name in pending/")
    tarn.wait_cached("org/app", DIGEST)
    tarn.kill()
    object_store.heal()
    tarn.start()
    wait_stored(object_store, data_key(DIGEST), layer_key(REPOSITORY, DIGEST))
    wait_settled(tarn)


def test_what_was_evicted_is_not_pending_any_more(start, upstream, object_store, program):
    upstream.repository("org/app").add_blob(LAYER)
    object_store.fault("put", code="ServiceUnavailable")
    tarn = start()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_until(lambda: pending(tarn), "a name in pending/")
    tarn.wait_cached("org/app", DIGEST)
    run([program, "prune", "--config", tarn.config_path, "--to-size", "0"])
    wait_settled(tarn, 60)


def test_the_end_waits_for_what_can_be_written(start, upstream, object_store):
    upstream.repository("org/app").add_blob(LAYER)
    object_store.fault("put", data_key(DIGEST), upload_bytes_per_second=200 * KIB)
    tarn = start(grace="10s")
    assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_until(lambda: pending(tarn), "a name in pending/")
    tarn.stop()
    assert object_store.get(data_key(DIGEST)) == LAYER
    assert object_store.get(layer_key(REPOSITORY, DIGEST)) == DIGEST.encode()


# ---- marks

def test_a_use_is_marked_when_the_last_one_is_long_ago(start, upstream, object_store):
    put_blob(object_store, LAYER, DIGEST, REPOSITORY)
    object_store.make_older(3600)
    tarn = start({"retention": "4h"})
    assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_stored(object_store, used_key(DIGEST))
    assert object_store.get(used_key(DIGEST)) == b""
    tarn.wait_cached("org/app", DIGEST)
    for _ in range(3):
        assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_settled(tarn)
    assert object_store.count("put", "/used/") == 1


def test_a_use_of_what_is_young_is_not_marked(start, upstream, object_store):
    put_blob(object_store, LAYER, DIGEST, REPOSITORY)
    object_store.make_older(600)
    tarn = start({"retention": "4h"})
    assert tarn.blob("org/app", DIGEST).body == LAYER
    tarn.wait_cached("org/app", DIGEST)
    assert tarn.blob("org/app", DIGEST).body == LAYER
    tarn.stop()
    assert object_store.count("put", "/used/") == object_store.count("head", "/used/") == 0


def test_a_hit_on_the_local_disk_is_a_use(start, upstream, object_store):
    upstream.repository("org/app").add_blob(LAYER)
    tarn = start({"retention": "8s"})
    assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_stored(object_store, data_key(DIGEST))
    tarn.wait_cached("org/app", DIGEST)

    def is_marked():
        assert tarn.blob("org/app", DIGEST).body == LAYER
        return object_store.get(used_key(DIGEST)) is not None
    wait_until(is_marked, "a mark")
    marks = object_store.requests_of("put", "/used/")
    heads = object_store.requests_of("head", "/used/")
    assert heads and heads[0].started <= marks[0].started


def test_a_mark_of_another_tarn_is_enough(start, upstream, object_store):
    put_blob(object_store, LAYER, DIGEST, REPOSITORY)
    object_store.make_older(7200)
    object_store.put(used_key(DIGEST), b"", age=60)
    tarn = start({"retention": "4h"})
    assert tarn.blob("org/app", DIGEST).body == LAYER
    wait_until(lambda: object_store.count("head", "/used/") == 1, "a look at the mark")
    tarn.stop()
    assert object_store.count("put", "/used/") == 0


def test_a_use_of_a_manifest_in_memory_is_marked(start, upstream, object_store):
    image = manifest(b"{}", [])
    put_manifest(object_store, image, digest_of(image), REPOSITORY, OCI_MANIFEST)
    object_store.make_older(7200)
    tarn = start({"retention": "4h"})

    def is_marked():
        assert tarn.manifest("org/app", digest_of(image)).status == 200
        tarn.blob("org/app", digest_of(b"nothing"))  # tells the store of uses in memory
        return object_store.get(used_key(digest_of(image))) is not None
    wait_until(is_marked, "a mark")


def test_without_a_retention_nothing_is_marked(start, upstream, object_store):
    put_blob(object_store, LAYER, DIGEST, REPOSITORY)
    object_store.make_older(10 ** 7)
    tarn = start({"retention": "0"})
    assert tarn.blob("org/app", DIGEST).body == LAYER
    tarn.wait_cached("org/app", DIGEST)
    assert tarn.blob("org/app", DIGEST).body == LAYER
    tarn.stop()
    assert object_store.count(key="/used/") == 0


# ---- what was here before the bucket

def test_what_was_cached_before_there_was_a_bucket_is_brought_there(start, start_tarn, upstream,
                                                                    object_store, tmp_path):
    image = manifest(b"{}", [LAYER, HUGE])
    other = manifest(b"{}", [])
    for content in (b"{}", LAYER, HUGE):
        upstream.repository("org/app").add_blob(content)
    upstream.repository("org/app").add_manifest(image, tag="1")
    upstream.repository("lib").add_manifest(other)
    root = tmp_path / "root"
    before = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                        root=str(root))
    assert before.manifest("org/app", "1").body == image
    assert before.manifest("lib", digest_of(other)).body == other
    for content in (b"{}", LAYER, HUGE):
        before.blob("org/app", digest_of(content))
        before.wait_cached("org/app", digest_of(content))
    before.stop()
    upstream.stop()
    tarn = start({"retention": "0"}, root=str(root))
    wait_stored(object_store, tag_key(REPOSITORY, "1"), seconds=60)
    wait_stored(object_store, revision_key("fake.test/lib", digest_of(other)),
                revision_key(REPOSITORY, digest_of(image)),
                *(layer_key(REPOSITORY, digest_of(content)) for content in (b"{}", LAYER, HUGE)))
    for content in (b"{}", LAYER, HUGE, image, other):
        assert digest_of(object_store.get(data_key(digest_of(content)))) == digest_of(content)
    wait_until(lambda: "was here before the bucket" in tarn.log(), "the line")
    # Once is enough.
    tarn.stop()
    seen = object_store.count()
    tarn = start({"retention": "0"}, root=str(root))
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert tarn.manifest("org/app", digest_of(image)).body == image
    tarn.stop()
    assert object_store.count() == seen


def test_what_is_not_brought_there_before_the_end_is_brought_later(start, start_tarn, upstream,
                                                                   object_store, tmp_path):
    upstream.repository("org/app").add_blob(LAYER)
    root = tmp_path / "root"
    before = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                        root=str(root))
    before.blob("org/app", DIGEST)
    before.wait_cached("org/app", DIGEST)
    before.stop()
    object_store.fault(code="ServiceUnavailable")
    tarn = start(root=str(root))
    wait_until(object_store.count, "a request")
    tarn.stop()
    object_store.heal()
    start(root=str(root))
    wait_stored(object_store, data_key(DIGEST), layer_key(REPOSITORY, DIGEST), seconds=60)


def test_a_manifest_that_the_disk_does_not_take_is_uploaded(start, upstream, object_store):
    image = manifest(b"{}", [noise(100, seed=one) for one in range(20)])
    upstream.repository("org/app").add_manifest(image, tag="1")
    tarn = start(max_size="1KiB")
    assert tarn.manifest("org/app", "1").body == image
    wait_stored(object_store, tag_key(REPOSITORY, "1"))
    assert object_store.get(data_key(digest_of(image))) == image
    assert object_store.get(revision_key(REPOSITORY, digest_of(image))) == \
        digest_of(image).encode()
    wait_settled(tarn)
