"""The bucket as a tier: what is read from it, and what is not waited for."""

import time

import pytest

from kit.client import raw
from kit.content import KIB, MIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.processes import wait_until
from kit.shared_bucket import (data_key, layer_key, put_blob, put_manifest, revision_key, starter,
                               tag_key, wait_settled, wait_stored)

LAYER = noise(300 * KIB)
DIGEST = digest_of(LAYER)
BIG = noise(40 * MIB + 77, seed=1)
BIG_DIGEST = digest_of(BIG)
REPOSITORY = "fake.test/org/app"


@pytest.fixture
def start(start_tarn, upstream, object_store):
    return starter(start_tarn, upstream, object_store)


def get_ranges(store, digest):
    return [request.headers.get("range") for request in
            store.requests_of("get", data_key(digest))]


def test_what_the_bucket_lacks_costs_one_get_of_the_data(start, upstream, object_store):
    upstream.image("org/app", [LAYER])
    tarn = start({"read_only": True})
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert [request.operation for request in object_store.requests_of(key=DIGEST[7:])] == ["get"]


def test_a_linked_blob_comes_from_the_bucket_alone(start, upstream, object_store):
    put_blob(object_store, LAYER, DIGEST, REPOSITORY)
    tarn = start()
    answer = tarn.blob("org/app", DIGEST)
    assert answer.body == LAYER
    assert answer.headers["cache-status"] == "tarn; fwd=miss; detail=bucket"
    assert upstream.asked() == []
    outcome = 'tarn_requests_total{upstream="fake.test",type="blob",outcome="bucket"}'
    wait_until(lambda: tarn.metrics()[outcome] == 1, "the request counted")
    metrics = tarn.metrics()
    assert metrics['registry_proxy_hits_total{type="blob"}'] == 1
    assert metrics['registry_proxy_misses_total{type="blob"}'] == 0
    # It is kept here, too.
    tarn.wait_cached("org/app", DIGEST)
    assert tarn.blob("org/app", DIGEST).headers["cache-status"] == "tarn; hit"
    assert object_store.count("get", data_key(DIGEST)) == 1


def test_a_pull_from_the_bucket_costs_so_many_requests(start, upstream, object_store):
    """As docs/object-storage.md says: of each blob and manifest the data and the link."""
    config = b"{}"
    image = manifest(config, [LAYER, BIG[:MIB]])
    for content in (config, LAYER, BIG[:MIB]):
        put_blob(object_store, content, digest_of(content), REPOSITORY)
    put_manifest(object_store, image, digest_of(image), REPOSITORY, OCI_MANIFEST)
    tarn = start()
    assert tarn.manifest("org/app", digest_of(image)).body == image
    for content in (config, LAYER, BIG[:MIB]):
        assert tarn.blob("org/app", digest_of(content)).body == content
    wait_settled(tarn)
    assert upstream.asked() == []
    assert [request.operation for request in object_store.requests] == ["get"] * 8


def test_a_large_blob_comes_over_several_ranges_and_each_byte_once(start, object_store):
    put_blob(object_store, BIG, BIG_DIGEST, REPOSITORY)
    tarn = start()
    assert digest_of(tarn.blob("org/app", BIG_DIGEST).body) == BIG_DIGEST
    assert len(get_ranges(object_store, BIG_DIGEST)) >= 2
    assert object_store.sent_bytes(data_key(BIG_DIGEST)) == len(BIG)


@pytest.mark.parametrize("size", [16 * MIB, 16 * MIB + 1])
def test_from_16_mib_on_there_are_two_ranges(start, object_store, size):
    content = noise(size, seed=3)
    put_blob(object_store, content, digest_of(content), REPOSITORY)
    assert digest_of(start().blob("org/app", digest_of(content)).body) == digest_of(content)
    assert len(get_ranges(object_store, digest_of(content))) >= 2
    assert object_store.sent_bytes(data_key(digest_of(content))) == size


def test_no_condition_is_put_on_a_reading(start, object_store):
    put_blob(object_store, BIG, BIG_DIGEST, REPOSITORY)
    object_store.etags = "random"
    start().blob("org/app", BIG_DIGEST)
    for request in object_store.requests:
        assert not {"if-match", "if-none-match", "if-range"} & set(request.headers)


def test_an_empty_blob_is_read(start, upstream, object_store):
    put_blob(object_store, b"", digest_of(b""), REPOSITORY)
    answer = start().blob("org/app", digest_of(b""))
    assert (answer.status, answer.body) == (200, b"")
    assert upstream.asked() == []


@pytest.mark.parametrize("wanted", ["bytes=1000-1999", "bytes=-1000", "bytes=299000-"])
def test_a_range_of_a_cold_blob_comes_from_the_bucket(start, upstream, object_store, wanted):
    put_blob(object_store, LAYER, DIGEST, REPOSITORY)
    answer = start().blob("org/app", DIGEST, {"Range": wanted})
    first, last = {"bytes=1000-1999": (1000, 2000), "bytes=-1000": (len(LAYER) - 1000, len(LAYER)),
                   "bytes=299000-": (299000, len(LAYER))}[wanted]
    assert (answer.status, answer.body) == (206, LAYER[first:last])
    assert upstream.asked() == []


# ---- who may read

def test_without_a_link_upstream_is_asked_with_one_head(start, upstream, object_store):
    upstream.repository("org/app").add_blob(LAYER)
    put_blob(object_store, LAYER, DIGEST)
    tarn = start()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert [request.method for request in upstream.asked("/blobs/")] == ["HEAD"]
    wait_stored(object_store, layer_key(REPOSITORY, DIGEST))


def test_a_repository_that_upstream_denies_gets_nothing_of_the_bucket(start, upstream,
                                                                      object_store):
    upstream.repository("org/other").add_blob(LAYER)
    upstream.repository("org/app")
    put_blob(object_store, LAYER, DIGEST, "fake.test/org/other")
    tarn = start()
    assert tarn.blob("org/app", DIGEST).status == 404
    assert tarn.head(f"/v2/org/app/blobs/{DIGEST}").status == 404
    assert tarn.blob("org/other", DIGEST).body == LAYER


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_without_a_link_and_an_upstream_nothing_is_read(start, upstream, object_store, method):
    put_blob(object_store, LAYER, DIGEST)
    tarn = start()
    upstream.stop()
    assert tarn.blob("org/app", DIGEST, method=method).status in (502, 504)


def test_a_link_that_names_another_digest_is_none(start, upstream, object_store):
    upstream.repository("org/app")
    object_store.put(data_key(DIGEST), LAYER)
    object_store.put(layer_key(REPOSITORY, DIGEST), digest_of(b"other").encode())
    assert start().blob("org/app", DIGEST).status == 404


# ---- manifests and tags

def test_a_manifest_by_digest_comes_from_the_bucket(start, upstream, object_store):
    image = manifest(b"{}", [LAYER])
    put_manifest(object_store, image, digest_of(image), REPOSITORY, OCI_MANIFEST)
    tarn = start()
    answer = tarn.manifest("org/app", digest_of(image))
    assert (answer.body, answer.headers["content-type"]) == (image, OCI_MANIFEST)
    assert answer.headers["cache-status"] == "tarn; fwd=miss; detail=bucket"
    assert upstream.asked() == []


def test_a_manifest_without_a_link_is_confirmed_by_upstream(start, upstream, object_store):
    image = manifest(b"{}", [LAYER])
    upstream.repository("org/app").add_manifest(image)
    object_store.put(data_key(digest_of(image)), image)
    tarn = start()
    assert tarn.manifest("org/app", digest_of(image)).body == image
    assert [request.method for request in upstream.asked("/manifests/")] == ["HEAD"]
    wait_stored(object_store, revision_key(REPOSITORY, digest_of(image)))


def test_upstream_is_asked_first_about_a_tag(start, upstream, object_store):
    old, new = manifest(b"old", []), manifest(b"new", [])
    upstream.repository("org/app").add_manifest(new, tag="1")
    put_manifest(object_store, old, digest_of(old), REPOSITORY, OCI_MANIFEST, "1")
    assert start().manifest("org/app", "1").body == new


def test_the_buckets_tag_is_served_when_upstream_is_dead(start, upstream, object_store):
    image = manifest(b"{}", [LAYER])
    put_manifest(object_store, image, digest_of(image), REPOSITORY, OCI_MANIFEST, "1")
    tarn = start()
    upstream.stop()
    answer = tarn.manifest("org/app", "1")
    assert answer.body == image
    assert answer.headers["cache-status"] == "tarn; fwd=miss; detail=bucket"
    # From then on it is held here, as stale.
    tag = tarn.root / "repositories" / "fake.test" / "org" / "app" / "_tags" / "1"
    wait_until(tag.exists, f"{tag}")
    object_store.stop()
    assert tarn.manifest("org/app", "1").body == image


def test_the_buckets_tag_is_served_while_upstream_is_silent(start, upstream, object_store):
    image = manifest(b"{}", [LAYER])
    put_manifest(object_store, image, digest_of(image), REPOSITORY, OCI_MANIFEST, "1")
    tarn = start(upstream_settings={"first_byte_timeout": "20s", "stall_timeout": "20s"})
    upstream.fault("/manifests/", method=None, black_hole=True)
    began = time.monotonic()
    assert tarn.manifest("org/app", "1", timeout=30).body == image
    assert time.monotonic() - began < 12


def test_a_tag_that_upstream_has_deleted_does_not_come_from_the_bucket(start, upstream,
                                                                       object_store):
    image = manifest(b"{}", [LAYER])
    upstream.repository("org/app")
    put_manifest(object_store, image, digest_of(image), REPOSITORY, OCI_MANIFEST, "1")
    assert start().manifest("org/app", "1").status == 404


# ---- what is not waited for

@pytest.mark.parametrize("fault", [
    {"black_hole": True}, {"hold_after": 0}, {"drop": True}, {"reset": True},
    {"code": "SlowDown"}, {"code": "InternalError"}, {"code": "AccessDenied"},
    {"code": "SignatureDoesNotMatch"}])
def test_a_bucket_that_does_not_answer_is_not_waited_for(start, upstream, object_store, fault):
    upstream.image("org/app", [LAYER])
    put_blob(object_store, LAYER, DIGEST, REPOSITORY)
    object_store.fault("get|head", data_key(DIGEST), **fault)
    tarn = start({"patience": "1s"})
    began = time.monotonic()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert time.monotonic() - began < 3
    assert len(upstream.asked("/blobs/")) == 1


@pytest.mark.parametrize("fault", [{"reset_after": 3 * MIB}, {"cut_after": 3 * MIB},
                                   {"hold_after": 3 * MIB}])
def test_after_a_fault_in_mid_body_the_rest_comes_from_upstream(start, upstream, object_store,
                                                                fault):
    upstream.repository("org/app").add_blob(BIG)
    put_blob(object_store, BIG, BIG_DIGEST, REPOSITORY)
    object_store.fault("get", data_key(BIG_DIGEST), **fault)
    tarn = start()
    assert digest_of(tarn.blob("org/app", BIG_DIGEST).body) == BIG_DIGEST
    assert upstream.blob_bytes() < len(BIG)
    assert tarn.metrics()["tarn_bucket_wrong_total"] == 0


# ---- what is waited for, because nobody else gives it

def slow_image(object_store, delay=1.6):
    """An image in a bucket each of whose answers takes longer than the patience."""
    image = manifest(b"{}", [LAYER])
    put_manifest(object_store, image, digest_of(image), REPOSITORY, OCI_MANIFEST, "1")
    for content in (b"{}", LAYER):
        put_blob(object_store, content, digest_of(content), REPOSITORY)
    object_store.fault("get|head", "", delay=delay)
    return image


def test_all_of_a_slow_bucket_is_served_when_upstream_is_dead(start, upstream, object_store):
    """Late bytes are better than none, also when the breaker is open by then."""
    image = slow_image(object_store)
    upstream.stop()
    tarn = start({"patience": "1s"})
    assert tarn.manifest("org/app", "1").body == image
    assert tarn.manifest("org/app", digest_of(image)).body == image
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert tarn.head(f"/v2/org/app/blobs/{digest_of(b'{}')}").status == 200
    assert tarn.blob("org/app", digest_of(b"{}")).body == b"{}"
    assert "asking the bucket once more" in tarn.log()


@pytest.mark.parametrize("what", ["manifest", "blob", "head"])
def test_what_a_slow_bucket_has_is_served_when_upstream_fails(start, upstream, object_store, what):
    image = slow_image(object_store)
    upstream.fault("", method=None, status=503)
    tarn = start({"patience": "1s"})
    if what == "manifest":
        assert tarn.manifest("org/app", digest_of(image)).body == image
    elif what == "blob":
        assert tarn.blob("org/app", DIGEST).body == LAYER
    else:
        assert tarn.head(f"/v2/org/app/blobs/{DIGEST}").status == 200


def test_what_upstream_refuses_does_not_come_from_a_slow_bucket(start, upstream, object_store):
    slow_image(object_store)
    upstream.repository("org/app")
    assert start({"patience": "1s"}).blob("org/app", DIGEST).status == 404


def test_a_fault_in_mid_body_is_survived_without_an_upstream(start, upstream, object_store):
    """The bucket is the last place as well as the first."""
    put_blob(object_store, BIG, BIG_DIGEST, REPOSITORY)
    object_store.fault("get", data_key(BIG_DIGEST), reset_after=3 * MIB, times=2)
    upstream.stop()
    tarn = start()
    assert digest_of(tarn.blob("org/app", BIG_DIGEST).body) == BIG_DIGEST
    assert tarn.metrics()["tarn_bucket_wrong_total"] == 0


def test_a_dead_bucket_and_a_dead_upstream_are_an_error_of_upstream(start, upstream, object_store):
    object_store.stop()
    upstream.stop()
    tarn = start()
    began = time.monotonic()
    for _ in range(3): # 503: upstream's own breaker is open
        answer = tarn.blob("org/app", DIGEST)
        assert answer.status in (502, 503, 504) and b"fake.test" in answer.body
        assert tarn.manifest("org/app", "1").status in (502, 503, 504)
    assert time.monotonic() - began < 30


def test_wrong_bytes_that_come_late_are_never_whole(start, upstream, object_store):
    put_blob(object_store, LAYER[:-1] + b"\0", DIGEST, REPOSITORY)
    object_store.fault("get", "", delay=1.6)
    upstream.stop()
    tarn = start({"patience": "1s"})
    first = raw(tarn.port, f"GET /v2/org/app/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\n"
                           "Connection: close\r\n\r\n".encode())
    assert len(first.partition(b"\r\n\r\n")[2]) < len(LAYER)
    assert tarn.metrics()["tarn_bucket_wrong_total"] == 1


# ---- lists of tags, and links that upstream is to confirm

def test_the_buckets_tags_are_listed_when_upstream_is_dead(start, upstream, object_store):
    image = manifest(b"{}", [LAYER])
    for tag in ("2", "1", "10"):
        put_manifest(object_store, image, digest_of(image), REPOSITORY, OCI_MANIFEST, tag)
    put_manifest(object_store, image, digest_of(image), REPOSITORY + "/more", OCI_MANIFEST, "no")
    index = tag_key(REPOSITORY, "1").replace("current", f"index/sha256/{digest_of(image)[7:]}")
    object_store.put(index, digest_of(image).encode())
    object_store.page_size = 2
    upstream.fault("", method=None, status=500)
    answer = start().get("/v2/org/app/tags/list")
    assert answer.status == 200
    assert answer.json() == {"name": "org/app", "tags": ["1", "10", "2"]}
    assert answer.headers["cache-status"] == "tarn; fwd=miss; detail=bucket"


@pytest.mark.parametrize("status", [404, 403, 500])
def test_without_a_tag_in_the_bucket_a_list_is_what_upstream_says(start, upstream, object_store,
                                                                 status):
    if status != 500:
        put_manifest(object_store, b"{}", digest_of(b"{}"), REPOSITORY, OCI_MANIFEST, "1")
    upstream.fault("/tags/list", method=None, status=status)
    expected = {404: 404, 403: 403, 500: 502}[status]
    assert start().get("/v2/org/app/tags/list").status == expected


def test_with_link_ttl_a_link_of_the_bucket_counts_only_when_upstream_fails(start, upstream,
                                                                           object_store):
    image = manifest(b"{}", [LAYER])
    put_blob(object_store, LAYER, DIGEST, REPOSITORY)
    put_manifest(object_store, image, digest_of(image), REPOSITORY, OCI_MANIFEST, "1")
    upstream.repository("org/app").add_blob(LAYER)
    upstream.repository("org/app").add_manifest(image, tag="1")
    upstream.fault("", method=None, status=503)
    tarn = start(upstream_settings={"link_ttl": "1h"})
    for _ in range(2):
        assert tarn.manifest("org/app", "1").body == image
        assert tarn.manifest("org/app", digest_of(image)).body == image
        assert tarn.head(f"/v2/org/app/blobs/{DIGEST}").status == 200
        assert tarn.blob("org/app", DIGEST).body == LAYER
    # Nothing of that counts as confirmed.
    upstream.heal()
    upstream.fault("", method=None, status=403,
                   body=b'{"errors":[{"code":"DENIED","message":"no"}]}',
                   headers={"Docker-Distribution-Api-Version": "registry/2.0"})
    def is_refused():
        return {tarn.manifest("org/app", digest_of(image)).status,
                tarn.blob("org/app", DIGEST).status} == {403}
    wait_until(is_refused, "the refusals", 90)


# ---- wrong bytes

def healed(store, content, digest):
    wait_until(lambda: store.get(data_key(digest)) == content, "the right bytes in the bucket")


@pytest.mark.parametrize("wrong", [
    LAYER[:-1] + bytes([LAYER[-1] ^ 1]), bytes([LAYER[0] ^ 1]) + LAYER[1:],
    LAYER[:1000], LAYER + b"more"], ids=["last byte", "first byte", "too short", "too long"])
def test_wrong_bytes_are_never_whole_and_are_healed(start, upstream, object_store, wrong):
    upstream.repository("org/app").add_blob(LAYER)
    put_blob(object_store, wrong, DIGEST, REPOSITORY)
    tarn = start()
    first = raw(tarn.port, f"GET /v2/org/app/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\n"
                           "Connection: close\r\n\r\n".encode())
    body = first.partition(b"\r\n\r\n")[2]
    assert len(body) < len(wrong)
    assert tarn.blob("org/app", DIGEST).body == LAYER
    healed(object_store, LAYER, DIGEST)
    assert tarn.metrics()["tarn_bucket_wrong_total"] == 1
    assert "wrong bytes" in tarn.log()


@pytest.mark.parametrize("length", [len(LAYER) + 7, len(LAYER) - 7])
def test_a_length_that_contradicts_the_range_is_wrong_and_healed(start, upstream, object_store,
                                                                 length):
    upstream.repository("org/app").add_blob(LAYER)
    put_blob(object_store, LAYER, DIGEST, REPOSITORY)
    object_store.fault("get", data_key(DIGEST), content_length=length, times=1)
    tarn = start()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    healed(object_store, LAYER, DIGEST)
    assert tarn.metrics()["tarn_bucket_wrong_total"] == 1


def test_an_empty_object_is_wrong_and_healed(start, upstream, object_store):
    upstream.repository("org/app").add_blob(LAYER)
    put_blob(object_store, b"", DIGEST, REPOSITORY)
    tarn = start()
    assert tarn.blob("org/app", DIGEST).body == LAYER
    healed(object_store, LAYER, DIGEST)
    assert tarn.metrics()["tarn_bucket_wrong_total"] == 1


def test_wrong_bytes_are_healed_although_no_client_comes_back(start, upstream, object_store):
    upstream.repository("org/app").add_blob(LAYER)
    put_blob(object_store, LAYER[::-1], DIGEST, REPOSITORY)
    tarn = start()
    raw(tarn.port, f"GET /v2/org/app/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\n"
                   "Connection: close\r\n\r\n".encode())
    healed(object_store, LAYER, DIGEST)


def test_a_wrong_manifest_is_taken_from_upstream_and_healed(start, upstream, object_store):
    image = manifest(b"{}", [LAYER])
    upstream.repository("org/app").add_manifest(image)
    put_manifest(object_store, image[::-1], digest_of(image), REPOSITORY, OCI_MANIFEST)
    tarn = start()
    assert tarn.manifest("org/app", digest_of(image)).body == image
    healed(object_store, image, digest_of(image))
    assert tarn.metrics()["tarn_bucket_wrong_total"] == 1


def test_a_read_only_bucket_is_not_healed(start, upstream, object_store):
    upstream.repository("org/app").add_blob(LAYER)
    put_blob(object_store, LAYER[::-1], DIGEST, REPOSITORY)
    tarn = start({"read_only": True})
    raw(tarn.port, f"GET /v2/org/app/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\n"
                   "Connection: close\r\n\r\n".encode())
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert {request.method for request in object_store.requests} == {"GET"}


# ---- heads, and down

def test_a_head_of_a_cold_blob_is_answered_from_the_bucket(start, upstream, object_store):
    put_blob(object_store, LAYER, DIGEST, REPOSITORY)
    answer = start().head(f"/v2/org/app/blobs/{DIGEST}")
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(LAYER)))
    assert upstream.asked() == []
    assert object_store.count("get", data_key(DIGEST)) == 0


def test_everything_is_served_while_the_bucket_is_not_there(start, upstream, object_store):
    image = upstream.image("org/app", [LAYER])
    object_store.stop()
    tarn = start()
    assert tarn.manifest("org/app", "latest").status == 200
    assert tarn.blob("org/app", DIGEST).body == LAYER
    assert tarn.get("/readyz").status == 200
    assert image


@pytest.mark.slow
@pytest.mark.parametrize("read_only", [False, True])
def test_a_bucket_that_was_down_is_found_up_without_traffic(start, upstream, object_store,
                                                            read_only):
    upstream.image("org/app", [LAYER])
    object_store.fault(code="InternalError")
    tarn = start({"read_only": read_only})
    tarn.manifest("org/app", "latest")
    for seed in range(3):
        tarn.blob("org/app", digest_of(noise(10, seed=seed)))
    wait_until(lambda: tarn.metrics()["tarn_bucket_up"] == 0, "the bucket down")
    seen = object_store.count()
    wait_until(lambda: object_store.count() > seen, "a probe", 30)
    assert tarn.metrics()["tarn_bucket_up"] == 0
    object_store.heal()
    wait_until(lambda: tarn.metrics()["tarn_bucket_up"] == 1, "the bucket up", 60)
    wait_until(lambda: tarn.log().count("the bucket works again") == 1, "the line", 10)


def test_the_second_tarn_serves_all_that_the_first_had(start, upstream, object_store):
    image = manifest(b"{}", [LAYER, BIG])
    for content in (b"{}", LAYER, BIG):
        upstream.repository("org/app").add_blob(content)
    upstream.repository("org/app").add_manifest(image, tag="1")
    first = start()
    assert first.manifest("org/app", "1").body == image
    for content in (b"{}", LAYER, BIG):
        assert digest_of(first.blob("org/app", digest_of(content)).body) == digest_of(content)
    wait_settled(first)
    assert object_store.get(tag_key(REPOSITORY, "1")) == digest_of(image).encode()
    second = start()
    upstream.stop()
    assert second.manifest("org/app", "1").body == image
    assert second.manifest("org/app", digest_of(image)).body == image
    for content in (b"{}", LAYER, BIG):
        assert second.head(f"/v2/org/app/blobs/{digest_of(content)}").status == 200
        assert digest_of(second.blob("org/app", digest_of(content)).body) == digest_of(content)


@pytest.mark.slow
def test_a_bucket_that_is_slower_than_its_patience_is_written_and_not_read(start, upstream,
                                                                           object_store):
    contents = [noise(20 * KIB, seed=40 + number) for number in range(6)]
    for content in contents:
        upstream.repository("org/app").add_blob(content)
    object_store.fault(delay=1.0)
    tarn = start({"patience": "200ms"})
    for content in contents[:3]:
        assert tarn.blob("org/app", digest_of(content)).body == content
    wait_until(lambda: tarn.metrics()["tarn_bucket_up"] == 0, "the bucket down")
    wait_until(lambda: "later than bucket.patience" in tarn.log(), "a probe answered late", 60)
    for content in contents[:3]:
        wait_stored(object_store, data_key(digest_of(content)),
                    layer_key(REPOSITORY, digest_of(content)), seconds=60)
    seen = object_store.count("get", "/data")
    for content in contents[3:]:
        assert tarn.blob("org/app", digest_of(content)).body == content
        wait_stored(object_store, layer_key(REPOSITORY, digest_of(content)), seconds=60)
    assert object_store.count("get", "/data") == seen
    assert tarn.metrics()["tarn_bucket_up"] == 0
    object_store.heal()
    wait_until(lambda: tarn.metrics()["tarn_bucket_up"] == 1, "the bucket up", 90)
