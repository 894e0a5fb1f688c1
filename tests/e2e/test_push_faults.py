"""Pushes to upstreams that fail in each phase, or that take less than others."""

import http.client

import pytest

from kit.client import fetch
from kit.content import KIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.scripted_server import several
from kit.tokens import basic
from kit.writable_registry import WritableRegistry, refusal

ALICE = {"Authorization": basic("alice", "secret")}
BLOB = noise(400 * KIB)
DIGEST = digest_of(BLOB)
PIECES = [BLOB[:100000], BLOB[100000:250000], BLOB[250000:]]


@pytest.fixture
def make_registry():
    yield from several(WritableRegistry)


@pytest.fixture
def start(start_tarn, users):
    def start(registry, host="push.test", **more):
        return start_tarn([{"host": host, "url": registry.url, "push": True, "default": True,
                            "push_patience": "6s", **more}], clients={"htpasswd": str(users)})
    return start


def push(tarn, pieces=(BLOB,), chunked=False):
    """Pushes the pieces, each by a PATCH; the last response."""
    connection = http.client.HTTPConnection("127.0.0.1", tarn.port, timeout=40)

    def ask(method, path, body=None, **more):
        connection.request(method, path, body, headers=ALICE, **more)
        reply = connection.getresponse()
        reply.content = reply.read()
        return reply
    try:
        reply = ask("POST", "/v2/org/app/blobs/uploads/")
        for piece in pieces:
            if reply.status != 202:
                return reply
            reply = ask("PATCH", reply.headers["Location"], iter([piece]) if chunked else piece,
                        encode_chunked=chunked)
        if reply.status != 202:
            return reply
        content = b"".join(pieces)
        return ask("PUT", f"{reply.headers['Location']}&digest={digest_of(content)}")
    finally:
        connection.close()


LOST = {"lost": True}
FAULTS = [("POST", refusal(503)), ("POST", LOST), ("POST", refusal(429)),
          ("PATCH", refusal(500)), ("PATCH", refusal(429)), ("PATCH", {"status": 500}),
          ("PATCH", {"upload_reset_after": 50000}), ("PATCH", LOST), ("PATCH", {"takes_half": True}),
          ("PATCH", {"no_location": True}), ("PATCH", refusal(404)), ("PATCH", {"drop": True}),
          ("PUT", refusal(500)), ("PUT", LOST), ("PUT", refusal(404))]


def befallen(registry):
    """Whether every fault has happened."""
    return all(rule.done for rule in registry.rules)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("pieces", [1, 3])
def test_each_fault_is_mended(make_registry, start, pieces, chunked):
    registry = make_registry()
    tarn = start(registry)
    blobs = registry.repository("org/app").blobs
    for number, (phase, fault) in enumerate(FAULTS):
        content = noise(300 * KIB, number) if pieces == 1 else noise(400 * KIB, number)
        parts = [content] if pieces == 1 else [content[:100000], content[100000:250000],
                                               content[250000:]]
        registry.heal()
        registry.fail(phase, **fault)
        registry.reset_writes()
        reply = push(tarn, parts, chunked)
        assert reply.status == 201, (phase, fault, reply.content)
        assert befallen(registry), (phase, fault)
        assert digest_of(blobs[digest_of(content)]) == digest_of(content), (phase, fault)
        assert registry.received <= 2.1 * len(content), (phase, fault)
        got = fetch(f"{tarn.url}/v2/org/app/blobs/{digest_of(content)}", ALICE)
        assert got.body == content and "hit" in got.cache_status


@pytest.mark.parametrize("lesson, value", [("one_patch", 400), ("no_chunked", True),
                                           ("no_range", True)])
def test_what_an_upstream_refuses_is_learnt(make_registry, start, lesson, value):
    registry = make_registry()
    setattr(registry, lesson, value)
    tarn = start(registry)
    for number in range(3):
        content = noise(300 * KIB, number)
        registry.reset_writes()
        reply = push(tarn, [content[:100000], content[100000:]], chunked=lesson == "no_chunked")
        assert reply.status == 201, reply.content
        assert registry.writes == [("blob", digest_of(content))]
        assert registry.received <= (2.1 if number == 0 else 1) * len(content)


def test_artifact_registry_gets_one_patch(make_registry, start):
    registry = make_registry()
    registry.take_one_patch()
    tarn = start(registry, host="us-docker.pkg.dev")
    assert push(tarn, PIECES).status == 201
    assert registry.received == len(BLOB)
    assert len(registry.asked(method="PATCH")) == 1
    registry.fail("PATCH", upload_reset_after=50000)
    other = noise(300 * KIB, 9)
    assert push(tarn, [other[:100000], other[100000:]]).status == 201
    assert registry.writes == [("blob", DIGEST), ("blob", digest_of(other))]


@pytest.mark.slow
@pytest.mark.parametrize("phase,fault,status", [
    ("PATCH", 500, 502), ("PATCH", 429, 429), ("POST", 503, 502), ("PUT", 500, 502),
    ("PATCH", 403, 403), ("PATCH", 413, 413), ("PUT", 409, 409), ("POST", 405, 405)])
def test_what_lasts_is_told(make_registry, start, phase, fault, status):
    registry = make_registry()
    tarn = start(registry, push_patience="1s")
    registry.fail(phase, times=None, **refusal(fault))
    reply = push(tarn)
    assert reply.status == status, reply.content
    if status == 429:
        assert reply.headers["Retry-After"]


def test_manifests_are_put_again(make_registry, start):
    registry = make_registry()
    tarn = start(registry)
    repository = registry.repository("org/app")
    for blob in (b"{}", BLOB):
        repository.add_blob(blob)
    document = manifest(b"{}", [BLOB])
    for fault in (refusal(500), LOST, refusal(429)):
        registry.fail("MANIFEST", **fault)
        reply = fetch(f"{tarn.url}/v2/org/app/manifests/1", {**ALICE, "Content-Type": OCI_MANIFEST},
                      method="PUT", body=document)
        assert reply.status == 201, reply
        assert befallen(registry) and repository.tags == {"1": digest_of(document)}
    registry.fail("MANIFEST", **refusal(400, "TAG_INVALID"))
    reply = fetch(f"{tarn.url}/v2/org/app/manifests/1", {**ALICE, "Content-Type": OCI_MANIFEST},
                  method="PUT", body=document)
    assert (reply.status, reply.code) == (400, "TAG_INVALID")
