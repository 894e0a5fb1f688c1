"""
Registries that refuse HEAD, for blobs or for manifests, and answer GET.

Some say so (405), some deny it (403), some lie (404), some close the connection, and some redirect
to a URL that is signed for GET alone.
"""

import pytest

from kit.content import (DOCKER_LIST, KIB, MIB, OCI_MANIFEST, SCHEMA_1, descriptor, digest_of, index,
                         noise, schema_1)
from kit.processes import wait_until
from kit.tokens import TokenService

TIMEOUTS = {}
LAYER = noise(300 * KIB)
DIGEST = digest_of(LAYER)
BIG = noise(8 * MIB, 1)
STATUSES = [400, 401, 403, 404, 405, 406, 500, 501, 502, 508, 520]

SIGNED = {"signed 403": {"status": 403}, "signed 400": {"status": 400}, "signed cut": {"drop": True}}
REFUSALS = {str(status): {"status": status} for status in STATUSES} | {
    "closed": {"drop": True}, "reset": {"reset": True}} | SIGNED
refusals = pytest.mark.parametrize("refusal", REFUSALS)


def refuse_heads(upstream, refusal, path="/blobs/"):
    """The registry refuses HEAD; or it redirects, and the store refuses HEAD."""
    if refusal in SIGNED:
        upstream.redirect = "elsewhere"
        path = "/downloads/"
    upstream.fault(path, method="HEAD", **REFUSALS[refusal])


def gets_of_bodies(upstream):
    """The GETs of a blob, but for those of its first byte."""
    return [request for request in upstream.asked("/blobs/", "GET") if request.range != (0, 0)]


@pytest.fixture
def two(upstream):
    """org/a and org/b share a layer; org/none has another."""
    for name in ("org/a", "org/b"):
        upstream.image(name, [LAYER], tag="1", config=name.encode())
    upstream.image("org/none", [b"another"], tag="1")
    return upstream


# ---- a manifest that is held for the repository proves that it has the blob


@refusals
def test_a_layer_in_the_cache_is_read_through_a_repository_whose_manifest_names_it(tarn, two,
                                                                                  refusal):
    refuse_heads(two, refusal)
    assert tarn.blob("org/a", DIGEST).body == LAYER
    tarn.wait_cached("org/a", DIGEST)
    assert tarn.manifest("org/b", "1").status == 200
    two.forget_requests()
    for method in ("HEAD", "GET"):
        reply = tarn.blob("org/b", DIGEST, method=method)
        assert (reply.status, reply["Content-Length"]) == (200, str(len(LAYER)))
    assert reply.body == LAYER
    assert two.asked() == []


@pytest.mark.parametrize("refusal", ["405", "404", "signed 403"])
def test_a_layer_under_way_is_read_through_a_repository_whose_manifest_names_it(tarn, upstream,
                                                                               refusal):
    for name in ("org/a", "org/b"):
        upstream.image(name, [BIG], tag="1")
    refuse_heads(upstream, refusal)
    assert tarn.manifest("org/b", "1").status == 200
    held = upstream.fault("/blobs/|/downloads/", hold_after=MIB)
    digest = digest_of(BIG)
    with tarn.download(f"/v2/org/a/blobs/{digest}") as first:
        first.read(KIB)
        with tarn.download(f"/v2/org/b/blobs/{digest}") as second:
            assert second.status == 200
            held.gate.set()
            assert second.read(len(BIG)) == BIG
    assert upstream.blob_bytes() == len(BIG)


def test_the_proof_outlives_the_tag_and_the_process(start_tarn, two):
    tarn = start_tarn([{"host": "fake.test", "url": two.url, "default": True, "tag_ttl": "0"}])
    two.fault("/blobs/", method="HEAD", status=405)
    assert tarn.manifest("org/b", "1").status == 200
    assert tarn.blob("org/a", DIGEST).body == LAYER
    tarn.wait_cached("org/a", DIGEST)
    two.repository("org/b").tags.clear()
    assert tarn.manifest("org/b", "1").status == 404
    tarn.restart()
    two.forget_requests()
    assert tarn.blob("org/b", DIGEST).body == LAYER
    assert two.asked() == []


def test_what_only_memory_holds_is_a_proof_too(tarn, two):
    """A signed manifest of schema 1 cannot be stored."""
    content, digest = schema_1("org/old", [DIGEST])
    two.repository("org/old").manifests[digest] = (content, SCHEMA_1)
    two.fault("/blobs/", method="HEAD", status=405)
    tarn.blob("org/a", DIGEST)
    tarn.wait_cached("org/a", DIGEST)
    two.fault("org/old/blobs", method=None, status=403)
    assert tarn.blob("org/old", DIGEST).status == 403
    assert tarn.manifest("org/old", digest).status == 200
    assert tarn.blob("org/old", DIGEST).body == LAYER


def test_a_child_of_an_index_is_a_proof_for_the_repository_that_it_was_pulled_through(tarn, two):
    child = two.repository("org/b").tags["1"]
    content = two.repository("org/b").manifests[child][0]
    two.repository("org/b").add_manifest(index([descriptor(content, OCI_MANIFEST)], DOCKER_LIST),
                                         DOCKER_LIST, "multi")
    two.fault("/blobs/", method="HEAD", status=405)
    tarn.blob("org/a", DIGEST)
    tarn.wait_cached("org/a", DIGEST)
    assert tarn.manifest("org/b", "multi").status == 200
    assert tarn.manifest("org/b", child).status == 200
    two.forget_requests()
    assert tarn.blob("org/b", DIGEST).body == LAYER
    assert two.asked() == []


# ---- without a manifest, the first byte is asked for


@refusals
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_without_a_manifest_a_get_of_one_byte_decides(tarn, two, refusal, ranges):
    big = digest_of(BIG)
    for name in ("org/a", "org/b"):
        two.repository(name).add_blob(BIG)
    refuse_heads(two, refusal)
    tarn.blob("org/a", big)
    tarn.wait_cached("org/a", big)
    sent = two.blob_bytes()
    if not ranges:
        two.fault("/blobs/|/downloads/", ignore_range=True)
    assert tarn.blob("org/b", big).body == BIG
    assert tarn.blob("org/none", big).status == 404
    two.wait_idle("/blobs/|/downloads/")
    assert two.blob_bytes() - sent < (2 if ranges else len(BIG))
    assert all(request.range == (0, 0) for request in two.asked("org/(b|none)/blobs", "GET"))


@refusals
def test_both_refused_stays_refused(tarn, two, refusal):
    refuse_heads(two, refusal)
    tarn.blob("org/a", DIGEST)
    tarn.wait_cached("org/a", DIGEST)
    two.fault("org/b/blobs", status=403)
    for method in ("GET", "HEAD"):
        assert tarn.blob("org/b", DIGEST, method=method).status == 403


# ---- HEAD of a cold blob


@refusals
@pytest.mark.parametrize("by", ["a manifest", "the first byte", "the head of the whole"])
def test_head_of_a_cold_blob_says_its_length(tarn, two, refusal, by):
    two.image("org/a", [BIG], tag="1")
    refuse_heads(two, refusal)
    if by == "a manifest":
        assert tarn.manifest("org/a", "1").status == 200
    if by == "the head of the whole":
        two.fault("/blobs/|/downloads/", ignore_range=True)
    for _ in range(2):
        reply = tarn.blob("org/a", digest_of(BIG), method="HEAD")
        assert (reply.status, reply["Content-Length"]) == (200, str(len(BIG)))
    two.wait_idle("/blobs/|/downloads/")
    assert two.blob_bytes() < len(BIG)
    assert gets_of_bodies(two) == []
    if by != "the head of the whole":
        assert two.blob_bytes() <= 1


@pytest.mark.parametrize("fault", [{"chunked": True}, {"until_close": True}, {"content_length": 0}],
                         ids=str)
def test_a_head_without_a_length_is_followed_by_a_get(tarn, two, fault):
    two.fault("/blobs/", method="HEAD", **fault)
    reply = tarn.blob("org/a", DIGEST, method="HEAD")
    assert (reply.status, reply["Content-Length"]) == (200, str(len(LAYER)))


def test_head_of_an_empty_blob(tarn, two):
    empty = two.repository("org/a").add_blob(b"")
    reply = tarn.blob("org/a", empty, method="HEAD")
    assert (reply.status, reply["Content-Length"]) == (200, "0")


@refusals
def test_a_blob_that_is_not_there_is_404(tarn, two, refusal):
    if refusal not in SIGNED:
        refuse_heads(two, refusal)
    reply = tarn.blob("org/a", digest_of(b"nothing"), method="HEAD")
    assert reply.status == 404
    assert tarn.blob("org/a", digest_of(b"nothing")).code == "BLOB_UNKNOWN"


def test_upstream_that_fails_is_not_taken_for_one_that_refuses_head(tarn, two):
    two.fault("/blobs/", method="HEAD", status=503)
    assert tarn.blob("org/a", DIGEST, method="HEAD").status == 502
    assert two.asked("/blobs/", "GET") == []
    two.fault("/blobs/", method="HEAD", status=429, headers={"Retry-After": "1"})
    two.refuse()
    assert tarn.blob("org/a", DIGEST, method="HEAD").status == 502


# ---- tokens


def test_a_401_to_a_head_does_not_cost_the_token_that_get_accepts(tarn, two):
    two.tokens = TokenService()
    two.fault("/blobs/", method="HEAD", status=401,
              headers={"WWW-Authenticate": f'Bearer realm="{two.url}/token",service="fake"'})
    assert tarn.manifest("org/a", "1").status == 200
    assert tarn.manifest("org/b", "1").status == 200
    two.tokens.refuse = 500
    two.forget_requests()
    assert tarn.blob("org/a", DIGEST, method="HEAD").status == 200
    assert tarn.blob("org/b", DIGEST, method="HEAD").status == 200
    assert tarn.blob("org/a", DIGEST).body == LAYER
    assert tarn.blob("org/b", DIGEST).body == LAYER
    assert two.asked("^/token") == []


def test_a_token_that_was_withdrawn_is_replaced_after_a_head(tarn, two):
    two.tokens = TokenService()
    assert tarn.manifest("org/a", "1").status == 200
    two.tokens.forget()
    assert tarn.blob("org/a", DIGEST, method="HEAD").status == 200
    assert len(two.asked("^/token")) == 2
    two.forget_requests()
    two.repository("org/a").add_blob(BIG)
    assert tarn.blob("org/a", digest_of(BIG), method="HEAD").status == 200
    assert [request.method for request in two.asked("/blobs/")] == ["HEAD"]  # it is not given up


# ---- what is remembered


@pytest.mark.parametrize("refusal", ["400", "403", "405", "501", "signed 403"])
def test_a_location_that_refused_one_head_is_asked_by_get(tarn, two, refusal):
    refuse_heads(two, refusal)
    for number in range(3):
        blob = two.repository("org/a").add_blob(noise(KIB, number))
        assert tarn.blob("org/a", blob, method="HEAD")["Content-Length"] == str(KIB)
    assert len(two.asked("/blobs/", "HEAD")) == 1


@pytest.mark.parametrize("refusal", ["404", "500", "502", "closed"])
def test_a_refusal_that_may_be_an_accident_counts_when_it_comes_again(tarn, two, refusal):
    refuse_heads(two, refusal)
    for number in range(4):
        blob = two.repository("org/a").add_blob(noise(KIB, number))
        assert tarn.blob("org/a", blob, method="HEAD")["Content-Length"] == str(KIB)
    names = {request.path for request in two.asked("/blobs/", "HEAD")}
    assert len(names) == 2


# ---- manifests

manifest_refusals = pytest.mark.parametrize("refusal", ["400", "401", "403", "405", "406", "500",
                                                        "501", "502", "closed", "reset"])


@pytest.fixture
def believing(start_tarn, two):
    """A tarn that believes a tag for a second."""
    return start_tarn([{"host": "fake.test", "url": two.url, "default": True, "tag_ttl": "1s"}])


@manifest_refusals
def test_head_of_a_cold_tag_says_digest_and_length(tarn, two, refusal):
    refuse_heads(two, refusal, "/manifests/")
    digest = two.repository("org/a").tags["1"]
    content = two.repository("org/a").manifests[digest][0]
    for reference in ("1", digest):
        reply = tarn.manifest("org/a", reference, method="HEAD")
        assert (reply.status, reply["Docker-Content-Digest"]) == (200, digest)
        assert reply["Content-Length"] == str(len(content))
        assert reply["Content-Type"] == OCI_MANIFEST
    assert two.asked("/blobs/") == []


@manifest_refusals
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_moved_tag_is_seen(believing, two, refusal, method):
    refuse_heads(two, refusal, "/manifests/")
    first = two.repository("org/a").tags["1"]
    assert believing.manifest("org/a", "1")["Docker-Content-Digest"] == first
    second = two.image("org/a", [b"newer"], tag="1")

    def moved():
        reply = believing.manifest("org/a", "1", method=method)
        assert reply.status == 200 and "fwd=stale" not in reply.cache_status
        return reply["Docker-Content-Digest"] == second
    wait_until(moved, "the tag's new image")


@pytest.mark.parametrize("refusal", ["400", "403", "405", "501"])
def test_after_one_refusal_tags_are_asked_for_by_get(tarn, two, refusal):
    refuse_heads(two, refusal, "/manifests/")
    for _ in range(3):
        for name in ("org/a", "org/b"):
            assert tarn.manifest(name, "1").status == 200
            assert tarn.manifest(name, "1", method="HEAD").status == 200
    assert len(two.asked("/manifests/", "HEAD")) == 1
    assert tarn.blob("org/a", DIGEST, method="HEAD").status == 200
    assert len(two.asked("/blobs/", "HEAD")) == 1  # of blobs nothing is known yet


@manifest_refusals
@pytest.mark.parametrize("status", [403, 404])
def test_what_get_refuses_too_is_refused(tarn, two, refusal, status):
    refuse_heads(two, refusal, "/manifests/")
    two.fault("/manifests/", status=status)
    for _ in range(2):
        assert tarn.manifest("org/a", "1", method="HEAD").status == status


@pytest.mark.parametrize("fault", [{"status": 405}, {"drop": True}], ids=str)
def test_the_first_location_is_asked_by_get_before_a_mirror_is_asked(start_tarn, two,
                                                                     make_upstream, fault):
    mirror = make_upstream(host="127.0.0.3")
    mirror.image("org/a", [b"old"], tag="1")
    two.fault("/manifests/", method="HEAD", **fault)
    tarn = start_tarn([{"host": "fake.test", "url": two.url, "default": True, "tag_ttl": "0",
                        "fallbacks": [mirror.url]}])
    for method in ("HEAD", "GET", "HEAD"):
        reply = tarn.manifest("org/a", "1", method=method)
        assert reply["Docker-Content-Digest"] == two.repository("org/a").tags["1"]
    assert mirror.asked() == []


def test_a_mirror_that_refuses_head_is_asked_by_get(start_tarn, two, make_upstream):
    mirror = make_upstream(host="127.0.0.3")
    digest = mirror.image("org/a", [LAYER], tag="1")
    mirror.fault("/v2/", method="HEAD", status=405)
    two.refuse()
    tarn = start_tarn([{"host": "fake.test", "url": two.url, "default": True,
                        "fallbacks": [mirror.url]}])
    assert tarn.manifest("org/a", "1", method="HEAD")["Docker-Content-Digest"] == digest
    assert tarn.blob("org/a", DIGEST, method="HEAD")["Content-Length"] == str(len(LAYER))


def test_a_head_that_is_answered_by_a_get_fetches_no_blobs(start_tarn, two):
    two.fault("/manifests/", method="HEAD", status=405)
    tarn = start_tarn([{"host": "fake.test", "url": two.url, "default": True, "prefetch": True}])
    assert tarn.manifest("org/a", "1", method="HEAD").status == 200
    assert tarn.manifest("org/b", "1").status == 200
    tarn.wait_cached("org/b", DIGEST)
    assert two.asked("org/a/blobs/") == []
