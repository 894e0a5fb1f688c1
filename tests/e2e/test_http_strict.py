"""The HTTP server refuses requests that two parsers could read in two ways, and has limits."""

import signal
import socket
import threading
import time

import pytest

from kit.client import at_once, raw, read_to_end
from kit.content import KIB, MIB, digest_of, noise
from kit.processes import accepts, free_port, wait_until
from kit.tarn import serve_that_fails

LAYER = noise(40 * KIB)
DIGEST = digest_of(LAYER)
BIG = noise(16 * MIB)

SMUGGLING = {
    "two lengths": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                   b"Content-Length: 6\r\n\r\n",
    "two equal lengths": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0, 5\r\n\r\n",
    "length and chunks": b"POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                         b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks hidden": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "chunks twice": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
                    b"Transfer-Encoding: identity\r\n\r\n",
    "negative length": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "signed length": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
    "hex length": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n",
    "huge length": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: "
                   b"99999999999999999999999\r\n\r\n",
    "empty length": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n",
    "bare LF in the request line": b"GET /v2/ HTTP/1.1\nHost: x\r\n\r\n",
    "bare LF in a field": b"GET /v2/ HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "bare LF at the end": b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\n",
    "bare CR in a field": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
    "folded field": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "folded first field": b"GET /v2/ HTTP/1.1\r\n Host: x\r\n\r\n",
    "space before the colon": b"GET /v2/ HTTP/1.1\r\nHost : x\r\n\r\n",
    "no colon": b"GET /v2/ HTTP/1.1\r\nHost x\r\n\r\n",
    "no field name": b"GET /v2/ HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
    "bad field name": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA(b): c\r\n\r\n",
    "NUL in a value": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "two hosts": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "no host": b"GET /v2/ HTTP/1.1\r\n\r\n",
    "bad method": b"G\x01T /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "no method": b" /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "two spaces": b"GET  /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the target": b"GET /v2/ x HTTP/1.1\r\nHost: x\r\n\r\n",
    "control byte in the target": b"GET /v2/\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "byte above ASCII in the target": b"GET /v2/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "target without a slash": b"GET v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /v2/\r\nHost: x\r\n\r\n",
    "nonsense version": b"GET /v2/ HTTQ/1.1\r\nHost: x\r\n\r\n",
    "version without minor": b"GET /v2/ HTTP/1\r\nHost: x\r\n\r\n",
    "tab for space": b"GET\t/v2/\tHTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.fixture
def image(upstream):
    return upstream.image("org/app", [LAYER, BIG], tag="1")


def answers(stream):
    """The responses in a stream, all with Content-Length, as (status, headers, body)."""
    found = []
    while stream:
        head, _, stream = stream.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip()
                   for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        found.append((int(lines[0].split()[1]), headers, stream[:length]))
        stream = stream[length:]
    return found


@pytest.mark.parametrize("shape", SMUGGLING)
def test_what_can_be_read_in_two_ways_is_400_and_closed(tarn, shape):
    smuggled = b"GET /v2/smuggled/x/tags/list HTTP/1.1\r\nHost: x\r\n\r\n"
    got = answers(raw(tarn.port, SMUGGLING[shape] + smuggled, timeout=5))
    assert [status for status, _, _ in got] == [400], got
    assert got[0][1].get("connection", "").lower() == "close"
    assert "smuggled" not in tarn.log()


@pytest.mark.parametrize("request_bytes,status", [
    (b"GET /v2/ HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    (b"GET /v2/ HTTP/3.1\r\nHost: x\r\n\r\n", 505),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 17000 + b"\r\n\r\n", 431),
    (b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 70 + b"\r\n", 431),
    (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", None),
])
def test_limits_have_their_own_status(tarn, request_bytes, status):
    got = answers(raw(tarn.port, request_bytes, timeout=5))
    assert len(got) == 1
    assert got[0][0] == status if status else got[0][0] in (400, 501)


def test_an_error_of_the_server_itself_has_an_oci_body(tarn):
    got = answers(raw(tarn.port, SMUGGLING["two hosts"], timeout=5))
    assert b'"errors"' in got[0][2]


def test_an_endless_request_line_is_refused_before_it_ends(tarn):
    with socket.create_connection(("127.0.0.1", tarn.port), timeout=5) as connection:
        try:
            for _ in range(1000):
                connection.sendall(b"A" * 4096)
        except OSError:
            pass
        read_to_end(connection)
    assert tarn.get("/readyz").status == 200


@pytest.mark.parametrize("body", [
    b"Content-Length: 5\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"Content-Length: 1000000000000\r\n\r\n",
])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST"])
def test_a_body_that_nobody_asked_for_is_not_read_as_a_request(tarn, method, body):
    request = f"{method} /v2/org/app/manifests/1 HTTP/1.1\r\nHost: x\r\n".encode() + body
    got = answers(raw(tarn.port, request + b"GET /v2/smuggled/x/tags/list HTTP/1.1\r\n\r\n",
                      timeout=5).split(b"\r\n\r\n")[0] + b"\r\n\r\n")
    assert 400 <= got[0][0] < 500
    assert "smuggled" not in tarn.log()


def test_pipelined_requests_are_answered_in_order(tarn, upstream, image):
    tarn.blob("org/app", DIGEST)
    tarn.wait_cached("org/app", DIGEST)
    request = (f"GET /v2/org/app/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\n\r\n"
               f"HEAD /v2/org/app/blobs/{DIGEST} HTTP/1.1\r\nHost: x\r\n\r\n"
               "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
               f"GET /v2/org/app/manifests/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    stream = raw(tarn.port, request.encode())
    first, rest = stream.split(b"\r\n\r\n", 1)
    assert first.startswith(b"HTTP/1.1 200")
    assert rest[:len(LAYER)] == LAYER
    rest = rest[len(LAYER):]
    head, rest = rest.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200")
    assert f"ontent-Length: {len(LAYER)}".encode() in head
    assert [status for status, _, _ in answers(rest)] == [200, 200]


def test_many_requests_on_one_connection(tarn, upstream, image):
    one = f"GET /v2/org/app/manifests/{image} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    last = one.replace(b"Host: x", b"Host: x\r\nConnection: close")
    got = answers(raw(tarn.port, one * 300 + last))
    assert [status for status, _, _ in got] == [200] * 301


def test_a_head_in_single_bytes(tarn):
    with socket.create_connection(("127.0.0.1", tarn.port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert read_to_end(connection).startswith(b"HTTP/1.1 200")


def test_empty_lines_before_a_request_do_no_harm(tarn):
    got = raw(tarn.port, b"\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert got.split()[1] in (b"200", b"400")


def test_http_1_0_is_answered_and_closed(tarn, upstream, image):
    got = answers(raw(tarn.port, b"GET /v2/org/app/manifests/1 HTTP/1.0\r\n\r\n"))
    assert [status for status, _, _ in got] == [200]


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "BREW", "get"])
def test_other_methods_are_refused(tarn, method):
    reply = raw(tarn.port, f"{method} /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                .encode())
    assert 400 <= int(reply.split()[1]) <= 501


def test_a_slow_head_is_cut(start_tarn):
    tarn = start_tarn(head_timeout="1s")
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", tarn.port), timeout=8) as connection:
        connection.sendall(b"GET /v2/ HTTP/1.1\r\n")
        threading.Thread(target=_drip, args=(connection,), daemon=True).start()
        answer = read_to_end(connection)
    assert answer == b"" or answer.split()[1] in (b"408", b"400")
    assert time.monotonic() - started < 4


def _drip(connection):
    try:
        while True:
            time.sleep(0.3)
            connection.sendall(b"A: b\r\n")
    except OSError:
        pass


def test_an_idle_connection_is_closed(start_tarn):
    tarn = start_tarn(idle_timeout="1s")
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", tarn.port), timeout=8) as connection:
        connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_to_end(connection).startswith(b"HTTP/1.1 200")
    assert 0.5 < time.monotonic() - started < 5


def test_a_reader_that_takes_nothing_is_cut(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}],
                      send_timeout="1s")
    with tarn.download(f"/v2/org/app/blobs/{digest_of(BIG)}", receive_buffer=4096) as download:
        download.read(1000)
        tarn.logged("took nothing for", seconds=30)
        assert download.read_what_comes(5), "was to be cut"
        assert len(download.body) < len(BIG)
    tarn.wait_cached("org/app", digest_of(BIG))


def test_half_a_close_does_not_lose_the_answer(tarn, upstream, image):
    with socket.create_connection(("127.0.0.1", tarn.port), timeout=5) as connection:
        connection.sendall(b"GET /v2/org/app/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection).startswith(b"HTTP/1.1 200")


def test_a_hundred_idle_connections_hold_nobody_up(tarn):
    held = [socket.create_connection(("127.0.0.1", tarn.port)) for _ in range(100)]
    assert tarn.get("/v2/", timeout=2).status == 200
    for connection in held:
        connection.close()


def test_it_listens_on_ipv6_as_well(start_tarn):
    port = free_port("::1")
    start_tarn(listen=[f"127.0.0.1:{free_port()}", f"[::1]:{port}"])
    answer = raw(port, b"GET /v2/ HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n",
                 host="::1")
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_port_that_is_taken_stops_the_start(tarn, program, tmp_path):
    refused = serve_that_fails(program, "--listen", f"127.0.0.1:{tarn.port}", "--root",
                               str(tmp_path / "second"), home=tmp_path)
    assert refused.returncode == 1
    assert str(tarn.port) in refused.stderr


# ---- SIGTERM


def test_sigterm_lets_what_is_under_way_finish(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True}], grace="10s")
    held = upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(f"/v2/org/app/blobs/{digest_of(BIG)}") as download:
        download.read(10 * KIB)
        tarn.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(tarn.port), "tarn to accept no more")
        held.gate.set()
        download.read(len(BIG))
        assert download.body == BIG
    assert tarn.process.child.wait(5) == 0


def test_sigterm_waits_no_longer_than_the_grace_period(start_tarn, upstream, image):
    tarn = start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                        "stall_timeout": "30s"}], grace="1s")
    upstream.fault("/blobs/", hold_after=MIB)
    with tarn.download(f"/v2/org/app/blobs/{digest_of(BIG)}") as download:
        download.read(10 * KIB)
        started = time.monotonic()
        tarn.process.send_signal(signal.SIGTERM)
        assert tarn.process.child.wait(10) == 0
        assert time.monotonic() - started < 10
        download.read_what_comes(2)
        assert len(download.body) < len(BIG)


def test_sigterm_does_not_wait_for_idle_connections(start_tarn):
    tarn = start_tarn(grace="10s")
    with socket.create_connection(("127.0.0.1", tarn.port)) as connection:
        connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(1000)
        started = time.monotonic()
        tarn.process.send_signal(signal.SIGTERM)
        assert tarn.process.child.wait(10) == 0
        assert time.monotonic() - started < 3


def test_sigint_ends_it_as_well(start_tarn):
    tarn = start_tarn()
    tarn.process.send_signal(signal.SIGINT)
    assert tarn.process.child.wait(10) == 0


def test_noise_on_the_port_does_no_harm(tarn):
    at_once(*[lambda seed=seed: raw(tarn.port, noise(3000, seed) + b"\r\n\r\n", timeout=15)
              for seed in range(20)])
    assert tarn.get("/v2/").status == 200
