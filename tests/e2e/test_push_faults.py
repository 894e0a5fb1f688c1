"""Pushes to upstreams that fail in each phase, or that take less than others."""

import http.client
import itertools

import pytest

from kit.client import fetch
from kit.content import KIB, OCI_MANIFEST, digest_of, manifest, noise
from kit.push_registry import PushRegistry
from kit.scripted_server import several
from kit.tokens import basic

ALICE = {"Authorization": basic("alice", "secret")}
BLOB = noise(400 * KIB)
DIGEST = digest_of(BLOB)
PIECES = [BLOB[:100000], BLOB[100000:250000], BLOB[250000:]]


@pytest.fixture
def make_registry():
    yield from several(PushRegistry)


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


FAULTS = [("POST", 503), ("POST", "lost"), ("POST", 429), ("PATCH", 500), ("PATCH", 429),
          ("PATCH", "cut"), ("PATCH", "lost"), ("PATCH", "half"), ("PATCH", "silent"),
          ("PATCH", 404), ("PUT", 500), ("PUT", "lost"), ("PUT", 404)]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("pieces", [1, 3])
def test_each_fault_is_mended(make_registry, start, pieces, chunked):
    registry = make_registry()
    tarn = start(registry)
    for number, (phase, fault) in enumerate(FAULTS):
        content = noise(300 * KIB, number) if pieces == 1 else noise(400 * KIB, number)
        parts = [content] if pieces == 1 else [content[:100000], content[100000:250000],
                                               content[250000:]]
        registry.faults = [(phase, fault)]
        registry.taken = 0
        reply = push(tarn, parts, chunked)
        assert reply.status == 201, (phase, fault, reply.content)
        assert registry.faults == [], (phase, fault)
        assert registry.blobs[digest_of(content)] == content, (phase, fault)
        assert registry.taken <= 2.1 * len(content), (phase, fault)
        got = fetch(f"{tarn.url}/v2/org/app/blobs/{digest_of(content)}", ALICE)
        assert got.body == content and "hit" in got.cache_status


@pytest.mark.parametrize("refusal", ["one_patch", "no_chunked", "no_range"])
def test_what_an_upstream_refuses_is_learnt(make_registry, start, refusal):
    registry = make_registry(**{refusal: True})
    tarn = start(registry)
    for number in range(3):
        content = noise(300 * KIB, number)
        registry.taken = 0
        reply = push(tarn, [content[:100000], content[100000:]], chunked=refusal == "no_chunked")
        assert reply.status == 201, reply.content
        assert registry.blobs[digest_of(content)] == content
        assert registry.taken <= (2.1 if number == 0 else 1) * len(content)


def test_artifact_registry_gets_one_patch(make_registry, start):
    registry = make_registry(one_patch=True)
    tarn = start(registry, host="us-docker.pkg.dev")
    assert push(tarn, PIECES).status == 201
    assert registry.taken == len(BLOB) and registry.blobs[DIGEST] == BLOB
    assert len(registry.asked("PATCH")) == 1
    registry.faults = [("PATCH", "cut")]
    other = noise(300 * KIB, 9)
    assert push(tarn, [other[:100000], other[100000:]]).status == 201
    assert registry.blobs[digest_of(other)] == other


@pytest.mark.slow
@pytest.mark.parametrize("phase,fault,status", [
    ("PATCH", 500, 502), ("PATCH", 429, 429), ("POST", 503, 502), ("PUT", 500, 502),
    ("PATCH", 403, 403), ("PATCH", 413, 413), ("PUT", 409, 409), ("POST", 405, 405)])
def test_what_lasts_is_told(make_registry, start, phase, fault, status):
    registry = make_registry()
    tarn = start(registry, push_patience="1s")
    registry.faults = list(itertools.repeat((phase, fault), 1000))
    reply = push(tarn)
    assert reply.status == status, reply.content
    if status == 429:
        assert reply.headers["Retry-After"]


def test_manifests_are_put_again(make_registry, start):
    registry = make_registry()
    tarn = start(registry)
    document = manifest(b"{}", [BLOB])
    for fault in (500, "lost", 429):
        registry.faults = [("MANIFEST", fault)]
        reply = fetch(f"{tarn.url}/v2/org/app/manifests/1", {**ALICE, "Content-Type": OCI_MANIFEST},
                      method="PUT", body=document)
        assert reply.status == 201, reply
        assert registry.manifests["1"] == document
    registry.faults = [("MANIFEST", 400)]
    reply = fetch(f"{tarn.url}/v2/org/app/manifests/1", {**ALICE, "Content-Type": OCI_MANIFEST},
                  method="PUT", body=document)
    assert (reply.status, reply.code) == (400, "TAG_INVALID")
