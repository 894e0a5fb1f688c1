"""
Thousands of streams that break the rules, from clients and from an upstream, against the whole server.
tarn stays alive, serves right requests in between, never serves a wrong body as a whole one, and
keeps neither descriptors nor threads. Under ASan this finds what fuzzing single parsers cannot find.

TARN_STREAMS=N is the number of streams (default 2,000: 6,000 requests, 400 responses), and
TARN_STREAMS_SEED chooses them. A failure names its seed.
"""

import collections
import concurrent.futures
import os
import random
import socket
import threading
import time

import pytest

from kit.client import fetch
from kit.content import KIB, digest_of, manifest, noise
from kit.malformed import ScriptedUpstream, mutated, reset, send_oddly
from kit.processes import wait_until

CLIENTS, BATCH = 16, 50
STREAMS = int(os.environ.get("TARN_STREAMS", "2000"))
SEED = int(os.environ.get("TARN_STREAMS_SEED", "20240607"))

LAYER = noise(40 * KIB)
DIGEST = digest_of(LAYER)

REQUESTS = [
    "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v2/org/app/manifests/1 HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    "HEAD /v2/org/app/manifests/1?ns=fake.test HTTP/1.1\r\nHost: x\r\n\r\n",
    f"GET /v2/org/app/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\nRange: bytes=10-99\r\n\r\n",
    f"GET /v2/org/app/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1,5-\r\n\r\n",
    f"GET /v2/org/app/blobs/{DIGEST} HTTP/1.0\r\n\r\n",
    "GET /v2/org/app/tags/list?n=5&last=a HTTP/1.1\r\nHost: x\r\n\r\n",
    f"GET /v2/org/app/referrers/{DIGEST}?artifactType=a/b HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v2/_catalog?n=10 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /tarn/v1/flights HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST /v2/org/app/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "PUT /v2/org/app/manifests/1 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    "Content-Length: 1000000000000\r\n\r\n",
    "GET /v2/%2e%2e/%00/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET http://fake.test/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Basic !!!\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\0" * 200,
]


class Resources:
    """Descriptors and threads of a process, and whether they stay within bounds."""

    def __init__(self, tarn):
        self.tarn, self.before = tarn, self._count(tarn)

    @staticmethod
    def _count(tarn):
        return tuple(len(os.listdir(f"/proc/{tarn.process.pid}/{kind}")) for kind in ("fd", "task"))

    def assert_flat(self, slack):
        """A few idle connections stay open for a while; a leak grows with the number of streams."""
        wait_until(lambda: all(now <= before + slack for now, before in
                               zip(self._count(self.tarn), self.before)),
                   f"descriptors and threads, {self.before} before, {self._count(self.tarn)} now, "
                   "to be given back", seconds=20, pause=0.2)


def send_stream(chance, port, stream):
    """Sends a stream on a connection, and ends it as some client would; returns the responses."""
    got = b""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        send_oddly(chance, connection, stream)
        ending = chance.randrange(4)
        if ending == 0:
            reset(connection)
            return None
        if ending == 1:
            return None
        connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(1 << 16):
            got += piece
    except TimeoutError:
        raise
    except OSError:
        pass  # refused before all of it was read
    finally:
        connection.close()
    return got


@pytest.mark.slow
def test_malformed_requests_do_no_harm(tarn, upstream):
    upstream.image("org/app", [LAYER], tag="1")
    assert tarn.blob("org/app", DIGEST).body == LAYER
    chance = random.Random(SEED)
    for number in range(40):  # fills the pools
        send_stream(chance, tarn.port, REQUESTS[number % len(REQUESTS)].encode("latin-1"))
    resources = Resources(tarn)
    for number in range(STREAMS * 3):
        chance = random.Random(f"{SEED} {number}")
        said = f"stream {number} of seed {SEED}"
        stream = b"".join(mutated(chance, chance.choice(REQUESTS).encode("latin-1"))
                          for _ in range(chance.choice((1, 1, 1, 2, 3))))
        if chance.randrange(20) == 0:
            stream = chance.randbytes(chance.randrange(3000))
        began = time.monotonic()
        got = send_stream(chance, tarn.port, stream)
        assert time.monotonic() - began < 9, f"{said}: {stream!r} holds the connection"
        assert not got or got.startswith(b"HTTP/1.1 "), f"{said}: {stream!r}: {got[:200]!r}"
        assert b"HTTP/1.1 500" not in (got or b""), f"{said}: {stream!r}: {got[:2000]!r}"
        if number % 50 == 0:
            reply = tarn.blob("org/app", DIGEST)
            assert (reply.status, reply.body) == (200, LAYER), said
            assert tarn.manifest("org/app", "1").status == 200, said
        assert tarn.process.runs(), f"{said}: {stream!r} ended tarn:\n{tarn.log()[-4000:]}"
    resources.assert_flat(slack=8)


# ---- streams from an upstream

def good_answer(chance, content, media_type="application/octet-stream", fields=""):
    """The content in one of the forms in which a registry may send it."""
    kind = chance.randrange(4)
    digest = digest_of(content)
    head = (f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nDocker-Content-Digest: {digest}\r\n"
            f"ETag: \"{digest}\"\r\n{fields}")
    if kind == 0:
        half = len(content) // 2
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece)
                        for piece in (content[:half], content[half:]) if piece) + b"0\r\n\r\n"
        return (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + body
    if kind == 1:
        return (head + "\r\n").encode() + content  # the body ends with the connection
    return (head + f"Content-Length: {len(content)}\r\n\r\n").encode() + content


def refusals(chance):
    """None has Retry-After: with a damaged digit it could silence tarn for a long time."""
    return chance.choice((
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://127.0.0.1:1/t\","
        b"service=\"s\"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /v2/elsewhere\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */5\r\n"
        b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n"
        b"0123456789",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=next\r\n\r\nHTTP/1.1 404 Not Found\r\n"
        b"Content-Length: 4\r\n\r\nnone",
    ))


class Registry:
    """The content of the scripted upstream; `honest`: it sends that without damage."""

    def __init__(self):
        self.honest, self.lock, self.asked = True, threading.Lock(), collections.Counter()
        self.blobs, self.tags = {}, {}

    def answer(self, method, target):
        path = target.partition("?")[0]
        reference = path.rpartition("/")[2]
        with self.lock:  # the damage to a request does not depend on the order of requests
            self.asked[path] += 1
            chance = random.Random(f"{SEED} {method} {path} {self.asked[path]}")
        if not self.honest and chance.randrange(12) == 0:
            return None
        if not self.honest and chance.randrange(8) == 0:
            return mutated(chance, refusals(chance))
        content = self.blobs.get(self.tags.get(reference, reference))
        media_type = "application/octet-stream"
        if path.endswith("/tags/list"):
            content, media_type = b'{"name":"org/app","tags":["v1","v2"]}', "application/json"
        elif "/manifests/" in path:
            media_type = "application/vnd.oci.image.manifest.v1+json"
        if content is None or "/referrers/" in path:
            stream = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}"
        else:
            stream = good_answer(chance, content, media_type)
        if method == "HEAD":
            stream = stream.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        return stream if self.honest else mutated(chance, stream)


def ask(tarn, registry, number):
    """Something new of each kind: a blob, a range of it, a manifest by digest and by tag, tags."""
    chance = random.Random(f"{SEED} upstream {number}")
    layer = chance.randbytes(chance.choice((0, 1, 700, 5000, 70000)))
    image = manifest(b"{}", [layer])
    tag = f"v{number}"
    registry.blobs.update({digest_of(layer): layer, digest_of(image): image})
    registry.tags[tag] = digest_of(image)
    said = f"answer {number} of seed {SEED}"
    kind = number % 5
    if kind == 0:
        reply = tarn.blob("org/app", digest_of(layer))
        expected = layer
    elif kind == 1:
        reply = tarn.blob("org/app", digest_of(layer), {"Range": "bytes=0-"})
        expected = layer
    elif kind == 2:
        reply = tarn.manifest("org/app", digest_of(image))
        expected = image
    elif kind == 3:
        reply, expected = tarn.manifest("org/app", tag), None
    else:
        reply = fetch(f"{tarn.url}/v2/org/app{number}/tags/list")
        expected = None
        if reply.status == 200:
            assert isinstance(reply.json()["tags"], list), said
    if reply.status in (200, 206) and reply.complete and expected is not None:
        assert reply.body == expected, f"{said}: a wrong body as a whole one: {reply!r}"
    if reply.status == 200 and kind == 3:  # the bytes must match the digest that was sent with them
        assert reply["Docker-Content-Digest"] == digest_of(reply.body), said
        assert isinstance(reply.json(), dict), said
    assert reply.status != 500, f"{said}: {reply!r}"
    assert tarn.process.runs(), f"{said} ended tarn:\n{tarn.log()[-4000:]}"
    return reply


@pytest.mark.slow
def test_malformed_answers_do_no_harm(start_tarn):
    registry = Registry()
    upstream = ScriptedUpstream(registry.answer)
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True, "tag_ttl": "0",
                        "connect_timeout": "1s", "stall_timeout": "1s",
                        "first_byte_timeout": "1s"}])
    for number in range(20):
        assert ask(tarn, registry, number).status in (200, 206, 416), number
    statuses = collections.Counter()
    count = STREAMS // 5
    resources = None
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        for first in range(100, 100 + count, BATCH):
            registry.honest, upstream.keep = False, first // BATCH % 2 == 0
            replies = clients.map(lambda number: ask(tarn, registry, number),
                                  range(first, first + BATCH))
            statuses.update(reply.status for reply in replies)
            registry.honest = True
            assert ask(tarn, registry, first * 1000).status in (200, 206, 416), first
            # After the first batch, the pools have their final size.
            resources = resources or Resources(tarn)
    # Some damages were harmless and some were not.
    assert statuses[200] > count // 10 and statuses[502] > count // 20, statuses
    assert not upstream.failures, upstream.failures
    upstream.stop()
    resources.assert_flat(slack=16)
