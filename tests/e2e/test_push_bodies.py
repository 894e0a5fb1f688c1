"""Bodies of requests that two parsers could read in two ways are refused, and are no further request."""

import pytest

from kit.client import fetch, raw
from kit.content import digest_of
from kit.scripted_server import several
from kit.tokens import basic
from kit.writable_registry import WritableRegistry

ALICE = basic("alice", "secret")
UPLOADS = "/v2/push.test/org/app/blobs/uploads/"
SMUGGLED = b"GET /v2/smuggled/x/tags/list HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"

# What is wrong with the head: (fields and the rest, status).
HEADS = {
    "both lengths": (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400),
    "both, the other way": (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "a list of lengths": (b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "two codings": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two codings in one": (b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in capitals": (b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in a word": (b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in quotes": (b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n', 400),
    "chunked with a parameter": (b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400),
    "a vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "an empty coding": (b"Transfer-Encoding: \r\n\r\n", 400),
    "gzip": (b"Transfer-Encoding: gzip\r\n\r\n", 501),
    "identity": (b"Transfer-Encoding: identity\r\n\r\n", 501),
    "gzip before chunked": (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "an unknown coding": (b"Transfer-Encoding: zstd\r\n\r\n", 501),
    "an unknown coding and a length": (b"Transfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 400),
    "no digit": (b"Content-Length: five\r\n\r\nhello", 400),
    "a sign": (b"Content-Length: +5\r\n\r\nhello", 400),
    "a negative length": (b"Content-Length: -5\r\n\r\nhello", 400),
    "hexadecimal": (b"Content-Length: 0x5\r\n\r\nhello", 400),
    "a fraction": (b"Content-Length: 5.0\r\n\r\nhello", 400),
    "no length": (b"Content-Length: \r\n\r\nhello", 400),
    "19 digits": (b"Content-Length: 0000000000000000005\r\n\r\nhello", 400),
}

# What is wrong with a chunked body.
CHUNKS = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "no digit": b"g\r\nhello\r\n0\r\n\r\n",
    "a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a blank before": b" 5\r\nhello\r\n0\r\n\r\n",
    "a blank behind": b"5 \r\nhello\r\n0\r\n\r\n",
    "16 digits": b"0000000000000005\r\nhello\r\n0\r\n\r\n",
    "a bare LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "a bare CR behind the size": b"5\rhello\r\n0\r\n\r\n",
    "a bare LF in an extension": b"5;a\nhello\r\n0\r\n\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a NUL in an extension": b"5;a\0b\r\nhello\r\n0\r\n\r\n",
    "data without CRLF": b"5\r\nhello0\r\n\r\n",
    "data with LF alone": b"5\r\nhello\n0\r\n\r\n",
    "data that is too long": b"5\r\nhello there\r\n0\r\n\r\n",
    "a bare LF at the end": b"5\r\nhello\r\n0\n\n",
    "a bare LF behind the trailers": b"5\r\nhello\r\n0\r\n\n",
    "a trailer without a colon": b"5\r\nhello\r\n0\r\ntrailer\r\n\r\n",
    "a trailer with a blank": b"5\r\nhello\r\n0\r\na : b\r\n\r\n",
    "a folded trailer": b"5\r\nhello\r\n0\r\na: b\r\n c\r\n\r\n",
    "a bare LF in a trailer": b"5\r\nhello\r\n0\r\na: b\nc: d\r\n\r\n",
    "a line above 4 KiB": b"5;" + b"a" * 4096 + b"\r\nhello\r\n0\r\n\r\n",
    "trailers above 16 KiB": b"5\r\nhello\r\n0\r\n" + b"a: " + b"b" * (17 << 10) + b"\r\n\r\n",
    "many trailers above 16 KiB": b"5\r\nhello\r\n0\r\n" + b"name: value\r\n" * 1400 + b"\r\n",
}

# What is unusual, and right.
RIGHT = {
    "leading zeros": b"000000000000005\r\nhello\r\n0\r\n\r\n",
    "an extension": b"5;a=b;c=\"d e\"\r\nhello\r\n0;x\r\n\r\n",
    "trailers": b"5\r\nhello\r\n0\r\nDigest: x\r\nEmpty:\r\n\r\n",
    "capitals and several chunks": b"1\r\nh\r\n4\r\nello\r\n000\r\n\r\n",
    "a line of 4 KiB": b"5;" + b"a" * 4090 + b"\r\nhello\r\n0\r\n\r\n",
}


@pytest.fixture
def registry():
    for make in several(WritableRegistry):
        yield make()


@pytest.fixture
def tarn(start_tarn, users, registry):
    return start_tarn([{"host": "push.test", "url": registry.url, "push": True, "delete": True}],
                      clients={"htpasswd": str(users)})


def head(method, path, version="1.1"):
    return (f"{method} {path} HTTP/{version}\r\nHost: x\r\nAuthorization: {ALICE}\r\n").encode()


def begin(tarn):
    return fetch(tarn.url + UPLOADS, {"Authorization": ALICE}, method="POST")["Location"]


def requests_of(tarn):
    """Each kind of request that has a body."""
    place = begin(tarn)
    return [("PATCH", place), ("PUT", f"{place}&digest={digest_of(b'hello')}"),
            ("POST", f"{UPLOADS}?digest={digest_of(b'hello')}"),
            ("PUT", "/v2/push.test/org/app/manifests/1")]


def only_answer(stream):
    """The status and the fields of the only response in the stream."""
    first, _, rest = stream.partition(b"\r\n\r\n")
    lines = first.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip()
              for name, _, value in (line.partition(":") for line in lines[1:])}
    assert len(rest) == int(fields.get("content-length", 0)), "there is a second response"
    return int(lines[0].split()[1]), fields, rest


def refused(tarn, request, status):
    got, fields, body = only_answer(raw(tarn.port, request + SMUGGLED, timeout=20))
    assert got == status and fields["connection"] == "close" and b'"errors"' in body
    assert "smuggled" not in tarn.log()


@pytest.mark.parametrize("shape", HEADS)
def test_lengths_that_can_be_read_in_two_ways(tarn, registry, shape):
    rest, status = HEADS[shape]
    for method, path in requests_of(tarn):
        refused(tarn, head(method, path) + rest, status)
    assert registry.writes == []


@pytest.mark.parametrize("shape", CHUNKS)
def test_chunks_that_can_be_read_in_two_ways(tarn, registry, shape):
    for method, path in requests_of(tarn):
        refused(tarn, head(method, path) + CHUNKED + CHUNKS[shape], 400)
    assert registry.writes == []


def test_http_1_0_has_no_chunks(tarn):
    for method, path in requests_of(tarn):
        refused(tarn, head(method, path, "1.0") + CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", 400)


@pytest.mark.parametrize("shape", RIGHT)
def test_chunks_that_are_right(tarn, registry, shape):
    request = head("POST", f"{UPLOADS}?digest={digest_of(b'hello')}") + CHUNKED + RIGHT[shape]
    next_one = head("GET", "/v2/") + b"Connection: close\r\n\r\n"
    answers = raw(tarn.port, request + next_one, timeout=20)
    assert answers.count(b"HTTP/1.1 201 ") == 1 and answers.count(b"HTTP/1.1 200 ") == 1
    assert registry.writes == [("blob", digest_of(b"hello"))]


def test_a_session_outlives_a_malformed_body(tarn, registry):
    """Where it stands is told, and the client goes on there."""
    place = fetch(tarn.url + begin(tarn), {"Authorization": ALICE}, method="PATCH", body=b"he")
    refused(tarn, head("PATCH", place["Location"]) + CHUNKED + b"1\r\nl\r\nx\r\nlo\r\n0\r\n\r\n", 400)
    status = fetch(tarn.url + place["Location"], {"Authorization": ALICE})
    assert status.status == 204 and status["Range"] in ("0-1", "0-2")
    done = fetch(f"{tarn.url}{status['Location']}&digest={digest_of(b'hello')}",
                 {"Authorization": ALICE}, method="PUT",
                 body=b"hello"[int(status["Range"][2:]) + 1:])
    assert done.status == 201 and registry.writes == [("blob", digest_of(b"hello"))]


@pytest.mark.parametrize("body", [b"Content-Length: 5\r\n\r\nhello",
                                  CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
                                  b"Content-Length: 1000000000000\r\n\r\n"])
@pytest.mark.parametrize("method,path", [
    ("PATCH", UPLOADS + "0" * 32 + "?_state=x"), ("PUT", UPLOADS + "0" * 32),
    ("PUT", "/v2/push.test/org/app/manifests/-x"), ("PUT", "/v2/else.test/org/app/manifests/1"),
    ("POST", UPLOADS + "?digest=sha256:1"), ("DELETE", "/v2/push.test/org/app/tags/list"),
    ("POST", "/v2/"), ("PATCH", "/")])
def test_a_refusal_with_the_body_unread_closes_the_connection(tarn, method, path, body):
    got, fields, _ = only_answer(raw(tarn.port, head(method, path) + body + SMUGGLED, timeout=20))
    assert 400 <= got < 500 and fields["connection"] == "close"
    assert "smuggled" not in tarn.log()


def test_bodies_of_requests_that_have_none_are_no_requests(tarn):
    for method, path in (("GET", "/v2/"), ("GET", "/v2/push.test/org/app/tags/list"),
                         ("DELETE", begin(tarn))):
        answers = raw(tarn.port, head(method, path) + b"Connection: close\r\nContent-Length: "
                      + b"%d\r\n\r\n" % len(SMUGGLED) + SMUGGLED, timeout=20)
        assert answers.count(b"HTTP/1.1 ") == 1
    assert "smuggled" not in tarn.log()
